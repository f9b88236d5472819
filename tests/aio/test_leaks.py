"""What a thousand connections leave behind: nothing. `make soak` asks the same of ten thousand."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections import Counter
from pathlib import Path

from glasshell.aio.server import Server
from glasshell.policy import Policy

from .kit import connecting, run, serving

CONNECTIONS = int(os.environ.get("GLASSHELL_SOAK", "1000"))
AT_ONCE = 20
GROWTH = 16 << 20
"""Bytes that the process may grow by meanwhile, however many they are: an allocator's fragments."""


def held() -> Counter[str]:
    """Objects of ours that are alive, by type."""
    gc.collect()
    names = (f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects())
    return Counter(name for name in names if name.startswith("glasshell."))


def test_nothing_is_left_of_a_thousand_connections() -> None:
    policy = Policy.client(kex=("curve25519-sha256",), login_grace=0)

    async def use(port: int) -> None:
        async with connecting(port, policy=policy) as connection:
            assert (await connection.run("exit 3")).status == 3

    async def rounds(port: int, count: int) -> None:
        for _ in range(0, count, AT_ONCE):
            await asyncio.gather(*(use(port) for _ in range(AT_ONCE)))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with serving() as server:
            await rounds(server.port, 10 * AT_ONCE)
            await emptied(server)
            size = resident()
            before = held(), descriptors(), threading.active_count(), len(asyncio.all_tasks())
            await rounds(server.port, CONNECTIONS)
            await emptied(server)
            after = held(), descriptors(), threading.active_count(), len(asyncio.all_tasks())
            grew = resident() - size
            print(f"{CONNECTIONS} connections: memory {size >> 10} KiB + {grew >> 10} KiB, {after[1:]}")  # noqa: T201
            assert after[1:] == before[1:]
            assert grew < GROWTH
            grown = {name: count - before[0][name] for name, count in after[0].items()}
            # A word of the last ones may still be on its way; what leaks comes a thousand times.
            assert {name: more for name, more in grown.items() if more > AT_ONCE} == {}
            assert len(getattr(loop, "_scheduled", ())) < 4 * AT_ONCE, "timers are left over"

    run(main(), seconds=max(120, CONNECTIONS // 5))


async def emptied(server: Server) -> None:
    """The server has heard the end of every connection."""
    while server.connections:  # noqa: ASYNC110
        await asyncio.sleep(0)


def descriptors() -> int:
    """How many files and sockets are open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def resident() -> int:
    """Bytes of memory that the process has."""
    pages = Path("/proc/self/statm").read_text("ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
