"""What strace says of stock OpenSSH is what was on the wire: both ends, both versions, beside tcpdump."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from glasshell.capture.source import open_source
from glasshell.capture.strace import FLAGS
from glasshell.capture.streams import SYN, Data, Ended, Gap, Opened
from tests.capture.kit import heard
from tests.interop.conftest import Start
from tests.interop.peers import Client, Keys, OpenSSHServer, require_peer
from tests.needs import absent

SAYS = "echo hello; head -c 100000 /dev/zero; sleep 0.05"


@pytest.fixture(scope="module")
def tracing(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A new file for strace, where it may trace."""
    if shutil.which("strace") is None:
        absent("strace is not installed (make peers)")
    folder = tmp_path_factory.mktemp("strace")
    tried = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False)
    if tried.returncode:
        absent(f"strace may not trace: {tried.stderr.decode()}")
    return lambda name: folder / name


@dataclass
class TracedServer(OpenSSHServer):
    """sshd and all its children under strace."""

    trace: Path = field(default=Path(), init=False)

    def __init__(self, version: str, keys: Keys, trace: Path) -> None:
        super().__init__(version, keys)
        self.trace = trace

    def _line(self, port: int) -> list[str]:
        # -D: strace is the grandchild, so that whoever ends this process ends sshd.
        return ["strace", "-D", *FLAGS, "-o", str(self.trace), *super()._line(port)]


@dataclass
class Told:
    """One SSH connection as a source tells it."""

    ends: tuple[str, int, str, int]
    first: Opened
    sent: list[bytes | int]
    received: list[bytes | int]
    ended: dict[bool, str]
    calls: set[str]


def told(path: Path, port: int) -> list[Told]:
    """The connections to `port` whose client spoke."""
    with open_source(path) as source:
        events = list(source)
    found = []
    for event in events:
        if not isinstance(event, Opened) or event.frame.destination_port != port:
            continue
        number, f = event.stream, event.frame
        mine = [each for each in events if each.stream == number]  # type: ignore[union-attr]
        sent = heard(mine, stream=number)  # type: ignore[arg-type]
        if sent:
            found.append(Told(
                (f.source, f.source_port, f.destination, f.destination_port), event, sent,
                heard(mine, forward=False, stream=number),  # type: ignore[arg-type]
                {each.forward: each.how for each in mine if isinstance(each, Ended)},
                {each.frame.call.name for each in mine if isinstance(each, Data) and each.frame.call},
            ))  # fmt: skip
    return found


@contextmanager
def sniffing(path: Path, port: int) -> Iterator[None]:
    """tcpdump on loopback, until both FINs of the connection are in the file."""
    line = require_peer("tcpdump").command(
        "tcpdump", "-i", "lo", "-U", "--immediate-mode", "-B", "65536", "-w", str(path), f"tcp port {port}"
    )
    dump = subprocess.Popen(line, stderr=subprocess.PIPE)
    assert dump.stderr is not None
    dump.stderr.readline()  # it listens
    try:
        yield
        deadline = time.monotonic() + 10
        while not any([*each.ended.values()] == ["fin", "fin"] for each in told(path, port)):
            assert time.monotonic() < deadline, "tcpdump does not tell of the end"
            time.sleep(0.01)
    finally:
        dump.terminate()
        dump.wait(10)
        dump.stderr.close()


@pytest.mark.parametrize(("ours", "theirs"), [("9.2", "10.6"), ("10.6", "9.2")])
def test_both_ends_and_the_wire(
    ours: str, theirs: str, tracing: Callable[[str], Path], keys: Keys, start: Start,
    client: Callable[[str], Client],
) -> None:  # fmt: skip
    server = start(TracedServer(theirs, keys, tracing(f"server-{theirs}")))
    wire, trace, port = tracing(f"{ours}.pcap"), tracing(f"client-{ours}"), server.target.port
    with sniffing(wire, port):
        command = [*client(f"openssh-{ours}").argv(server.target, identity=keys.user()), SAYS]
        done = subprocess.run(
            ["strace", *FLAGS, "-o", str(trace), *command], capture_output=True, stdin=subprocess.DEVNULL,
            timeout=60, check=False,
        )  # fmt: skip
    assert (done.returncode, len(done.stdout)) == (0, 100_006), done.stderr
    (truth,) = told(wire, port)
    (seen,) = told(trace, port)
    handed = [each for each in told(server.trace, port) if each.ends == truth.ends]
    assert seen.ends == truth.ends
    assert (seen.sent, seen.received) == (truth.sent, truth.received)
    assert [(each.sent, each.received) for each in handed] == [(truth.sent, truth.received)]
    call = seen.first.frame.call
    assert call is not None
    assert (call.name, seen.first.frame.flags) == ("connect", SYN)
    assert abs(seen.first.frame.time - truth.first.frame.time) < 0.1
    assert seen.calls <= {"read", "write", "writev", "sendmsg", "recvmsg"}


def test_a_short_s_is_named_and_the_lengths_hold(
    tracing: Callable[[str], Path], keys: Keys, server: Callable[[str], OpenSSHServer],
    client: Callable[[str], Client],
) -> None:  # fmt: skip
    target = server("openssh-9.2").target
    trace = tracing("short")
    command = [*client("openssh-9.2").argv(target, identity=keys.user()), SAYS]
    subprocess.run(
        ["strace", *FLAGS, "-s", "64", "-o", str(trace), *command], capture_output=True,
        stdin=subprocess.DEVNULL, timeout=60, check=True,
    )  # fmt: skip
    with open_source(trace) as source:
        events = [event for event in source if isinstance(event, Data | Gap)]
        problems = dict(source.problems)
    lost = sum(event.length for event in events if isinstance(event, Gap))
    received = sum(len(event.data) for event in events if isinstance(event, Data) and not event.forward)
    assert lost + received > 100_000
    assert lost > 90_000
    assert all(what.startswith("strace shortened what it shows of") for what in problems)
