"""Many connections at once: what an idle one holds, and what a login costs, beside asyncssh.

    python -m tests.bench.scale idle [N]      memory of each of N idle, authenticated connections, both sides
    python -m tests.bench.scale logins [N]    CPU of the server for each login and command, of N

Each server and each client is a process of its own (`python -m tests.bench.scale ROLE KIND ...`), which
answers questions on its standard input. Both servers run a handler in their own process, without a child and
without limits. The same glasshell client logs in to both; asyncssh's own client holds the idle connections of
its pair.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

ROUNDS: Final = 5
KINDS: Final = ("glasshell", "asyncssh")
USER: Final = "ada"


def main() -> None:
    """What the module's first words say."""
    work, *words = sys.argv[1:]
    if work == "idle":
        print_idle(int(words[0]) if words else 5000)
    elif work == "logins":
        print_logins(int(words[0]) if words else 500)
    else:
        asyncio.run(ROLES[work, words[0]](words[1:]))


def print_idle(count: int) -> None:
    """Prints kilobytes for each idle connection."""
    print(f"{count} idle authenticated connections, KB each")
    print(f"{'':12}{'server':>9}{'client':>9}")
    for kind, (server, client) in idle(count).items():
        print(f"{kind:12}{server:9.1f}{client:9.1f}")


def print_logins(count: int) -> None:
    """Prints milliseconds of the server's CPU for each login and command."""
    found = logins(count)
    print(f"server CPU for each login and command, ms; median of {ROUNDS} rounds of {count}")
    for kind, costs in found.items():
        median = statistics.median(costs)
        print(f"{kind:12}{median:8.2f}   {1000 / median:6.0f} logins a second of CPU")
    ratio = statistics.median(a / b for a, b in zip(*found.values(), strict=True))
    print(f"ratio {ratio:.2f}")


def idle(count: int) -> dict[str, tuple[float, float]]:
    """Kilobytes (1,000 bytes) that each of `count` idle connections adds to the server and to the client."""
    found = {}
    for kind in KINDS:
        with Role("serve", kind) as server, Role("hold", kind, str(server.said["port"])) as client:
            warm, before = client.ask(100), (server.ask("rss"), client.ask("rss"))
            assert warm == 100
            assert client.ask(count) == count
            after = (server.ask("rss"), client.ask("rss"))
        one, two = ((b - a) / count / 1000 for a, b in zip(before, after, strict=True))
        found[kind] = (one, two)
    return found


