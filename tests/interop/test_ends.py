"""How a run of ssh ends, and what it says: ours beside OpenSSH's, case by case, at sshd 9.2."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.interop.glass import environment
from tests.interop.peers import Keys, Server
from tests.needs import absent

PATIENCE = 20.0
HOST = "glass.example"


class Case(NamedTuple):
    """A command line, its exit status, and what both programs say of it among their other words.

    TAKEN is a port of 127.0.0.1 that somebody listens to, CLOSED one that nobody does, PORT the server's.
    """

    name: str
    line: str
    status: int
    words: str


CASES: Final = (
    Case("success", f"-T {HOST} true", 0, ""),
    Case("a status", f"-T {HOST} exit 7", 7, ""),
    Case("the highest status", f"-T {HOST} exit 255", 255, ""),
    Case("a signal", f"-T {HOST} kill -9 $$", 255, ""),
    Case("a core", f"-T {HOST} kill -SEGV $$", 255, ""),
    Case("no such command", f"-T {HOST} no-such-command-anywhere", 127, "not found"),
    Case("no such subsystem", f"-s {HOST} no-such-subsystem", 255, "subsystem request failed on channel 0"),
    Case("no subsystem's name", f"-s {HOST}", 255, "subsystem"),
    Case(
        "no terminal",
        f"-t {HOST} true",
        0, "Pseudo-terminal will not be allocated because stdin is not a terminal.",
    ),
    Case("an error of the program", f"-T {HOST} echo err >&2; exit 3", 3, "err"),
    Case(
        "nothing listens",
        "-p CLOSED 127.0.0.1 true",
        255, "connect to host 127.0.0.1 port CLOSED: Connection refused",
    ),
    Case(
        "no such host",
        "no-such-host.invalid true",
        255, "Could not resolve hostname no-such-host.invalid: ",
    ),
    Case("no host", "", 255, "usage: "),
    Case("a host that is a flag", "-- -oProxyCommand=x", 255, ""),
    Case("an unknown flag", f"-z {HOST}", 255, "option"),
    Case("a flag without its value", "-p", 255, "argument"),
    Case("a bad port", f"-p 0 {HOST} true", 255, "0"),
    Case("a port of letters", f"-p x {HOST} true", 255, "x"),
    Case("an unknown option", f"-o NoSuchOption=yes {HOST} true", 255, "Bad configuration option"),
    Case("an option without a value", f"-o Port {HOST} true", 255, "no argument after keyword"),
    Case("a bad value", f"-o Compression=perhaps {HOST} true", 255, "\"perhaps\""),
    Case("a cipher that is none", f"-c no-such-cipher {HOST} true", 255, "no-such-cipher"),
    Case("a MAC that is none", f"-m no-such-mac {HOST} true", 255, "no-such-mac"),
    Case("a forwarding that is none", f"-L nonsense {HOST} true", 255, "nonsense"),
    Case("a remote forwarding that is none", f"-R 1:2:3:4:5:6 {HOST} true", 255, "1:2:3:4:5:6"),
    Case("a dynamic forwarding that is none", f"-D nonsense {HOST} true", 255, "nonsense"),
    Case(
        "a place that is none",
        f"-W nonsense {HOST}",
        255, "Bad stdio forwarding specification 'nonsense'",
    ),
    Case(
        "a place that is closed",
        f"-W 127.0.0.1:CLOSED {HOST}",
        255, "channel 0: open failed: connect failed: Connection refused",
    ),
    Case(
        "an address that is taken",
        f"-T -L 127.0.0.1:TAKEN:127.0.0.1:1 {HOST} true",
        0, "Could not request local forwarding",
    ),
    Case(
        "one that is needed",
        f"-T -o ExitOnForwardFailure=yes -L 127.0.0.1:TAKEN:h:1 {HOST} true",
        255, "Address already in use",
    ),
    Case(
        "one of two addresses",
        f"-T -o ExitOnForwardFailure=yes -L TAKEN:h:1 {HOST} true",
        0, "bind [127.0.0.1]:TAKEN: Address already in use",
    ),
    Case(
        "a port that is taken there",
        f"-T -R 127.0.0.1:TAKEN:h:1 {HOST} true",
        0, "remote port forwarding failed for listen port TAKEN",
    ),
    Case(
        "one that is needed there",
        f"-T -o ExitOnForwardFailure=yes -R 127.0.0.1:TAKEN:h:1 {HOST} true",
        255, "remote port forwarding failed for listen port TAKEN",
    ),
    Case(
        "no key",
        f"-T -F none -o IdentityFile=/nonexistent/key -o BatchMode=yes"
        f" -o UserKnownHostsFile=KNOWN -o HostKeyAlias={HOST} -p PORT 127.0.0.1 true",
        255, "Permission denied (publickey,",
    ),
    Case(
        "an unknown host",
        f"-T -o UserKnownHostsFile=/dev/null {HOST} true",
        255, "Host key verification failed.",
    ),
    Case(
        "an identity that is not there",
        f"-T -i /nonexistent/key {HOST} true",
        0, "Identity file /nonexistent/key not accessible: No such file or directory.",
    ),
    Case(
        "a configuration that is not there",
        f"-F /nonexistent/config {HOST} true",
        255, "Can't open user config file /nonexistent/config: No such file or directory",
    ),
    Case("a query", "-Q protocol-version", 0, ""),
    Case("a query for nothing", "-Q nonsense", 255, "Unsupported query \"nonsense\""),
    Case("an unknown command of -O", f"-O nonsense {HOST}", 255, "Invalid multiplex command"),
    Case(
        "no master",
        f"-S /nonexistent/socket -O check {HOST}",
        255, "Control socket connect(/nonexistent/socket): No such file or directory",
    ),
    Case("-O without a socket", f"-O check {HOST}", 255, "No ControlPath specified for \"-O\" command"),
    Case("a proxy that fails", f"-o ProxyCommand=false {HOST} true", 255, "Connection closed by "),
    Case("a proxy that is not there", f"-o ProxyCommand=/nonexistent/proxy {HOST} true", 255, "not found"),
    Case(
        "two commands",
        f"-o RemoteCommand=true {HOST} true",
        255, "Cannot execute command-line and remote command.",
    ),
    Case(
        "the background without a command",
        f"-f {HOST}",
        255, "Cannot fork into background without a command to execute.",
    ),
    Case("SSH 1", f"-1 {HOST} true", 255, "SSH protocol v.1 is no longer supported"),
    Case("an escape character that is none", f"-e xyz {HOST} true", 255, "xyz"),
    Case(
        "an address that is not ours",
        f"-T -b 192.0.2.1 {HOST} true",
        255, "Cannot assign requested address",
    ),
    Case(
        "an interface that is not there",
        f"-T -B nosuch0 {HOST} true",
        255, "connect to host 127.0.0.1 port PORT: ",
    ),
    Case("quiet", "-q -p CLOSED 127.0.0.1 true", 255, ""),
)  # fmt: skip


class Place:
    """A configuration that knows HOST, and the ports."""

    def __init__(self, home: Path, server: Server, keys: Keys, taken: int, closed: int) -> None:
        target = server.target
        known, self.config = home / "known", home / "config"
        known.write_text("".join(f"{HOST} {key}\n" for key in target.host_keys))
        self.config.write_text(
            f"Host {HOST}\n HostName 127.0.0.1\n Port {target.port}\n User {target.user}\n"
            f" IdentityFile {keys.user().copy_to(home)}\n IdentitiesOnly yes\n UserKnownHostsFile {known}\n"
            f" GlobalKnownHostsFile none\n HostKeyAlias {HOST}\n StrictHostKeyChecking yes\n"
        )
        self._home = home
        self._names = {
            "TAKEN": str(taken),
            "CLOSED": str(closed),
            "PORT": str(target.port),
            "KNOWN": str(known),
        }

    def fill(self, text: str) -> str:
        for name, value in self._names.items():
            text = text.replace(name, value)
        return text

    def run(self, program: list[str], text: str) -> subprocess.CompletedProcess[str]:
        words = [self.fill(word) for word in text.split()]
        if "-F" not in words and words != ["-p"] and words:
            words = ["-F", str(self.config), *words]
        return subprocess.run(
            [*program, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE,
            env=environment(HOME=str(self._home)), start_new_session=True, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, server: Callable[[str], Server], keys: Keys
) -> Iterator[Place]:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and not listened to
        home = tmp_path_factory.mktemp("ends")
        yield Place(home, server("openssh-9.2"), keys, taken.getsockname()[1], closed.getsockname()[1])


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_it_ends_as_with_openssh(case: Case, place: Place) -> None:
    theirs = shutil.which("ssh") or absent("ssh is not installed")
    if case.name == "one of two addresses" and not _has_ipv6():
        pytest.skip("no IPv6 here")  # a property of the machine
    for program in ([theirs], [sys.executable, "-m", "glasshell", "ssh"]):
        done = place.run(program, case.line)
        assert (done.returncode, done.stdout if case.status == 0 and "-Q" not in case.line else "") == (
            case.status, "",
        ), (program, done.stderr)  # fmt: skip
        assert place.fill(case.words) in done.stdout + done.stderr, program
        assert "Traceback" not in done.stderr
        assert "opens no session" not in done.stderr  # none of these is refused one


def _has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as sock, suppress(OSError):
        sock.bind(("::1", 0))
        return True
    return False
