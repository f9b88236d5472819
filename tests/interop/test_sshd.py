"""`glasshell sshd` as other people's clients see it: real programs, terminals, files and forwardings."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.interop.glass import GlassServer
from tests.interop.peers import Client, Keys, OpenSSHClient, Server

EVERY_CLIENT = ("openssh-9.2", "openssh-10.6", "dbclient", "dbclient-newest", "plink")
OPENSSH = ("openssh-9.2", "openssh-10.6")
TEN_MB = 10_000_000
PATIENCE = 20.0

GetClient = Callable[[str], Client]


@pytest.fixture(scope="module")
def glass(keys: Keys) -> Iterator[Server]:
    config = "RekeyLimit 1M\nAcceptEnv LANG GLASS_*\nSetEnv FROM_CONFIG=yes\nLogLevel DEBUG1"
    with GlassServer(keys, config) as running:
        yield running


def having(line: list[str], *variables: str) -> list[str]:
    """The client's argument list, with more variables in the environment it starts from."""
    at = line.index("-i") + 1  # env's
    return [*line[:at], *variables, *line[at:]]


# -- commands


@pytest.mark.parametrize("name", EVERY_CLIENT)
def test_a_command(name: str, glass: Server, client: GetClient, keys: Keys) -> None:
    done = client(name).run(
        glass.target, "echo out; echo err >&2; cat; exit 7", identity=keys.user(), stdin=b"in\n"
    )
    assert (done.stdout, done.returncode) == (b"out\nin\n", 7)
    assert b"err\n" in done.stderr


@pytest.mark.parametrize("name", EVERY_CLIENT)
def test_ten_megabytes_each_way_while_keys_change(
    name: str, glass: Server, client: GetClient, keys: Keys
) -> None:
    data = os.urandom(TEN_MB)
    done = client(name).run(
        glass.target, "tee /dev/stderr | cat", identity=keys.user(), stdin=data, timeout=90
    )
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()
    assert done.stderr.endswith(data)
    assert done.returncode == 0


def test_mlkem_with_the_newest_openssh(glass: Server, client: GetClient, keys: Keys) -> None:
    done = client("openssh-10.6").run(glass.target, "true", "-v", identity=keys.user())
    assert b"debug1: kex: algorithm: mlkem768x25519-sha256" in done.stderr


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_every_kind_of_user_key(kind: str, glass: Server, client: GetClient, keys: Keys) -> None:
    assert client("openssh-9.2").run(glass.target, "exit 5", identity=keys.user(kind)).returncode == 5


@pytest.mark.parametrize("name", EVERY_CLIENT)
def test_a_strangers_key_is_refused(name: str, glass: Server, client: GetClient, keys: Keys) -> None:
    done = client(name).run(glass.target, "echo in", identity=keys.stranger())
    assert done.stdout == b""
    assert done.returncode != 0


