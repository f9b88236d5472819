"""How the programs of `glasshell sshd` and their channels are joined."""

from __future__ import annotations

import asyncio
import os

import pytest

from glasshell.aio.streams import Writer
from glasshell.system.children import Exit
from tests.aio.kit import run

pytest.importorskip("pty")


def test_a_terminal_that_somebody_else_still_holds_ends_with_its_program() -> None:
    """`trap '' HUP; sleep 1000 & exit`: sshd logs out, and does not wait for the sleep."""
    from glasshell.aio.shellserver import _copy

    async def main() -> None:
        master, slave = os.openpty()
        os.set_blocking(master, False)
        got = bytearray()
        came = asyncio.Event()

        def take(data: memoryview) -> int:
            got.extend(data)
            came.set()
            return len(data)

        ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        copying = asyncio.ensure_future(_copy(master, Writer(take, lambda: None), ended))
        os.write(slave, b"early\n")
        await came.wait()
        assert not copying.done()
        os.write(slave, b"the last words\n")
        ended.set_result(Exit(0))
        await asyncio.wait_for(copying, 5)
        assert bytes(got) == b"early\r\nthe last words\r\n"
        os.close(slave)
        os.close(master)

    run(main())
