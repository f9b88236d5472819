"""One end of a bulk transfer, in a process of its own: ours and asyncssh's, as client and as server.

    python -m tests.bench.ends serve ours|asyncssh FOLDER CIPHER
    python -m tests.bench.ends client ours|asyncssh WAY BYTES HOST PORT USER FOLDER CIPHER [OPTION...]

A server prints its port and serves until it is killed; its handler makes and takes the bytes itself. WAY
is `down` or `up`. A client prints JSON: the seconds from the request to the last byte, and the processor
seconds that it took meanwhile; login and start are left out. Options: `command` for a server that runs
programs, where head(1) does the work; `trace=FILE` writes the client's records.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

BLOCK = 1 << 20
READ = 1 << 18


async def serve_ours(folder: Path, cipher: str) -> None:
    from glasshell import KnownUsers, Policy, serve
    from glasshell.aio.session import ServerSession
    from glasshell.keys.openssh import load_private_key
    from glasshell.keys.public import load_public_key

    async def work(session: ServerSession) -> int:
        match (session.command or "").split():
            case ["down", size]:
                await give(session.stdout, int(size))
            case ["up", size]:
                left = int(size)
                while left and (data := await session.stdin.read(READ)):
                    left -= len(data)
                session.stdout.write(b"done")
            case ["cpu"]:
                session.stdout.write(repr(time.process_time()).encode())
        return 0

    host_key = load_private_key((folder / "host_ed25519").read_bytes())
    user_key = load_public_key((folder / "user_ed25519.pub").read_text())[0]
    gatekeeper = KnownUsers(keys={"ada": [user_key]})
    policy = Policy.server(ciphers=(cipher,))
    async with serve("127.0.0.1", 0, host_keys=[host_key], gatekeeper=gatekeeper, handler=work,
                     policy=policy) as server:  # fmt: skip
        print(server.port, flush=True)
        await server.wait_closed()


async def give(stream: Any, size: int) -> None:
    """Writes `size` bytes to a stream of ours or of asyncssh."""
    block = bytes(BLOCK)
    while size > 0:
        stream.write(block if size >= BLOCK else block[:size])
        size -= BLOCK
        await stream.drain()


async def take(stream: Any, size: int) -> None:
    """Reads `size` bytes."""
    while size:
        data = await stream.read(READ)
        if not data:
            raise EOFError(f"{size} bytes are missing")
        size -= len(data)


def spent(began: tuple[float, float]) -> str:
    """The seconds since `began`, on the wall and of the processor, as JSON."""
    return json.dumps({"seconds": time.perf_counter() - began[0], "cpu": time.process_time() - began[1]})


async def client_ours(
    way: str, size: int, host: str, port: int, user: str, folder: Path, cipher: str, options: list[str]
) -> None:
    import contextlib

    import glasshell
    from glasshell.keys.public import load_public_key
    from glasshell.policy import Policy
    from glasshell.views.trace import open_trace

    host_key = load_public_key((folder / "host_ed25519.pub").read_text())[0]
    shell = "command" in options
    trace = next((option[6:] for option in options if option.startswith("trace=")), "")
    policy = Policy.client(ciphers=(cipher,), host_key_algorithms=("ssh-ed25519",))
    with contextlib.ExitStack() as stack:
        sinks = [stack.enter_context(contextlib.closing(open_trace(trace)))] if trace else []
        connecting = glasshell.connect(
            host, port, user=user, agent=None, keys=[folder / "user_ed25519"], known_hosts=host_key,
            policy=policy, sinks=sinks,
        )  # fmt: skip
        async with connecting as connection:
            began = time.perf_counter(), time.process_time()
            if way == "down":
                process = await connection.open(f"head -c {size} /dev/zero" if shell else f"down {size}")
                await take(process.stdout, size)
            else:
                command = f"head -c {size} >/dev/null; echo done" if shell else f"up {size}"
                process = await connection.open(command)
                await give(process.stdin, size)
                assert await process.stdout.read(4) == b"done"
            print(spent(began))
            if not shell:
                print((await connection.run("cpu")).stdout, file=sys.stderr)


async def serve_asyncssh(folder: Path, cipher: str) -> None:
    import asyncssh

    async def work(process: Any) -> None:
        match (process.command or "").split():
            case ["down", size]:
                await give(process.stdout, int(size))
            case ["up", size]:
                await take(process.stdin, int(size))
                process.stdout.write(b"done")
            case ["cpu"]:
                process.stdout.write(repr(time.process_time()).encode())
        process.exit(0)

    server = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[str(folder / "host_ed25519")], encoding=None,
        authorized_client_keys=str(folder / "user_ed25519.pub"), process_factory=work,
        encryption_algs=[cipher],
    )  # fmt: skip
    print(server.get_port(), flush=True)
    await server.wait_closed()


async def client_asyncssh(
    way: str, size: int, host: str, port: int, user: str, folder: Path, cipher: str, options: list[str]
) -> None:
    import asyncssh

    shell = "command" in options
    async with asyncssh.connect(
        host, port, username=user, client_keys=[str(folder / "user_ed25519")], known_hosts=None,
        encryption_algs=[cipher], server_host_key_algs=["ssh-ed25519"], agent_path=None, config=None,
    ) as connection:  # fmt: skip
        began = time.perf_counter(), time.process_time()
        if way == "down":
            command = f"head -c {size} /dev/zero" if shell else f"down {size}"
            process = await connection.create_process(command, encoding=None)
            await take(process.stdout, size)
        else:
            command = f"head -c {size} >/dev/null; echo done" if shell else f"up {size}"
            process = await connection.create_process(command, encoding=None)
            await give(process.stdin, size)
            assert await process.stdout.read(4) == b"done"
        print(spent(began))
        if not shell:
            print((await connection.run("cpu")).stdout, file=sys.stderr)


def main(words: list[str]) -> None:
    match words:
        case ["serve", whose, folder, cipher]:
            asyncio.run({"ours": serve_ours, "asyncssh": serve_asyncssh}[whose](Path(folder), cipher))
        case ["client", whose, way, size, host, port, user, folder, cipher, *options]:
            client = {"ours": client_ours, "asyncssh": client_asyncssh}[whose]
            asyncio.run(client(way, int(size), host, int(port), user, Path(folder), cipher, options))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