def test_the_environment(glass: Server, client: GetClient, keys: Keys) -> None:
    line = client("openssh-9.2").argv(glass.target, "-o", "SendEnv=*", identity=keys.user())
    line = having(line, "GLASS_A=1", "LD_PRELOAD=", "OTHER=2", "BASH_ENV=/x")
    out = subprocess.run([*line, "env"], capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
    found = dict(entry.split("=", 1) for entry in out.splitlines() if "=" in entry)
    assert found["GLASS_A"] == "1"
    assert found["FROM_CONFIG"] == "yes"
    assert not {"OTHER", "BASH_ENV", "LD_PRELOAD"} & set(found)
    address, port, here, ours = found["SSH_CONNECTION"].split()
    assert (address, here, int(ours)) == ("127.0.0.1", "127.0.0.1", glass.target.port)
    assert found["SSH_CLIENT"] == f"{address} {port} {ours}"
    assert found["USER"] == found["LOGNAME"] == glass.target.user
    assert "SSH_TTY" not in found


def test_a_shell_without_a_terminal_is_a_login_shell(glass: Server, client: GetClient, keys: Keys) -> None:
    done = client("openssh-9.2").run(
        glass.target, None, "-T", identity=keys.user(), stdin=b"echo $0; exit 6\n"
    )
    assert re.search(rb"^-\w+$", done.stdout, re.MULTILINE)
    assert done.returncode == 6


def test_output_that_nobody_else_holds_ends_the_session(glass: Server, client: GetClient, keys: Keys) -> None:
    done = client("openssh-9.2").run(glass.target, "sleep 60 >/dev/null 2>&1 & echo $!", identity=keys.user())
    pid = int(done.stdout)
    os.kill(pid, signal.SIGKILL)  # it went on, as after OpenSSH's sshd
    assert done.returncode == 0


def test_a_program_ended_by_a_signal(glass: Server, client: GetClient, keys: Keys) -> None:
    done = client("openssh-9.2").run(glass.target, "kill -TERM $$", "-v", identity=keys.user())
    assert b"rtype exit-signal" in done.stderr
    assert done.returncode == 255


def test_an_unknown_subsystem(glass: Server, client: GetClient, keys: Keys) -> None:
    done = client("openssh-9.2").run(glass.target, "nosuch", "-s", identity=keys.user())
    assert b"subsystem request failed" in done.stderr
    assert done.returncode == 255


# -- the client goes away


def gone(pid: int) -> bool:
    """Whether the process ends before patience does."""
    try:
        watch = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    with os.fdopen(watch):
        return bool(select.select([watch], [], [], PATIENCE)[0])


@pytest.mark.parametrize("options", [(), ("-tt",)], ids=["pipes", "terminal"])
def test_a_client_that_goes_hangs_its_program_up(
    options: tuple[str, ...], glass: Server, client: GetClient, keys: Keys
) -> None:
    line = client("openssh-9.2").argv(glass.target, *options, identity=keys.user())
    with subprocess.Popen(
        [*line, "echo $$; exec sleep 600"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as ssh:
        assert ssh.stdout is not None
        pid = int(ssh.stdout.readline())
        ssh.kill()
    assert gone(pid)


# -- terminals


class Screen:
    """A program on a terminal of 111 columns and 33 rows, and what it has written there."""

    def __init__(self, line: list[str]) -> None:
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execvp(line[0], line)
        self.resize(111, 33)
        self.shown = b""

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: bytes) -> None:
        os.write(self.terminal, text)

    def until(self, mark: bytes) -> bytes:
        """What is shown from here on, up to and with the pattern `mark`."""
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(mark, self.shown)):
            ready = select.select([self.terminal], [], [], max(0.0, deadline - time.monotonic()))[0]
            assert ready, f"{mark!r} did not come; shown: {self.shown!r}"
            self.shown += os.read(self.terminal, 65536)
        text, self.shown = self.shown[: found.end()], self.shown[found.end() :]
        return text

    def wait(self) -> int:
        try:
            while os.read(self.terminal, 65536):
                pass
        except OSError:
            pass
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.terminal)
        return status


@pytest.mark.parametrize("name", EVERY_CLIENT)
def test_a_shell_on_a_terminal(name: str, glass: Server, client: GetClient, keys: Keys) -> None:
    line = client(name).argv(glass.target, "-t", identity=keys.user())
    screen = Screen([*having(line, "TERM=vt100"), "env -i TERM=$TERM TTY=$SSH_TTY sh"])
    screen.until(rb"[$#] ")
    screen.type(b"stty size; tty; echo $TTY+$TERM.\n")
    shown = screen.until(rb"\+\w+\.\r\n")
    tty, again, term = re.search(rb"\r\n(/dev/\S+)\r\n(/dev/\S+)\+(\w+)\.\r\n", shown).groups()  # type: ignore[union-attr]
    assert tty == again
    assert term == (b"xterm" if name == "plink" else b"vt100")
    screen.until(rb"[$#] ")
    screen.resize(122, 44)
    size = b""
    while size != b"44 122":  # the news of it is on its way
        screen.type(b"stty size\n")
        size = screen.until(rb"\d+ \d+\r\n[$#] ").splitlines()[-2]
    # Its word, and not the echo of ours, says that it runs.
    screen.type(b"sh -c 'echo run''ning; exec sleep 600'\n")
    screen.until(rb"running\r\n")
    screen.type(b"\x03")
    screen.until(rb"[$#] ")
    screen.type(b"echo st $?\n")
    screen.until(rb"st 130\r\n")
    screen.type(b"exit 9\n")
    assert screen.wait() == 9


def test_terminal_modes_are_the_clients(glass: Server, client: GetClient, keys: Keys) -> None:
    line = client("openssh-9.2").argv(glass.target, "-t", identity=keys.user())
    screen = Screen(["sh", "-c", 'stty intr ^G erase ^H -ixon; exec "$@"', "sh", *line, "stty -a; stty size"])
    shown = screen.until(rb"33 111\r\n").decode()
    assert "intr = ^G;" in shown
    assert "erase = ^H;" in shown
    assert " -ixon " in shown
    assert screen.wait() == 0


