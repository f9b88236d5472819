"""The lines of strace, in every form it has for them (strace(1)), as the streams of SSH connections."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st

from glasshell.capture.strace import StraceSource
from glasshell.capture.streams import SYN, Data, Ended, Event, Gap, Opened
from glasshell.capture.syscalls import Syscall, Syscalls, unquote

from .kit import endings, heard

CLIENT = b"SSH-2.0-one\r\n"
SERVER = b"SSH-2.0-two\r\n"


def quoted(data: bytes) -> str:
    """As -xx writes it."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in data) + '"'


def story(*lines: str) -> list[Event]:
    return list(StraceSource(io.BytesIO("\n".join(lines).encode() + b"\n")))


CONNECT = (
    "7 1.000000 socket(AF_INET, SOCK_STREAM, IPPROTO_TCP) = 3",
    '7 1.000001 connect(3, {sa_family=AF_INET, sin_port=htons(22), sin_addr=inet_addr("192.0.2.2")}, 16) = 0',
    '7 1.000002 getsockname(3, {sa_family=AF_INET, sin_port=htons(50000), sin_addr=inet_addr("192.0.2.1")},'
    " [128 => 16]) = 0",
)


def test_a_client() -> None:
    found = story(
        *CONNECT,
        f"7 1.100000 write(3, {quoted(CLIENT)}, 13) = 13",
        f"7 1.200000 read(3, {quoted(SERVER + b'rest')}, 8192) = 17",
        '7 1.300000 read(3, "", 8192) = 0',
        "7 1.400000 close(3) = 0",
    )
    assert heard(found) == [CLIENT]
    assert heard(found, forward=False) == [SERVER + b"rest"]
    assert endings(found) == [(0, False, "fin"), (0, True, "fin")]
    first = found[0]
    assert isinstance(first, Opened)
    frame = first.frame
    assert (frame.source, frame.source_port, frame.destination, frame.destination_port) == (
        "192.0.2.1", 50000, "192.0.2.2", 22,
    )  # fmt: skip
    assert (frame.number, frame.flags, frame.call and frame.call.name) == (2, SYN, "connect")
    data = [event.frame for event in found if isinstance(event, Data)]
    assert [(f.number, f.time, f.source_port, f.relative_seq) for f in data] == [
        (4, 1.1, 50000, 1),
        (5, 1.2, 22, 1),
    ]
    assert data[0].call is not None
    assert (data[0].call.pid, data[0].call.fd, data[0].call.size) == (7, 3, 13)


def test_a_server_hands_its_socket_on() -> None:
    """Listener, session and its child of the network, as OpenSSH 9.2's; nothing says who forked whom."""
    found = story(
        '5 1.0 accept(3, {sa_family=AF_INET, sin_port=htons(50000), sin_addr=inet_addr("192.0.2.1")},'
        " [128 => 16]) = 4",
        "5 1.1 close(4) = 0",
        "6 1.2 close(3) = 0",
        "6 1.3 dup2(4, 0) = 0",
        "6 1.4 close(4) = 0",
        "6 1.5 dup(0) = 5",
        f"6 1.6 write(5, {quoted(SERVER)}, 13) = 13",
        f"7 1.7 read(5, {quoted(CLIENT)}, 8192) = 13",
        "7 1.8 +++ exited with 0 +++",
        f"6 1.9 write(5, {quoted(b'more')}, 4) = 4",
        "6 2.0 close(0) = 0",
        "6 2.1 close(5) = 0",
        "5 3.0 accept(3, NULL, NULL) = -1 EINTR (Interrupted system call)",
    )
    assert heard(found) == [CLIENT]
    assert heard(found, forward=False) == [SERVER, b"more"] or heard(found, forward=False) == [
        SERVER + b"more"
    ]
    last = found[-1]
    assert isinstance(last, Ended)
    assert last.frame.number == 12


def test_a_child_is_its_parents_child() -> None:
    """The last who was active is not always the parent; SIGCHLD names it."""
    end = '{{sa_family=AF_INET, sin_port=htons({}), sin_addr=inet_addr("192.0.2.1")}}'
    accept = f"{{}} 1.0 accept(3, {end}, [16]) = 4"
    found = story(
        accept.format(10, 1111),
        accept.format(20, 2222),
        f"11 1.1 write(4, {quoted(SERVER)}, 13) = 13",
        f"21 1.1 write(4, {quoted(SERVER)}, 13) = 13",
        "10 2.0 --- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=11, si_uid=0} ---",
        "20 2.0 --- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=21, si_uid=0} ---",
    )
    ports = {event.frame.source_port: event.stream for event in found if isinstance(event, Opened)}
    assert ports == {1111: 0, 2222: 1}


