"""The words of docs/performance.md: around all tables, before each line's, and why a line is not reached."""

from __future__ import annotations

from typing import Final

FRAME: Final = (
    """# Performance

What glasshell costs beside what its peers cost, measured together. `make bench` writes this page: it runs
every line with the peers that it finds (`make peers` installs them) and draws the plot. `make bench
ARGS=trips` measures one line and prints it (`make bench ARGS=--list` names them all).

Absolute figures are those of one machine on one day. The ratios are what this page is about: everybody is
measured in turn, round after round, in one run, so that what slows the machine for a while slows all of
them; a ratio is the median of the ratios of the rounds.

## The machine""",
    """## What is to be reached

![each line as bars, glasshell beside its peers](performance.svg)""",
    """Where a line is missed, its section says what bounds it.""",
)

LINES: Final = {
    "trips": (
        "Round trips",
        """On a long path a login costs what it waits for. The line between client and server is a TUN
device, which carries every TCP segment back and forth half a round trip late, the handshake's included; the
kernel's own TCP is at both ends, so that what Nagle's algorithm and delayed acknowledgements cost shows
too. Round trips are the time above the same program's on the same line without delay, divided by the round
trip; that is no integer, because what two sides compute at once overlaps. The waterfall page (`--html`) of
a connection counts them as an integer and names them.

A later contact is cheaper because the client remembers what this server put first and which key it took:
its guess at the key exchange leaves together with its first packet, the login with the next.
`Speculation=no` is the same connection in turns.""",
    ),
    "gcm": (
        "Bulk data: AES-GCM",
        """One channel, one direction, over the loopback. Both ends and the cipher run on the same
processors, so a pair is as fast as its slower end, and two processes with two processors leave none for the
kernel.""",
    ),
    "chacha": ("Bulk data: chacha20-poly1305", ""),
    "distance": (
        "A long path",
        """What a window bounds: a download over 100 ms, nothing configured. The sender may have as many
bytes under way as the receiver's window, so a window of 2 MiB is 20 MB/s and no more. The line is a TUN
device that hands on segments of up to 64 KiB whole, as network cards do, which is why a program in Python
can carry it.""",
    ),
    "logins": (
        "Logins",
        """What a server pays for a login and a command: key exchange, host key signature, the user's
signature, a channel, an exec request and its end. The load comes from the other processor.""",
    ),
    "idle": (
        "Idle connections",
        """Authenticated, no channel open, nothing to do: a server that waits for its users, or a client
that watches a fleet.""",
    ),
    "start": (
        "Start-up",
        """`ssh host true` as one types it: the process starts, reads its files, connects, logs in, runs a
command, ends. At 0 ms it is the start of the programs on both sides that counts; from there on the round
trips.""",
    ),
    "price": (
        "The price of being watched",
        """Each view on a bulk download. An unwatched connection pays one comparison for each packet, which
the counts below show and no clock does.""",
    ),
    "counts": (
        "Instructions",
        """Where noise would hide a change: instructions of the Python interpreter, and calls into C, to
move 32 KiB. `make bench ARGS=counts` before and after a change tells what it cost, to the instruction.""",
    ),
    "memory": ("The data path in memory", ""),
    "inspect": (
        "Captures",
        """`glasshell inspect` beside tshark on one capture: seconds of processor time, so that a busy
machine changes nothing.""",
    ),
}

WHY: Final[dict[str, str]] = {
    "trips": """What is missed, a first contact with sshd 9.2, is what that server itself adds. Until a
session runs it leaves Nagle's algorithm on: its KEXINIT, written behind its identification, stays in its
kernel until the client's TCP has acknowledged the identification, one round trip later, whatever the client
does. Its EXT_INFO waits in the same way. sshd 10.6 sets TCP_NODELAY from the start.

A first contact is 5 round trips as counted: TCP, identification and KEXINIT, key exchange, the question
what the server takes together with the service request, then key, channel and command at once. Fractions
below a count are the time in which the program is still being loaded while TCP connects.""",
    "gcm": """`glasshell ssh` and `ssh` at sshd are as fast as that sshd's end: theirs is the slower one,
and with two processors for client, server and the kernel the rounds differ by more than the programs do.""",
    "logins": """Of a login's millisecond a quarter is cryptography (X25519, ML-KEM, a host key signature
and its own check, the check of the user's: 0.23 ms) and a sixth the kernel's sockets, as with asyncssh. The
rest is Python without a peak: some twenty messages, each 20 to 30 µs of decoding, the rules, the event and
the answer; no function has more than 4 %. Half of asyncssh's time would leave it 10 µs a message. sshd's
logins include two new processes and the user's shell, 14 ms; fifty of ours in the time of one of those
would be 0.28 ms each, which is what the cryptography and the kernel take alone. (An account whose shell
reads start-up files makes one of sshd's logins many times dearer.)""",
    "start": """Missed is the one pair that is new at both ends, on the loopback: `ssh` 10.6 at sshd 10.6
ends before CPython has loaded its asyncio (an interpreter with asyncio is about 30 ms of processor time,
the cryptography library 10 ms, our own modules 30 ms, half of which run while the server answers). From the
first milliseconds of distance on it is the other way round.""",
}