# -- many sessions, files, forwardings


def test_many_sessions_on_one_connection(
    glass: Server, client: GetClient, keys: Keys, tmp_path: Path
) -> None:
    control = str(tmp_path / "mux")
    line = client("openssh-9.2").argv(glass.target, "-S", control, identity=keys.user())
    at = line.index("-S")
    master = [*line[:at], "-M", "-N", *line[at:]]
    with subprocess.Popen(master, stdin=subprocess.DEVNULL) as ssh:
        while not Path(control).exists():
            assert ssh.poll() is None
        started = [
            subprocess.Popen([*line, f"head -c 1000000 /dev/zero | tr '\\0' {n}"], stdout=subprocess.PIPE)
            for n in range(8)
        ]
        for n, each in enumerate(started):
            assert each.communicate(timeout=PATIENCE)[0] == str(n).encode() * 1_000_000
            assert each.returncode == 0
        subprocess.run(
            [*line[:-1], "-O", "exit", line[-1]], capture_output=True, check=True, timeout=PATIENCE
        )


@pytest.mark.parametrize("program", ["scp", "sftp"])
def test_files(program: str, glass: Server, client: GetClient, keys: Keys, tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "here").write_bytes(data)
    line = client("openssh-9.2").argv(glass.target, identity=keys.user())
    options = line[line.index("-F") : line.index("-p")]
    where = f"{glass.target.user}@{glass.target.host}"
    start = [*line[: line.index("ssh")], program, *options, "-P", str(glass.target.port)]
    if program == "scp":
        batches = [[*start, str(tmp_path / "here"), f"{where}:{tmp_path}/there"],
                   [*start, f"{where}:{tmp_path}/there", str(tmp_path / "back")]]  # fmt: skip
    else:
        (tmp_path / "batch").write_text(
            f"put {tmp_path}/here {tmp_path}/there\nget {tmp_path}/there {tmp_path}/back\n"
        )
        batches = [[*start, "-b", str(tmp_path / "batch"), where]]
    for batch in batches:
        subprocess.run(batch, check=True, capture_output=True, timeout=60)
    assert (tmp_path / "back").read_bytes() == data


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of something that sends back whatever it gets."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                taken, _ = listener.accept()
            except OSError:
                return
            with taken:
                while data := taken.recv(65536):
                    taken.sendall(data)

    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def talk_to(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
        threading.Thread(target=lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR))).start()
        out = b""
        while got := sock.recv(65536):
            out += got
        return out


