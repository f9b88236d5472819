"""Servers inside of programs: what ssh(1) gets of the example's, and what stands around sessions."""

from __future__ import annotations

import asyncio
import fcntl
import importlib.util
import os
import struct
import subprocess
import termios
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import glasshell
from glasshell.aio.app import App, Next, only, say
from glasshell.aio.process import Terminal
from glasshell.aio.session import ServerSession
from glasshell.errors import RequestFailed, UsageError
from glasshell.keys.public import load_public_key
from tests.aio.kit import HOST_KEY, Users, connecting, run
from tests.interop.peers import Keys, OpenSSHClient, Target, require_peer

ROOT = Path(__file__).resolve().parents[2]


def example() -> App:
    """The App of examples/embedded_server.py, anew."""
    path = ROOT / "examples" / "embedded_server.py"
    spec = importlib.util.spec_from_file_location("embedded_server", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: App = module.app
    return made


def serving(app: App, **changes: Any) -> Any:
    settings: dict[str, Any] = {"host_keys": [HOST_KEY], "gatekeeper": Users()}
    return app.serve("127.0.0.1", 0, **{**settings, **changes})


# ---- ssh(1)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    require_peer("openssh-9.2")
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module", params=["9.2", "10.6"])
def ssh(request: pytest.FixtureRequest) -> Iterator[OpenSSHClient]:
    with OpenSSHClient(request.param) as client:
        yield client


def with_ssh(keys: Keys, app: App, work: Callable[[Callable[[str], Target]], Awaitable[None]],
             **settings: Any) -> None:  # fmt: skip
    """Serves `app` to Ada and Bob, who have one key, and runs `work` with the way to it."""
    key = load_public_key(keys.user().public)[0]
    users = glasshell.KnownUsers(keys={"ada": [key], "bob": [key]})
    defects = settings.pop("defects", ())

    async def main() -> None:
        async with serving(app, gatekeeper=users) as server:
            public = HOST_KEY.public
            await work(lambda user: Target(server.port, user, (str(_line(public)),)))

    run(main(), defects=defects, seconds=60)


def _line(public: glasshell.PublicKey) -> str:
    from glasshell.keys.public import dump_public_key

    return " ".join(dump_public_key(public).split()[:2])


@pytest.mark.interop
def test_ssh_runs_commands(keys: Keys, ssh: OpenSSHClient) -> None:
    async def work(at: Callable[[str], Target]) -> None:
        async def said(command: str, *options: str, stdin: bytes = b"") -> tuple[int, bytes]:
            done = await asyncio.to_thread(
                ssh.run, at("ada"), command, *options, identity=keys.user(), stdin=stdin
            )
            return done.returncode, done.stdout + (b"!" + done.stderr if b"usage" in done.stderr else b"")

        assert await said("greet") == (0, b"hello, ada\n")
        assert await said("greet 'two words'") == (0, b"hello, two words\n")
        assert await said("greet two words") == (2, b"!usage: greet [NAME]\n")
        assert await said("sum 1 2 3") == (0, b"6\n")
        assert await said("rm -rf /") == (127, b"")
        assert await said("sum one") == (255, b"")  # its handler raised: a defect of the program
        assert await said("greet still there") == (2, b"!usage: greet [NAME]\n")
        assert await said("echo", "-s", stdin=b"\0back") == (0, b"\0back")

    with_ssh(keys, example(), work, defects=["the handler of a exec failed"])


@contextmanager
def on_a_terminal(line: list[str], rows: int, columns: int) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A program whose controlling terminal is one of ours."""
    ours, its = os.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def take() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(line, stdin=its, stdout=its, stderr=its, preexec_fn=take)
    os.close(its)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def until(terminal: int, wanted: bytes) -> bytes:
    """What the terminal shows, up to `wanted`."""
    shown = b""
    while wanted not in shown:
        shown += os.read(terminal, 4096)
    return shown


@pytest.mark.interop
@pytest.mark.parametrize(("key", "status"), [(b"\x03", 130), (b"q", 0)])
def test_ssh_shows_a_full_screen_application(
    keys: Keys, ssh: OpenSSHClient, key: bytes, status: int
) -> None:
    def look(line: list[str]) -> int:
        with on_a_terminal(line, 24, 80) as (process, terminal):
            until(terminal, b"ada: 0 keys, 80x24")
            os.write(terminal, b"xy")
            until(terminal, b"ada: 2 keys, 80x24")
            fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 40, 0, 0))
            until(terminal, b"\x1b[5;11Hada: 2 keys, 40x10")
            os.write(terminal, key)
            until(terminal, b"\x1b[?1049l")
            return process.wait(10)

    async def work(at: Callable[[str], Target]) -> None:
        line = ssh.argv(at("ada"), "-tt", identity=keys.user())
        assert await asyncio.to_thread(look, line) == status

    with_ssh(keys, example(), work)


@pytest.mark.interop
def test_two_users_at_once(keys: Keys, ssh: OpenSSHClient) -> None:
    def look(ada: list[str], bob: list[str]) -> tuple[int, int]:
        with on_a_terminal(ada, 24, 80) as (one, hers), on_a_terminal(bob, 30, 90) as (two, his):
            until(hers, b"ada: 0 keys, 80x24")
            until(his, b"bob: 0 keys, 90x30")
            os.write(hers, b"x")
            until(hers, b"ada: 1 keys, 80x24")
            os.write(his, b"\x03")
            until(his, b"\x1b[?1049l")
            os.write(hers, b"q")
            until(hers, b"\x1b[?1049l")
            return one.wait(10), two.wait(10)

    async def work(at: Callable[[str], Target]) -> None:
        lines = [ssh.argv(at(user), "-tt", identity=keys.user()) for user in ("ada", "bob")]
        assert await asyncio.to_thread(look, *lines) == (0, 130)

    with_ssh(keys, example(), work)


# ---- what stands around a session


def test_middleware_stands_in_the_order_of_use_around_all_there_is() -> None:
    app = App()
    seen: list[str] = []

    def noting(name: str) -> Callable[[ServerSession, Next], Awaitable[int | None]]:
        async def middleware(session: ServerSession, call_next: Next) -> int | None:
            seen.append(f"{name} {session.kind}")
            status = await call_next(session)
            seen.append(f"{name} {status}")
            return status

        return middleware

    app.use(noting("outer"))
    app.use(noting("inner"))

    @app.command()
    async def fail(session: ServerSession, code: str = "3") -> int:
        return int(code)

    @app.subsystem("hello")
    async def hello(session: ServerSession) -> str:
        return "hello"

    async def main() -> None:
        async with serving(app) as server, connecting(server.port) as connection:
            assert (await connection.run("fail")).status == 3
            assert (await connection.run("fail 4")).status == 4
            assert seen[:4] == ["outer exec", "inner exec", "inner 3", "outer 3"]
            assert seen[4:] == ["outer exec", "inner exec", "inner 4", "outer 4"]
            process = await connection.open(subsystem="hello")
            assert await process.stdout.read() == b"hello\n"
            assert await process.wait() == 0
            assert seen[8:] == ["outer subsystem", "inner subsystem", "inner 0", "outer 0"]
            seen.clear()
            await connection.run("nothing")
            assert seen == ["outer exec", "inner exec", "inner 127", "outer 127"]

    run(main())


def test_who_may_not_is_told_so_and_nothing_runs() -> None:
    app = App()
    app.use(only("bob"))
    ran = []

    @app.command()
    async def it(session: ServerSession) -> None:
        ran.append(session.login.user)

    async def main() -> None:
        async with serving(app) as server:
            async with connecting(server.port) as connection:
                done = await connection.run("it")
                assert (done.status, done.stderr) == (77, "this is not for you\n")
            async with connecting(server.port, "bob", keys=[], password="open sesame") as connection:
                assert (await connection.run("it")).ok
        assert ran == ["bob"]

    run(main())


def test_one_user_has_so_many_sessions_in_all_connections_together() -> None:
    app = App(sessions=2)
    started = asyncio.Queue[str]()

    @app.command()
    async def wait(session: ServerSession) -> None:
        started.put_nowait(session.login.user)
        await session.stdin.read()

    async def main() -> None:
        async with serving(app) as server, connecting(server.port) as one, connecting(server.port) as two:
            first = await one.open("wait")
            second = await two.open("wait")
            await started.get()
            await started.get()
            done = await two.run("wait")
            assert (done.status, done.stderr) == (75, "no more than 2 sessions at a time\n")
            first.stdin.write_eof()
            await first.wait()
            third = await two.open("wait")
            await started.get()
            for process in (second, third):
                process.stdin.write_eof()
                await process.wait()

    run(main())


def test_lines_for_a_terminal_end_as_terminals_want_them() -> None:
    app = App()

    @app.command()
    async def lines(session: ServerSession) -> None:
        say(session, "one\ntwo")
        say(session, "three", error=True)

    async def main() -> None:
        async with serving(app) as server, connecting(server.port) as connection:
            done = await connection.run("lines")
            assert (done.stdout, done.stderr) == ("one\ntwo\n", "three\n")
            process = await connection.open("lines", pty=Terminal())
            assert await process.stdout.read() == b"one\r\ntwo\r\nthree\r\n"

    run(main())


def test_what_is_not_there_is_refused() -> None:
    app = App()

    async def main() -> None:
        async with serving(app) as server, connecting(server.port) as connection:
            done = await connection.run("anything 'unbalanced")
            assert (done.status, done.stderr) == (2, "anything 'unbalanced: no closing quotation\n")
            assert (await connection.run("\x1b]0;x")).stderr.startswith("there is no command '\\033]0;x'")
            with pytest.raises(RequestFailed):
                await connection.open(subsystem="sftp")

    run(main())


@pytest.mark.parametrize("pattern", ["", "greet name", "greet [NAME] OTHER", "greet NAME... OTHER"])
def test_a_pattern_that_makes_no_sense_is_refused_where_it_is_written(pattern: str) -> None:
    app = App()
    with pytest.raises(UsageError):

        @app.command(pattern)
        async def greet(session: ServerSession, *names: str) -> None:
            """Greets."""


def test_a_command_has_one_function() -> None:
    app = App()

    @app.command()
    async def greet(session: ServerSession) -> None:
        """Greets."""

    with pytest.raises(UsageError, match="already"):
        app.command("greet")(greet)