def test_calls_that_were_interrupted() -> None:
    found = story(
        *CONNECT,
        f"7 1.1 write(3, {quoted(CLIENT)}, 13 <unfinished ...>",
        '8 1.15 read(9, "x", 1) = 1',
        "7 1.2 <... write resumed>) = 13",
        "7 1.3 read(3,  <unfinished ...>",
        '8 1.35 read(9, "x", 1) = 1',
        f"7 1.5 <... read resumed>{quoted(SERVER)}, 8192) = 13",
    )
    assert (heard(found), heard(found, forward=False)) == ([CLIENT], [SERVER])
    sent, received = [event.frame for event in found if isinstance(event, Data)]
    assert (sent.number, sent.time) == (4, 1.1)
    assert (received.number, received.time) == (9, 1.5), "bytes are there when the call returns"
    assert received.call is not None
    assert received.call.duration is not None
    assert abs(received.call.duration - 0.2) < 1e-6


def test_vectors_and_partial_writes() -> None:
    found = story(
        *CONNECT,
        f"7 1.1 writev(3, [{{iov_base={quoted(CLIENT)}, iov_len=13}}, {{iov_base={quoted(b'abcdef')},"
        " iov_len=6}], 2) = 16",
        f"7 1.2 sendmsg(3, {{msg_name=NULL, msg_namelen=0, msg_iov=[{{iov_base={quoted(b'de')}, iov_len=2}}],"
        " msg_iovlen=1, msg_controllen=0, msg_flags=0}, 0) = 2",
        f"7 1.3 sendto(3, {quoted(b'fgh')}, 3, 0, NULL, 0) = 1",
        f"7 1.4 recvfrom(3, {quoted(SERVER)}, 8192, MSG_PEEK, NULL, NULL) = 13",
        f"7 1.5 recvfrom(3, {quoted(SERVER)}, 8192, 0, NULL, NULL) = 13",
    )
    assert (heard(found), heard(found, forward=False)) == ([CLIENT + b"abcdef"], [SERVER])


def test_what_strace_shortened_is_a_gap_of_its_length() -> None:
    source = StraceSource(io.BytesIO("\n".join([
        *CONNECT,
        f"7 1.1 write(3, {quoted(CLIENT)}, 13) = 13",
        f"7 1.2 write(3, {quoted(b'abcd')}..., 100) = 100",
        f"7 1.3 write(3, {quoted(b'efgh')}, 4) = 4",
        f"7 1.4 writev(3, [{{iov_base={quoted(b'i')}..., iov_len=5}},"
        f" {{iov_base={quoted(b'jk')}, iov_len=2}}], 2) = 7",
        "",
    ]).encode()))  # fmt: skip
    found = list(source)
    assert heard(found) == [CLIENT + b"abcd", 96, b"efghi", 4, b"jk"]
    assert [event.length for event in found if isinstance(event, Gap)] == [96, 4]
    assert sorted(source.problems) == [
        "strace shortened what it shows of write (its -s)",
        "strace shortened what it shows of writev (its -s)",
    ]


def test_what_is_no_connection() -> None:
    """Files, the terminal, pipes and other services may hold such bytes too."""
    assert not story(
        f"7 1.0 write(1, {quoted(SERVER)}, 13) = 13",
        f"7 1.1 read(0, {quoted(b'hello')}, 13) = 5",
        '7 1.2 openat(AT_FDCWD, "/etc/motd", O_RDONLY) = 4',
        f"7 1.3 read(4, {quoted(SERVER)}, 13) = 13",
        f"7 1.4 write(4, {quoted(SERVER)}, 13) = 13",
        "7 1.5 pipe2([5, 6], O_CLOEXEC) = 0",
        f"7 1.6 write(6, {quoted(CLIENT)}, 13) = 13",
        f"7 1.7 read(5, {quoted(b'anything')}, 13) = 8",
        *CONNECT,
        f"7 1.8 write(3, {quoted(b'GET / HTTP/1.1')}, 14) = 14",
        f"7 1.9 read(3, {quoted(b'HTTP/1.1 200 OK')}, 999) = 15",
    )


def test_through_the_pipes_of_a_proxy_command() -> None:
    """As OpenSSH 9.2 makes them; the other process sees the same bytes, and is not asked."""
    found = story(
        "7 1.0 pipe2([3, 4], 0) = 0",
        "7 1.0 pipe2([5, 6], 0) = 0",
        "8 1.1 dup2(3, 0) = 0",
        "8 1.1 dup2(6, 1) = 1",
        f"7 1.2 write(4, {quoted(CLIENT)}, 13) = 13",
        f"8 1.3 read(0, {quoted(CLIENT)}, 8192) = 13",
        f"8 1.4 write(1, {quoted(SERVER)}, 13) = 13",
        '7 1.5 read(5<pipe:[7]>, "S", 1) = 1',
        f"7 1.6 read(5, {quoted(SERVER[1:])}, 8192) = 12",
        '7 1.7 read(5, "", 8192) = 0',
    )
    assert (heard(found), heard(found, forward=False)) == ([CLIENT], [SERVER])
    assert {event.stream for event in found} == {0}
    assert endings(found)[0] == (0, False, "fin")