def is_open(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_w(glass: Server, client: GetClient, keys: Keys, echo: int) -> None:
    done = client("openssh-9.2").run(
        glass.target, None, "-W", f"127.0.0.1:{echo}", identity=keys.user(), stdin=b"hi"
    )
    assert done.stdout == b"hi"


@pytest.mark.parametrize("name", ["openssh-9.2", "openssh-10.6"])
def test_forwarding_both_ways(name: str, glass: Server, client: GetClient, keys: Keys, echo: int) -> None:
    """-R to any port, then -L to that port: the bytes go through us four times."""
    data = os.urandom(1_000_000)
    line = client(name).argv(glass.target, "-R", f"0:127.0.0.1:{echo}", identity=keys.user())
    with subprocess.Popen([*line, "cat"], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as ssh:
        assert ssh.stderr is not None
        told = iter(ssh.stderr.readline, b"")
        port = next(int(found[1]) for text in told if (found := re.match(rb"Allocated port (\d+) ", text)))
        assert talk_to(port, data) == data
        direct = client(name).run(
            glass.target, None, "-W", f"127.0.0.1:{port}", identity=keys.user(), stdin=data, timeout=60
        )
        assert direct.stdout == data
        ssh.communicate(timeout=PATIENCE)
    deadline = time.monotonic() + PATIENCE
    while is_open(port):  # the server has yet to see that the client has gone
        assert time.monotonic() < deadline


def talk_by_path(path: Path, data: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(str(path))
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("name", OPENSSH)
def test_a_socket_of_the_file_system(
    name: str, glass: Server, client: GetClient, keys: Keys, echo: int, tmp_path: Path
) -> None:
    """-R with a path here; with the system's ssh, whose files are ours, -L to it as well."""
    there, mine = tmp_path / "there", tmp_path / "mine"
    forwards = ["-R", f"{there}:127.0.0.1:{echo}"]
    if name == "openssh-9.2":
        forwards += ["-L", f"{mine}:{there}"]
    line = client(name).argv(glass.target, *forwards, identity=keys.user())
    with subprocess.Popen([*line, "echo on; cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as ssh:
        assert ssh.stdout is not None
        assert ssh.stdout.readline() == b"on\n"
        assert there.stat().st_mode & 0o777 == 0o600
        data = os.urandom(300_000)
        for path in [there, mine][: len(forwards) // 2]:
            assert talk_by_path(path, data) == data
        ssh.communicate(timeout=PATIENCE)


@pytest.mark.parametrize(
    ("config", "allowed"),
    [
        ("AllowStreamLocalForwarding yes", True),
        ("AllowStreamLocalForwarding remote", True),
        ("AllowStreamLocalForwarding local", False),
        ("AllowStreamLocalForwarding no", False),
        ("DisableForwarding yes", False),
        ("AllowTcpForwarding no", True),
    ],
)
def test_who_may_use_sockets_of_the_file_system(
    config: str, allowed: bool, client: GetClient, keys: Keys, tmp_path: Path
) -> None:
    with GlassServer(keys, config) as server:
        flags = ["-R", f"{tmp_path / 'there'}:127.0.0.1:1", "-o", "ExitOnForwardFailure=yes"]
        done = client("openssh-9.2").run(server.target, "echo on", *flags, identity=keys.user())
    assert done.stdout == b"on\n" * allowed


# -- what authorized_keys and sshd_config forbid


def restricted(options: str) -> Callable[[Keys], str]:
    return lambda keys: f"{options} {keys.user().public}\n"


def test_a_forced_command(client: GetClient, keys: Keys) -> None:
    rule = restricted('command="echo forced:$SSH_ORIGINAL_COMMAND",restrict')
    with GlassServer(keys, authorized=rule) as server:
        ssh = client("openssh-9.2")
        assert ssh.run(server.target, "rm -rf x", identity=keys.user()).stdout == b"forced:rm -rf x\n"
        assert ssh.run(server.target, None, "-T", identity=keys.user()).stdout == b"forced:\n"
        done = ssh.run(server.target, "sftp", "-s", identity=keys.user())
        assert done.stdout == b"forced:internal-sftp\n"
        denied = ssh.run(server.target, "tty", "-tt", identity=keys.user())
        assert b"PTY allocation request failed" in denied.stderr
        direct = ssh.run(server.target, None, "-W", "127.0.0.1:1", identity=keys.user())
        assert b"administratively prohibited" in direct.stderr
        refused = ssh.run(
            server.target, "x", "-R", "0:127.0.0.1:1", "-o", "ExitOnForwardFailure=yes", identity=keys.user()
        )
        assert refused.returncode == 255
        assert refused.stdout == b""


@pytest.mark.parametrize(
    "options", ['from="192.0.2.1"', 'expiry-time="20200101"', "no-such-option", "cert-authority"]
)
def test_a_key_that_lets_nobody_in(options: str, client: GetClient, keys: Keys) -> None:
    with GlassServer(keys, authorized=restricted(options)) as server:
        done = client("openssh-9.2").run(server.target, "echo in", identity=keys.user())
    assert (done.stdout, done.returncode) == (b"", 255)
    assert b"Permission denied (publickey)" in done.stderr


@pytest.mark.parametrize(
    "config", ["DenyUsers *", "AllowUsers somebody", "DenyGroups *", "AllowGroups nogroup-at-all"]
)
def test_a_user_that_is_not_let_in(config: str, client: GetClient, keys: Keys) -> None:
    with GlassServer(keys, config) as server:
        done = client("openssh-9.2").run(server.target, "echo in", identity=keys.user())
        assert f"User {server.target.user} from 127.0.0.1 not allowed because" in server.log
    assert (done.stdout, done.returncode) == (b"", 255)


def test_sshd_config_restricts_everybody(client: GetClient, keys: Keys) -> None:
    config = 'ForceCommand echo "$SSH_ORIGINAL_COMMAND"\nPermitTTY no\nAllowTcpForwarding no\nBanner none'
    with GlassServer(keys, config, authorized=restricted('command="echo mine"')) as server:
        ssh = client("openssh-9.2")
        assert ssh.run(server.target, "asked", identity=keys.user()).stdout == b"asked\n"
        assert b"PTY allocation" in ssh.run(server.target, "x", "-tt", identity=keys.user()).stderr
        direct = ssh.run(server.target, None, "-W", "127.0.0.1:1", identity=keys.user())
        assert b"administratively prohibited" in direct.stderr


def test_permitopen(client: GetClient, keys: Keys, echo: int) -> None:
    with GlassServer(keys, authorized=restricted(f'permitopen="127.0.0.1:{echo}"')) as server:
        ssh = client("openssh-9.2")
        good = ssh.run(server.target, None, "-W", f"127.0.0.1:{echo}", identity=keys.user(), stdin=b"x")
        assert good.stdout == b"x"
        bad = ssh.run(server.target, None, "-W", f"localhost:{echo}", identity=keys.user(), stdin=b"x")
        assert b"administratively prohibited" in bad.stderr


def test_a_banner(client: GetClient, keys: Keys, tmp_path: Path) -> None:
    (tmp_path / "banner").write_text("nobody but us\n")
    with GlassServer(keys, f"Banner {tmp_path}/banner") as server:
        assert (
            b"nobody but us\n"
            in client("openssh-9.2").run(server.target, "true", identity=keys.user()).stderr
        )


def test_a_banner_that_is_too_large_is_left_out_and_said_so(
    client: GetClient, keys: Keys, tmp_path: Path
) -> None:
    (tmp_path / "banner").write_text("nobody but us\n" * 50_000)
    with GlassServer(keys, f"Banner {tmp_path}/banner") as server:
        done = client("openssh-9.2").run(server.target, "true", identity=keys.user())
        assert (done.returncode, b"nobody" in done.stderr) == (0, False)
        assert "larger than 65536 bytes" in server.log


# -- the log and the end


def test_the_log_of_a_login(glass: Server, client: GetClient, keys: Keys) -> None:
    client("openssh-9.2").run(glass.target, "true", identity=keys.user())
    client("openssh-9.2").run(glass.target, "true", "-l", "no-such-user", identity=keys.user())
    user, log = glass.target.user, glass.log
    for line in (
        rf"Server listening on 127\.0\.0\.1 port {glass.target.port}\.",
        r"debug1: private host key #0: ssh-ed25519 SHA256:\S+",
        r"Connection from 127\.0\.0\.1 port \d+ on 127\.0\.0\.1 port \d+ rdomain \"\"",
        rf"debug1: userauth-request for user {user} service ssh-connection method none \[preauth\]",
        r"debug1: trying public key file /\S+",
        r"Accepted key ED25519 SHA256:\S+ found at /\S+:1",
        rf"Accepted publickey for {user} from 127\.0\.0\.1 port \d+ ssh2: ED25519 SHA256:\S+",
        rf"Starting session: command for {user} from 127\.0\.0\.1 port \d+ id 0",
        r"Received disconnect from 127\.0\.0\.1 port \d+:11: disconnected by user",
        r"Invalid user no-such-user from 127\.0\.0\.1 port \d+",
    ):
        assert re.search(rf"^{line}\r?$", log, re.MULTILINE), line


def test_an_unknown_user_gets_the_same_answer(glass: Server, keys: Keys) -> None:
    with OpenSSHClient("9.2") as ssh:
        known = ssh.run(glass.target, "true", "-v", identity=keys.stranger())
        unknown = ssh.run(glass.target, "true", "-v", "-l", "no-such-user", identity=keys.stranger())
    answers = [
        re.findall(rb"Authentications that can continue: .*", done.stderr) for done in (known, unknown)
    ]
    assert answers[0] == answers[1]
    assert known.returncode == unknown.returncode == 255


def test_a_server_that_is_told_to_end_says_so(client: GetClient, keys: Keys) -> None:
    with GlassServer(keys) as server:
        line = client("openssh-9.2").argv(server.target, identity=keys.user())
        with subprocess.Popen([*line, "echo up; cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as ssh:  # fmt: skip
            assert ssh.stdout is not None
            assert ssh.stderr is not None
            assert ssh.stdout.readline() == b"up\n"
            server.__exit__()
            assert b"server shutting down" in ssh.stderr.read()
            assert ssh.wait(PATIENCE) == 255
