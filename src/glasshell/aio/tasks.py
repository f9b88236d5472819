"""Deadlines that say what was late, and tasks that end together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from ..errors import DeadlineExceeded

__all__ = ["deadline", "together"]


@asynccontextmanager
async def deadline(seconds: float | None, what: str) -> AsyncIterator[None]:
    """Cancels the block after `seconds` and raises DeadlineExceeded, which names `what`; None: no limit.

    A TimeoutError of the block's own (the kernel's ETIMEDOUT is one) passes through unchanged.
    """
    scope = asyncio.timeout(seconds)
    try:
        async with scope:
            yield
    except TimeoutError as error:
        if not scope.expired():
            raise
        raise DeadlineExceeded(f"{what} was not done within {seconds:g} seconds") from error


async def together(*works: Coroutine[Any, Any, Any]) -> list[Any]:
    """The results of all; where one raises the others are cancelled, and its error is raised as it is."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
