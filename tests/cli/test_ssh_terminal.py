"""`glasshell ssh` on a terminal: keys, sizes, escape characters, questions, and the terminal afterwards."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from glasshell.aio.gatekeeper import KnownUsers
from glasshell.aio.server import serve
from glasshell.aio.session import ServerSession
from glasshell.cli.terminal import Escapes, Piece
from glasshell.crypto.signatures import PrivateKey
from tests.cli.kit import PATIENCE, PROMPT, Commands, Login, Screen
from tests.interop.peers import Keys, make_key

READY = re.escape(PROMPT)


def test_a_shell_with_the_terminals_size_type_and_modes(login: Login) -> None:
    screen = login.shell(rows=31, columns=97)
    screen.type(b"stty size; echo type=$TERM; stty -a\r")
    screen.expect(rb"31 97\r\n")
    screen.expect(rb"type=vt100\r\n")
    screen.expect(rb"erase = \^\?")
    screen.type(b"exit 9\r")
    assert screen.wait() == 9
    assert re.search(rb"Connection to 127\.0\.0\.1 closed\.\r+\n$", screen.seen)
    assert screen.as_before


def test_a_new_size_of_the_window_is_passed_on(login: Login) -> None:
    screen = login.shell(rows=24, columns=80)
    screen.type(b"while sleep 0.02; do stty size; done\r")
    screen.expect(rb"\n24 80\r\n")
    screen.resize(50, 132)
    screen.expect(rb"50 132\r\n")


def test_control_c_goes_to_the_program(login: Login) -> None:
    screen = login.shell()
    # Its word, and not the echo of ours, says that it runs.
    screen.type(b"sh -c 'echo run''ning; exec cat'\r")
    screen.expect(rb"running\r\n")
    screen.type(b"\x03")
    screen.expect(READY)
    assert screen.process.poll() is None


def test_a_large_paste_arrives_whole(login: Login) -> None:
    screen = login.shell()
    screen.type(b"stty -echo; PS1=; cat > pasted; wc -c pasted; rm pasted\r")
    screen.expect(rb"\r\n")
    screen.type(b"0123456789abcde\r" * 20_000 + b"\x04")
    screen.expect(rb"320000 pasted")


def test_tilde_dot_ends_the_connection(login: Login) -> None:
    screen = login.shell()
    screen.type(b"\r~.")
    assert screen.wait() == 255
    assert b"~.\r\n" in screen.seen
    assert re.search(rb"Connection to 127\.0\.0\.1 closed\.\r+\n$", screen.seen)
    assert screen.as_before


def test_the_other_escapes(login: Login) -> None:
    screen = login.shell()
    screen.type(b"\r~?")
    screen.expect(rb"Supported escape sequences:\r\n ~\.   - terminate connection")
    screen.type(b"\r~#")
    screen.expect(rb"#0 session")
    screen.type(b"\r~R\recho after the rekey\r")
    screen.expect(rb"(?<!echo )after the rekey\r\n")
    screen.type(b"echo one\r~~two\r")
    screen.expect(rb"[^~]~two")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def test_forwardings_on_the_command_line(login: Login) -> None:
    """What ssh(1) says of each; the server's own port is what they lead to."""
    screen = login.shell(options=["EnableEscapeCommandline=yes"])
    local, remote, dynamic, there = free_port(), free_port(), free_port(), login.target.port

    def command(line: str, answer: bytes) -> None:
        screen.type(b"\r~C")
        screen.expect(rb"\nssh> ")
        screen.type(line.encode() + b"\r")
        screen.expect(answer)

    def greeting(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
            return sock.recv(8)

    command("help", rb"-KD\[bind_address:\]port +Cancel dynamic forward")
    command(f"-L {local}:127.0.0.1:{there}", rb"Forwarding port\.\r\n")
    assert greeting(local) == b"SSH-2.0-"
    command(f"-R{remote}:127.0.0.1:{there}", rb"Forwarding port\.\r\n")
    assert greeting(remote) == b"SSH-2.0-"
    command(f"-D {dynamic}", rb"Forwarding port\.\r\n")
    for letter, port in (("L", local), ("R", remote), ("D", dynamic)):
        command(f"-K{letter} {port}", rb"Canceled forwarding\.\r\n")
        with pytest.raises(ConnectionRefusedError):
            greeting(port)
    command(f"-KL {local}", rb"Unknown port forwarding\.\r\n")
    command("-L nonsense", rb"Bad forwarding specification\.\r\n")
    command("-X", rb"Invalid command\.\r\n")
    command("!echo never", rb"Invalid command\.\r\n")
    screen.type(b"echo still $((1+1))\r")
    screen.expect(rb"still 2\r\n")
    screen.type(b"exit 4\r")
    assert screen.wait() == 4
    assert screen.as_before


def test_without_a_word_there_is_no_command_line(login: Login) -> None:
    screen = login.shell()
    screen.type(b"\r~C")
    screen.expect(rb"commandline disabled\r\n")


def test_without_an_escape_character_a_tilde_is_a_tilde(login: Login) -> None:
    screen = login.shell("-e", "none")
    screen.type(b"\r: ~.\recho still here\r")
    screen.expect(rb"(?<!echo )still here\r\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT])
def test_the_terminal_is_as_before_after_a_signal(login: Login, number: signal.Signals) -> None:
    screen = login.shell()
    assert not screen.as_before
    screen.process.send_signal(number)
    assert screen.wait() == 255
    assert screen.as_before


def test_the_terminal_is_as_before_after_the_server_is_gone(login: Login) -> None:
    screen = login.shell()
    screen.type(b"kill -9 $PPID\r")
    assert screen.wait() == 255
    assert b"closed by remote host" in screen.seen
    assert b"Traceback" not in screen.seen
    assert screen.as_before


def test_suspended_and_continued(login: Login) -> None:
    """By a shell with job control: a signal stops no process group that has no one above it."""
    words = login.commands.line(*login.words("-tt"), f"exec env PS1='{PROMPT.decode()}' sh")
    script = 'set -m; "$@"; stty -a; echo "stopped $?"; fg; echo "ended $?"'
    screen = Screen(
        ["bash", "-c", script, "bash", *words], login.commands.environment, login.commands.home, 24, 80
    )
    with closing(screen):
        screen.expect(READY)
        screen.type(b"\r~\x1a")
        screen.expect(rb"~\^Z \[suspend ssh\]")
        screen.expect(rb" icanon .* echo ")
        screen.expect(rb"stopped")
        screen.type(b"echo back again\rexit 6\r")
        screen.expect(rb"(?<!echo )back again\r\n")
        screen.expect(rb"ended 6")


@pytest.mark.parametrize(
    ("typed", "pieces"),
    [
        (b"ls\r", [Piece(b"ls\r")]),
        (b"~.", [Piece(b"", ".")]),
        (b"a~.", [Piece(b"a~.")]),
        (b"a\r~.b", [Piece(b"a\r", "."), Piece(b"b")]),
        (b"~~.", [Piece(b"~.")]),
        (b"~x", [Piece(b"~x")]),
        (b"\r~\x1a~?", [Piece(b"\r", "^Z"), Piece(b"", "?")]),
    ],
)
def test_escapes_whole_and_key_by_key(typed: bytes, pieces: list[Piece]) -> None:
    assert Escapes("~").feed(typed) == pieces
    escapes = Escapes("~")
    found = [piece for byte in typed for piece in escapes.feed(bytes([byte]))]
    assert b"".join(piece.data for piece in found) == b"".join(piece.data for piece in pieces)
    assert [piece.command for piece in found if piece.command] == [p.command for p in pieces if p.command]


# ---- questions


def asked(login: Login, *options: str) -> Screen:
    return login.commands.on_terminal(*login.words(options=options), "echo in")


def test_a_new_host_is_asked_about_and_added(login: Login, keys: Keys) -> None:
    known = login.commands.home / "new"
    screen = asked(login, f"UserKnownHostsFile={known}", "HostKeyAlgorithms=ssh-ed25519")
    where = re.escape(f"[127.0.0.1]:{login.target.port}".encode())
    screen.expect(rb"The authenticity of host '" + where + rb" \(127\.0\.0\.1\)' can't be established\.\r?\n"
                  rb"ED25519 key fingerprint is: SHA256:\S{43}\r?\n")  # fmt: skip
    screen.expect(rb"Are you sure you want to continue connecting \(yes/no/\[fingerprint\]\)\? $")
    screen.type(b"perhaps\r")
    screen.expect(rb"Please type 'yes', 'no' or the fingerprint: $")
    screen.type(b"yes\r")
    screen.expect(rb"Warning: Permanently added '" + where + rb"' \(ED25519\) to the list of known hosts\.")
    assert screen.wait() == 0
    assert screen.seen.endswith(b"in\r\n")
    assert keys.host().public.split()[1] in known.read_text()


@pytest.mark.parametrize("answer", [b"no\r", b"\x04", b"SHA256:wrong\rno\r"])
def test_a_new_host_that_is_declined(login: Login, answer: bytes) -> None:
    screen = asked(login, "UserKnownHostsFile=/dev/null")
    screen.expect(rb"\(yes/no/\[fingerprint\]\)\? $")
    screen.type(answer)
    assert screen.wait() == 255
    assert b"Host key verification failed." in screen.seen


def test_a_new_host_is_accepted_by_its_fingerprint(login: Login) -> None:
    screen = asked(login, "UserKnownHostsFile=/dev/null")
    shown = screen.expect(rb"fingerprint is: (SHA256:\S{43})")[1]
    screen.expect(rb"\? $")
    screen.type(shown + b"\r")
    assert screen.wait() == 0


def test_batch_mode_asks_nothing(login: Login) -> None:
    screen = asked(login, "UserKnownHostsFile=/dev/null", "BatchMode=yes")
    assert screen.wait() == 255
    assert b"Are you sure" not in screen.seen


def with_passphrase(login: Login) -> Login:
    """The same login by a copy of the key that is encrypted, its public half not beside it."""
    data = login.identity.read_bytes()
    path = login.commands.home / "locked"
    path.write_bytes(data)
    path.chmod(0o600)
    done = login.commands.run("keygen", "-q", "-p", "-f", str(path), "-N", "open sesame")
    assert done.returncode == 0, done.stderr
    return Login(login.commands, login.target, path)


def test_the_passphrase_of_a_key_is_asked_for(login: Login) -> None:
    locked = with_passphrase(login)
    screen = asked(locked)
    prompt = re.escape(f"Enter passphrase for key '{locked.identity}': ".encode()) + rb"$"
    screen.expect(prompt)
    screen.type(b"wrong\r")
    screen.expect(prompt)
    screen.type(b"open sesame\r")
    assert screen.wait() == 0
    assert b"sesame" not in screen.seen
    assert screen.as_before


def test_control_c_at_a_question_ends_it_by_the_signal(login: Login) -> None:
    screen = asked(with_passphrase(login))
    screen.expect(rb"Enter passphrase")
    screen.type(b"\x03")
    assert screen.wait() == -signal.SIGINT
    assert b"Traceback" not in screen.seen
    assert screen.as_before


def test_a_terminal_is_asked_though_standard_input_is_a_pipe(login: Login) -> None:
    locked = with_passphrase(login)
    words = locked.commands.line(*locked.words(), "cat")
    line = ["sh", "-c", 'echo from the pipe | "$@"', "sh", *words]
    with closing(Screen(line, locked.commands.environment, locked.commands.home, 24, 80)) as screen:
        screen.expect(rb"Enter passphrase")
        screen.type(b"open sesame\r")
        screen.expect(rb"from the pipe\r\n")
        assert screen.wait() == 0


@contextmanager
def password_server(host_key: PrivateKey) -> Iterator[int]:
    """Our own server, which lets ada in by her password."""

    async def greet(session: ServerSession) -> int:
        session.stdout.write(b"welcome\n")
        return 0

    started: list[int] = []
    up, down = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def main() -> None:
        gate = KnownUsers(passwords={"ada": "lovelace"})
        loops.append(asyncio.get_running_loop())
        async with serve("127.0.0.1", 0, host_keys=[host_key], gatekeeper=gate, handler=greet) as server:
            started.append(server.port)
            up.set()
            await down.wait()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    try:
        assert up.wait(10)
        yield started[0]
    finally:
        loops[0].call_soon_threadsafe(down.set)
        thread.join()


def password_words(port: int, *options: str) -> list[str]:
    words = [word for option in options for word in ("-o", option)]
    settings = ["-o", "StrictHostKeyChecking=accept-new", "-o", "PreferredAuthentications=password"]
    return ["ssh", "-F", "none", *words, *settings, "-p", str(port), "ada@127.0.0.1", "x"]


def test_the_password_is_asked_for_three_times(commands: Commands) -> None:
    with password_server(PrivateKey.generate("ssh-ed25519")) as port:
        screen = commands.on_terminal(*password_words(port))
        for _ in range(3):
            screen.expect(rb"ada@127\.0\.0\.1's password: $")
            screen.type(b"nonsense\r")
        assert screen.wait() == 255
        assert screen.seen.count(b"Permission denied, please try again.") == 2
        assert b"ada@127.0.0.1: Permission denied (password)." in screen.seen
        assert b"nonsense" not in screen.seen


def test_the_right_password_and_fewer_tries(commands: Commands) -> None:
    with password_server(PrivateKey.generate("ssh-ed25519")) as port:
        screen = commands.on_terminal(*password_words(port))
        screen.expect(rb"password: $")
        screen.type(b"lovelace\r")
        assert screen.wait() == 0
        assert screen.seen.endswith(b"welcome\r\n")
        screen = commands.on_terminal(*password_words(port, "NumberOfPasswordPrompts=1"))
        screen.expect(rb"password: $")
        screen.type(b"nonsense\r")
        assert screen.wait() == 255
        assert screen.seen.count(b"password: ") == 1


def test_a_key_and_its_public_half_by_another_name(login: Login, tmp_path: Path) -> None:
    other = make_key(tmp_path, "ed25519", name="other")
    login.identity.with_name(login.identity.name + ".pub").write_text(other.public + "\n")
    done = login.run("true")
    assert done.returncode == 255
    assert b"are not the same key" in done.stderr or b"Permission denied" in done.stderr
