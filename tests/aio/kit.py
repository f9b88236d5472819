"""What the tests of the asyncio shell share."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from glasshell.aio.connecting import Connecting, connect
from glasshell.aio.doorkeeper import Limits
from glasshell.aio.gatekeeper import KnownUsers, LoggedIn
from glasshell.aio.server import Serving, serve
from glasshell.aio.session import ServerSession
from glasshell.crypto.signatures import PrivateKey
from glasshell.keys.openssh import dump_private_key
from glasshell.keys.public import dump_public_key
from glasshell.wire import Secret

T = TypeVar("T")

HOST_KEY = PrivateKey.generate("ssh-ed25519")
USER_KEY = PrivateKey.generate("ssh-ed25519")
STRANGER = PrivateKey.generate("ssh-ed25519")


def run(work: Coroutine[Any, Any, T], *, seconds: float = 20.0, defects: Sequence[str] = ()) -> T:
    """Runs `work` and then looks around: no task may be left over, and no defect reported but `defects`."""
    reported: list[str] = []

    async def main() -> T:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: reported.append(context["message"]))
        async with asyncio.timeout(seconds):
            result = await work
        await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"left over: {left}"
        return result

    result = asyncio.run(main())
    assert reported == list(defects)
    return result


class Users(KnownUsers):
    """Ada by key, Bob by password; both may forward."""

    def __init__(self) -> None:
        super().__init__(keys={"ada": [USER_KEY.public]}, passwords={"bob": "open sesame"})

    def may_connect(self, login: LoggedIn, host: str, port: int) -> bool:
        return host == "127.0.0.1"

    def listen_address(self, login: LoggedIn, host: str, port: int) -> str | None:
        return "127.0.0.1" if host in ("", "localhost", "127.0.0.1") else None


async def program(session: ServerSession) -> int:
    """What the test servers run."""
    words = (session.command or "").split()
    match words:
        case ["cat"]:
            while data := await session.stdin.read(65536):
                session.stdout.write(data)
                await session.stdout.drain()
        case ["both", size]:
            # First all of one stream: who reads the other one first would never see its end.
            session.stderr.write(b"e" * int(size))
            await session.stderr.flushed()
            session.stdout.write(b"o" * int(size))
        case ["exit", status]:
            return int(status)
        case ["die"]:
            session.exit_signal("SEGV", core_dumped=True, message="oops")
        case ["wait"]:
            await asyncio.get_running_loop().create_future()
        case ["fail"]:
            raise RuntimeError("a defect of the handler")
        case ["forever"]:
            while True:
                session.stdout.write(bytes(65536))
                await session.stdout.drain()
        case _:
            told = f"{session.kind} {session.command} {sorted(session.env)} {session.terminal}"
            session.stdout.write(told.encode())
            session.stderr.write(b"to stderr")
    return 0


def serving(**changes: Any) -> Serving:
    """A server on a free port of the loopback interface."""
    settings: dict[str, Any] = {"host_keys": [HOST_KEY], "gatekeeper": Users(), "handler": program}
    settings["limits"] = Limits(begin=100, penalties={})  # whoever fails here does so from one address
    return serve("127.0.0.1", 0, **{**settings, **changes})


def connecting(port: int, user: str = "ada", **changes: Any) -> Connecting:
    """A client that needs nothing of the user who runs the tests."""
    settings: dict[str, Any] = {"keys": [USER_KEY], "agent": False, "known_hosts": HOST_KEY.public}
    return connect("127.0.0.1", port, user=user, **{**settings, **changes})


def key_file(
    folder: Path, key: PrivateKey, name: str = "id", passphrase: str = "", public: bool = True
) -> Path:
    """`key` as ssh-keygen leaves it."""
    path = folder / name
    path.write_bytes(dump_private_key(key, Secret(passphrase) if passphrase else None, rounds=4))
    path.chmod(0o600)
    if public:
        (folder / f"{name}.pub").write_text(dump_public_key(key.public))
    return path
