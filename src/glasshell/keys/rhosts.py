"""hosts.equiv and .shosts: which users of which hosts may come in (hosts.equiv(5), as OpenSSH reads it).

    host [user]        # "-" before either refuses; "+" before either means nothing; netgroups begin with "@"

The first line that fits decides. A bare "+", which would mean everybody, never counts.
"""

from __future__ import annotations

from ..values import slotted
from .public import as_text

__all__ = ["Line", "admits", "parse_rhosts"]

MAX_LINE = 1024
"""Longest line that is read, in characters."""


@slotted(frozen=True)
class Line:
    """One line: `host` and `user` without their signs; an empty `user` is the one who logs in."""

    number: int
    host: str
    user: str
    negated: bool


def parse_rhosts(data: bytes) -> tuple[Line, ...]:
    """The lines that mean something. Never raises; what cannot be understood is passed over."""
    lines = []
    for number, raw in enumerate(as_text(data).split("\n"), 1):
        words = raw.split()
        if not words or words[0].startswith("#") or words[0].startswith("NO_PLUS"):
            continue
        if len(words) > 2 or len(raw) > MAX_LINE:
            continue
        host, user = words[0], words[1] if len(words) > 1 else ""
        negated = host[0] == "-" or user[:1] == "-"
        bare_host = host[1:] if host[0] in "+-" else host
        bare_user = user[1:] if user[:1] in ("+", "-") else user
        if bare_host and (bare_user or not user):
            lines.append(Line(number, bare_host, bare_user, negated))
    return tuple(lines)


def admits(lines: tuple[Line, ...], host: str, address: str, client_user: str, user: str) -> Line | None:
    """The line by which `client_user` of `host`, which has `address`, may be `user`; None: there is none.

    Who is in a netgroup is not known here: one that would admit admits nobody, one that refuses, everybody.
    """
    for line in lines:
        group = line.host.startswith("@") or line.user.startswith("@")
        if group and not line.negated:
            continue
        at_home = line.host.startswith("@") or line.host.lower() == host.lower() or line.host == address
        named = line.user.startswith("@") or (line.user or user) == client_user
        if at_home and named:
            return None if line.negated else line
    return None