def logins(count: int, rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Milliseconds of the server's CPU for each login and command: one figure a round, in turn."""
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with Role("serve", KINDS[0], cpu=0) as one, Role("serve", KINDS[1], cpu=0) as two:
        ports = [str(each.said["port"]) for each in (one, two)]
        with Role("log", "in", ports[0], cpu=1) as first, Role("log", "in", ports[1], cpu=1) as second:
            for client in (first, second):
                client.ask(48)
            for _ in range(rounds):
                for kept, server, client in zip(found.values(), (one, two), (first, second), strict=True):
                    before = server.ask("cpu")
                    assert client.ask(count) == count
                    spent = [b - a for a, b in zip(before, server.ask("cpu"), strict=True)]
                    kept.append(sum(spent) / count * 1000)
    return found


class Role:
    """One process: says one line when it is ready, and answers each line with one."""

    def __init__(self, *words: str, cpu: int | None = None) -> None:
        line = [sys.executable, "-m", "tests.bench.scale", *words]
        self._process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if cpu is not None and (os.cpu_count() or 1) > cpu:
            os.sched_setaffinity(self._process.pid, {cpu})
        self.said = self._heard()

    def ask(self, question: object) -> Any:
        """The answer to a question."""
        assert self._process.stdin is not None
        print(json.dumps(question), file=self._process.stdin, flush=True)
        return self._heard()

    def _heard(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def __enter__(self) -> Role:
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


# --- the roles


async def converse(told: object, answer: Callable[[Any], Awaitable[object]]) -> None:
    """Says `told`, then answers each line until there is no more."""
    print(json.dumps(told), flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(await answer(json.loads(line))), flush=True)


def resident() -> int:
    """Resident bytes of this process, after a collection."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def measured(question: Any) -> object:
    """What a server is asked."""
    if question == "cpu":
        return list(os.times()[:2])
    return resident()


async def serve_ours(_: list[str]) -> None:
    """glasshell's server; the handler says one word."""
    import glasshell
    from glasshell.aio.doorkeeper import Limits
    from glasshell.policy import Policy

    async def handler(session: Any) -> int:
        session.stdout.write(b"done\n")
        return 0

    keys = {USER: [_key(2).public]}
    policy = Policy.server(keepalive_interval=0.0, login_grace=600.0)
    async with glasshell.serve(
        "127.0.0.1", 0, host_keys=[_key(1)], gatekeeper=glasshell.KnownUsers(keys=keys), handler=handler,
        policy=policy, limits=Limits(begin=10_000, full=10_000, penalties={}), backlog=1000,
    ) as server:  # fmt: skip
        await converse({"port": server.port}, measured)


async def serve_asyncssh(_: list[str]) -> None:
    """asyncssh's server; the handler says the same word."""
    import asyncssh

    class Door(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            return True

        def public_key_auth_supported(self) -> bool:
            return True

        def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
            return bool(key.public_data == _key(2).public.blob)

    def handler(process: Any) -> None:
        process.stdout.write("done\n")
        process.exit(0)

    server = await asyncssh.create_server(
        Door, "127.0.0.1", 0, server_host_keys=[asyncssh.import_private_key(_pem(1))],
        process_factory=handler, login_timeout=600, backlog=1000,
    )  # fmt: skip
    await converse({"port": server.sockets[0].getsockname()[1]}, measured)


async def hold_ours(words: list[str]) -> None:
    """glasshell's client, holding connections."""
    import glasshell
    from glasshell.policy import Policy

    policy = Policy.client(keepalive_interval=0.0)

    def login() -> Awaitable[object]:
        return glasshell.connect(
            "127.0.0.1", int(words[0]), user=USER, keys=[_key(2)], agent=None, known_hosts=_key(1).public,
            policy=policy, deadline=600,
        )  # fmt: skip

    await hold(login)


async def hold_asyncssh(words: list[str]) -> None:
    """asyncssh's client, holding connections."""
    import asyncssh

    known = asyncssh.import_known_hosts("* " + _line(1))
    key = asyncssh.import_private_key(_pem(2))

    def login() -> Awaitable[object]:
        return asyncssh.connect(
            "127.0.0.1", int(words[0]), username=USER, client_keys=[key], known_hosts=known, config=None,
            agent_path=None, login_timeout=600,
        )  # fmt: skip

    await hold(login)


async def hold(login: Callable[[], Awaitable[object]]) -> None:
    """Opens as many connections as it is told, 20 at a time, and keeps them."""
    kept: list[object] = []

    async def answer(question: Any) -> object:
        if question == "rss":
            return resident()
        for start in range(0, question, 20):
            wanted = min(20, question - start)
            kept.extend(await asyncio.gather(*(_awaited(login()) for _ in range(wanted))))
        return question

    await converse({}, answer)


async def _awaited(what: Awaitable[object]) -> object:
    return await what


async def log_in(words: list[str]) -> None:
    """The load: logs in, runs a command and leaves, four at a time."""
    import glasshell

    port, user = int(words[0]), words[1] if len(words) > 1 else USER

    async def once(_: int) -> None:
        async with glasshell.connect(
            "127.0.0.1", port, user=user, keys=[_key(2)], agent=None, known_hosts=_key(1).public,
            deadline=600,
        ) as connection:  # fmt: skip
            done = await connection.run("true")
            assert done.stdout == "done\n"

    async def answer(question: Any) -> object:
        for _ in range(0, question, 4):
            await asyncio.gather(*map(once, range(4)))
        return question

    await converse({}, answer)


def _handle(number: int) -> Any:
    """A key that is the same in every process: what it guards is nothing."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)


@cache
def _key(number: int) -> Any:
    from glasshell.crypto.signatures import PrivateKey

    return PrivateKey(_handle(number))


def _pem(number: int) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    made: bytes = _handle(number).private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    return made


def _line(number: int) -> str:
    import base64

    public = _key(number).public
    return f"{public.type} {base64.b64encode(public.blob).decode()}"


ROLES: Final[dict[tuple[str, str], Callable[[list[str]], Any]]] = {
    ("serve", "glasshell"): serve_ours,
    ("serve", "asyncssh"): serve_asyncssh,
    ("hold", "glasshell"): hold_ours,
    ("hold", "asyncssh"): hold_asyncssh,
    ("log", "in"): log_in,
}


if __name__ == "__main__":
    main()
