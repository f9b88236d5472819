"""An SSH server inside of a program: two commands, a subsystem, and a full-screen application.

    ssh-keygen -q -t ed25519 -N "" -f host_key
    python examples/embedded_server.py host_key ~/.ssh/id_ed25519.pub 2222

    ssh -p 2222 ada@localhost                 the application: keys count, q leaves
    ssh -p 2222 ada@localhost greet World
    ssh -p 2222 ada@localhost sum 1 2 3
    ssh -p 2222 -s ada@localhost echo
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import glasshell
from glasshell.aio.app import Next
from glasshell.aio.session import ServerSession
from glasshell.keys.openssh import load_private_key
from glasshell.keys.public import load_public_key

app = glasshell.App(sessions=4)


@app.use
async def timing(session: ServerSession, call_next: Next) -> int | None:
    """One line for each session, on standard error of the server."""
    began = time.monotonic()
    try:
        return await call_next(session)
    finally:
        what = session.subsystem or session.command or "shell"
        sys.stderr.write(f"{session.login.user}: {what!r}, {time.monotonic() - began:.3f} s\n")


@app.command("greet [NAME]")
async def greet(session: ServerSession, name: str = "") -> str:
    return f"hello, {name or session.login.user}"


@app.command("sum NUMBER...")
async def total(session: ServerSession, *numbers: str) -> str:
    return str(sum(int(number) for number in numbers))


@app.subsystem("echo")
async def echo(session: ServerSession) -> None:
    while data := await session.stdin.read(65536):
        session.stdout.write(data)
        await session.stdout.drain()


@app.shell
async def counter(session: ServerSession) -> int:
    """Draws itself again for each key and each change of the window's size."""
    if session.terminal is None:
        session.stderr.write(b"this needs a terminal: ssh -t\n")
        return 1
    keys = 0

    def draw(_: object = None) -> None:
        size = session.terminal
        assert size is not None
        line = f"{session.login.user}: {keys} keys, {size.columns}x{size.rows}"
        row, column = max(size.rows // 2, 1), max((size.columns - len(line)) // 2, 1)
        session.stdout.write(f"\x1b[2J\x1b[{row};{column}H{line}".encode())

    session.on_resize = draw
    session.stdout.write(b"\x1b[?1049h\x1b[?25l")  # the other screen, and no cursor
    try:
        draw()
        while data := await session.stdin.read(1024):
            if b"\x03" in data:  # Ctrl-C
                return 130
            if b"q" in data:
                return 0
            keys += len(data)
            draw()
        return 0
    finally:
        session.stdout.write(b"\x1b[?25h\x1b[?1049l")


async def main(host_key: bytes, user_key: bytes, port: int) -> None:
    key = load_public_key(user_key)[0]
    users = glasshell.KnownUsers(keys={"ada": [key], "bob": [key]})
    keys = [load_private_key(host_key)]
    async with app.serve("127.0.0.1", port, host_keys=keys, gatekeeper=users) as server:
        sys.stderr.write(f"port {server.port}\n")
        await server.wait_closed()


if __name__ == "__main__":
    try:
        host, user, port = sys.argv[1:]
        asyncio.run(main(Path(host).read_bytes(), Path(user).read_bytes(), int(port)))
    except KeyboardInterrupt:
        sys.exit(130)