def test_lines_before_the_identification() -> None:
    found = story(
        *CONNECT,
        f"7 1.1 read(3, {quoted(b'welcome')}, 13) = 7",
        f"7 1.2 read(3, {quoted(b'!' + chr(10).encode())}, 13) = 2",
        f"7 1.3 read(3, {quoted(SERVER)}, 13) = 13",
    )
    assert heard(found, forward=False) == [b"welcome!\n" + SERVER]


def test_descriptors_that_strace_names() -> None:
    """-yy: whose birth and inheritance nobody saw."""
    name = "<TCP:[192.0.2.1:50000->192.0.2.2:22]>"
    found = story(
        f"7 1.1 write(3{name}, {quoted(CLIENT)}, 13) = 13",
        f"8 1.2 read(9{name}, {quoted(SERVER)}, 8192) = 13",
        f"8 1.3 write(1<\\x2f\\x74\\x6d\\x70>, {quoted(SERVER)}, 13) = 13",
        f"9 1.3 write(4<TCPv6:[[2001:db8::1]:1->[2001:db8::2]:22]>, {quoted(CLIENT)}, 13) = 13",
    )
    assert (heard(found), heard(found, forward=False)) == ([CLIENT], [SERVER])
    opened = [event.frame for event in found if isinstance(event, Opened)]
    assert [(f.source, f.destination, f.destination_port) for f in opened] == [
        ("192.0.2.1", "192.0.2.2", 22),
        ("2001:db8::1", "2001:db8::2", 22),
    ]


def test_times_and_prefixes() -> None:
    """-tt, -T, no -f, and what strace writes to a terminal."""

    def only(line: str) -> Syscall:
        (call,) = Syscalls(io.BytesIO(line.encode()))
        assert isinstance(call, Syscall)
        return call

    assert only("18:33:49.841071 close(3) = 0 <0.000012>").time == 18 * 3600 + 33 * 60 + 49.841071
    assert abs((only("1.5 close(3) = 0 <0.000012>").duration or 0) - 0.000012) < 1e-9
    assert only("[pid   123] close(3) = -1 EBADF (Bad file descriptor)").pid == 123
    assert only("[pid   123] close(3) = -1 EBADF (Bad file descriptor)").error == "EBADF"
    assert only("close(3)        = 0").pid == 0
    assert only("umask(0)        = 022").result == 0o22
    assert only("mmap(NULL, 1) = 0x7fc9664a8000").result == 0x7FC9664A8000
    assert (
        only("7 ppoll([], 1, NULL, [], 8) = ? ERESTARTNOHAND (To be restarted if no handler)").result is None
    )
    assert only('7 read(3, "a) = 5 \\"b", 8) = 9').result == 9


@given(st.binary(max_size=300))
def test_strings(data: bytes) -> None:
    assert unquote(quoted(data)[1:-1].encode()) == data


def test_strings_without_xx() -> None:
    """The escapes of C, octal as short as they may be."""
    assert unquote(rb"a\n\t\r\\\"\0\1\177\x80z") == b'a\n\t\r\\"\0\1\x7f\x80z'


WORDS = st.sampled_from([
    "7", " ", "1.5", "read(", "write(", "3", ", ", '"', "\\x53", "SSH-2.0-a", ") = ", "13", "\n", "...",
    "<unfinished ...>", "<... read resumed>", "<TCP:[1.2.3.4:5->6.7.8.9:10]>", "accept(", "dup2(", "close(",
    "+++ exited with 0 +++", "sa_family=AF_INET, sin_port=htons(22), sin_addr=inet_addr(", "[pid 9]",
    "iov_base=", "iov_len=", "clone(", "999999999999999999999", "-1", " EBADF", "shutdown(",
    "socket(AF_INET, SOCK_STREAM", "{", "socketpair(", "[3, 4]", "getpeername(", "fcntl(", "F_DUPFD",
    "writev(", "0x", "?",
])  # fmt: skip


@given(
    st.one_of(
        st.binary(max_size=300), st.lists(WORDS, max_size=60).map(lambda words: "".join(words).encode())
    )
)
def test_nothing_a_file_holds_raises(text: bytes) -> None:
    for event in StraceSource(io.BytesIO(text)):
        if isinstance(event, Gap):
            assert event.length > 0


def test_a_socket_that_was_there_before_is_told_from_the_middle() -> None:
    """As strace -p finds it: nothing of it says SSH, and what it is, is for others to judge."""
    name = "<TCP:[192.0.2.1:50000->192.0.2.2:22]>"
    found = story(
        f"7 1.1 write(3{name}, {quoted(b'sealed')}, 6) = 6",
        f"7 1.2 read(3{name}, {quoted(b'too')}, 8192) = 3",
        f"7 1.3 read(4<socket:[77]>, {quoted(b'anything')}, 8192) = 8",
    )
    assert (heard(found), heard(found, forward=False)) == ([b"sealed"], [b"too"])
    assert {event.stream for event in found} == {0}
    first = found[0]
    assert isinstance(first, Opened)
    assert not first.frame.flags & SYN
