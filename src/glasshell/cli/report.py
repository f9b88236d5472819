"""An error as people see it: one sentence, a hint, and the exit status."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ..errors import AuthenticationFailed, ConfigError, SSHError
from ..wire import visible

if TYPE_CHECKING:
    from ..config.client_options import ClientOptions

__all__ = ["FAILED", "key_places", "lines", "report", "tried"]

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


def tried(error: SSHError, places: Mapping[str, str] | None = None) -> Iterator[str]:
    """What a login that failed was tried with, in order, and what became of each; then what is left.

    `places` says of a file of keys where the configuration names it.
    """
    if isinstance(error, AuthenticationFailed):
        for attempt in error.attempts:
            if attempt.method != "none":
                place = "agent" if "agent" in attempt.origin else (places or {}).get(attempt.source, "")
                source = f"{attempt.source} ({place})" if place else attempt.source
                what = " ".join(filter(None, (attempt.method, attempt.identity, source)))
                answer = attempt.answer
                if answer == "partial":
                    answer = f"accepted; the server still asked for {','.join(attempt.methods)}"
                yield f"  {visible(what)}: {visible(answer)}"
                if attempt.note:
                    yield f"    {visible(attempt.note)}"
        if error.attempts and error.methods:
            yield f"  the server would still take: {visible(', '.join(error.methods))}"


def key_places(options: ClientOptions) -> dict[str, str]:
    """Of each file of keys the file and line that names it, where that can be told."""
    found: dict[str, str] = {}
    for name in ("identity_files", "certificate_file"):
        files, places = getattr(options, name) or (), options.sources.get(name, "").split(", ")
        if len(files) == len(places):
            found |= dict(zip(files, places, strict=True))
    return found
