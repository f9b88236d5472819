"""An error as people see it: one sentence, a hint, and the exit status."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from ..errors import AuthenticationFailed, NegotiationFailed, SSHError
from ..wire import visible

__all__ = ["FAILED", "lines", "report"]

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
    """The sentence, then what was tried or offered, then the hint."""
    yield visible(str(error))
    if isinstance(error, AuthenticationFailed):
        for attempt in error.attempts:
            what = " ".join(word for word in (attempt.method, attempt.identity, attempt.source) if word)
            yield f"  tried: {visible(what)}: {visible(attempt.answer)}"
    if isinstance(error, NegotiationFailed) and error.ours:
        yield f"  wanted: {','.join(error.ours)}"
    if error.hint:
        yield f"  hint: {visible(error.hint)}"
