"""An error as people see it: one sentence, a hint, and the exit status."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from ..errors import AuthenticationFailed, ConfigError, SSHError
from ..wire import visible

__all__ = ["FAILED", "lines", "report", "tried"]

FAILED = 255
"""ssh(1): the exit status of its own errors, which no remote command shares by custom."""


def report(error: SSHError, program: str = "") -> int:
    """Writes the error to standard error; returns `FAILED`."""
    name = f"glasshell {program}: " if program else ""
    for line in lines(error):
        print(f"{name}{line}", file=sys.stderr)
        name = ""
    return FAILED


def lines(error: SSHError) -> Iterator[str]:
    """The sentence, what belongs to it, the hint, then what was tried."""
    yield visible(str(error))
    if isinstance(error, ConfigError):
        if error.line:
            yield f"    {visible(error.line)}"
        yield from map(visible, error.more)
    if error.hint:
        yield f"  hint: {visible(error.hint)}"
    yield from tried(error)


def tried(error: SSHError) -> Iterator[str]:
    """What a login that failed was tried with, in order, and what became of each."""
    if isinstance(error, AuthenticationFailed):
        for attempt in error.attempts:
            if attempt.method != "none":
                what = " ".join(filter(None, (attempt.method, attempt.identity, attempt.source)))
                yield f"  {visible(what)}: {visible(attempt.answer)}"
                if attempt.note:
                    yield f"    {visible(attempt.note)}"
