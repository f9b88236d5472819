"""allowed_signers: whose signatures of files count (ssh-keygen(1), ALLOWED SIGNERS).

    principal,pattern  [cert-authority,namespaces="...",valid-after="...",valid-before="..."]  type  base64

An option that is not known, or cannot be read, takes its line with it.
"""

from __future__ import annotations

import re
from typing import Any, Final

from ..crypto.signatures import CERTIFIED, KEY_TYPES, PublicKey
from ..errors import KeyFormatError
from ..values import replace, slotted
from ..wire import visible
from .patterns import match_pattern
from .public import BLANKS, AnyKey, as_text, parse_any_key, split_word
from .times import parse_time, show_time

__all__ = ["AllowedSigners", "Answer", "Signer"]

MAX_BYTES: Final = 16 << 20
"""Largest file taken, in bytes."""


@slotted(frozen=True)
class Signer:
    """One line. `after` and `before` are epoch seconds, 0 where there is no bound; `reason` says what is
    wrong with a line that cannot be used."""

    where: str
    principals: str
    key: AnyKey | None = None
    authority: bool = False
    namespaces: str = ""
    after: int = 0
    before: int = 0
    reason: str = ""

    def names(self, principal: str) -> bool:
        """Whether the line is about this principal; capitals count."""
        return _match(principal, self.principals)


@slotted(frozen=True)
class Answer:
    """Whom the file names: `principals` is empty where nobody; `complaints` say why lines did not count."""

    principals: tuple[str, ...]
    complaints: tuple[str, ...]


class AllowedSigners:
    """The lines of an allowed_signers file."""

    __slots__ = ("signers",)

    def __init__(self, signers: tuple[Signer, ...]) -> None:
        self.signers = signers

    @classmethod
    def parse(cls, data: bytes, source: str = "allowed_signers") -> AllowedSigners:
        """Reads a file. A line that cannot be read is kept with its reason; raises KeyFormatError for a file
        that is too large."""
        if len(data) > MAX_BYTES:
            raise KeyFormatError(f"{visible(source)}: {len(data)} bytes; {MAX_BYTES} are allowed")
        signers = []
        for number, raw in enumerate(as_text(data).split("\n"), 1):
            line = raw.strip(BLANKS + "\r")
            if line and line[0] != "#":
                signers.append(_parse_line(line, f"{source}:{number}"))
        return cls(tuple(signers))

    def check(self, key: AnyKey, principal: str, namespace: str, now: float) -> Answer:
        """Whether `key` may sign as `principal` for `namespace` at `now` (epoch seconds).

        A certificate counts where the line is of its authority and it is for that principal.
        """
        complaints: list[str] = []
        for signer in self.signers:
            if not signer.names(principal):
                continue
            reason = _unfit(signer, key, principal, namespace, now)
            if reason == "":
                return Answer((principal,), tuple(complaints))
            if reason is not None:
                complaints.append(f"{signer.where}: {reason}")
        return Answer((), tuple(complaints))

    def find(self, key: AnyKey, now: float) -> Answer:
        """As whom `key` may sign at `now`: the principals of the first line that fits."""
        complaints: list[str] = []
        for signer in self.signers:
            reason = _unfit(signer, key, None, None, now)
            if reason == "":
                names = _principals(signer, key)
                if names:
                    return Answer(names, tuple(complaints))
                reason = "no valid principals found"
            if reason is not None:
                complaints.append(f"{signer.where}: {reason}")
        return Answer((), tuple(complaints))

    def match(self, principal: str) -> tuple[Signer, ...]:
        """The lines that are about `principal`. Raises KeyFormatError for one of them that cannot be read."""
        found = tuple(signer for signer in self.signers if signer.names(principal))
        for signer in found:
            if signer.reason:
                raise KeyFormatError(f"{signer.where}: {signer.reason}")
        return found


def _match(text: str, patterns: str) -> bool:
    """As `match_list`, but capitals count: principals and namespaces are no host names."""
    found = False
    for pattern in patterns.split(","):
        negated = pattern.startswith("!")
        if match_pattern(text, pattern[negated:]):
            if negated:
                return False
            found = True
    return found


def _unfit(
    signer: Signer, key: AnyKey, principal: str | None, namespace: str | None, now: float
) -> str | None:
    """Why the line does not let `key` sign; empty where it does, None where it is about another key."""
    if signer.key is None:
        return signer.reason
    if signer.authority:
        if isinstance(key, PublicKey) or key.authority != signer.key.plain:
            return None
        reason = key.objection("user", principal, now)
        if reason:
            return f"certificate not authorized: {reason}"
    elif signer.key.blob != key.blob:
        return None
    if namespace is not None and signer.namespaces and not _match(namespace, signer.namespaces):
        return f'key is not permitted for use in signature namespace "{visible(namespace)}"'
    if signer.after and now < signer.after:
        return f"key is not yet valid: verify time {show_time(now)} < valid-after {show_time(signer.after)}"
    if signer.before and now > signer.before:
        return f"key has expired: verify time {show_time(now)} > valid-before {show_time(signer.before)}"
    return ""


def _principals(signer: Signer, key: AnyKey) -> tuple[str, ...]:
    patterns = tuple(signer.principals.split(","))
    if not signer.authority or isinstance(key, PublicKey):
        return patterns
    return tuple(name for pattern in patterns for name in key.principals if match_pattern(name, pattern))


# ---- one line


def _parse_line(line: str, where: str) -> Signer:
    principals, rest = _quoted(line) if line.startswith('"') else split_word(line)
    signer = Signer(where, principals)
    try:
        return _parse_key(signer, rest)
    except KeyFormatError as error:
        return replace(signer, key=None, reason=str(error))


def _quoted(line: str) -> tuple[str, str]:
    inside, _, rest = line[1:].partition('"')
    return inside, rest.lstrip(BLANKS)


def _parse_key(signer: Signer, text: str) -> Signer:
    word, rest = split_word(text)
    if not word:
        raise KeyFormatError("invalid line")
    if word not in KEY_TYPES and word not in CERTIFIED:
        signer, text = _parse_options(signer, text)
        word, rest = split_word(text)
        if not word:
            raise KeyFormatError("missing key")
    encoded, _ = split_word(rest)
    try:
        return replace(signer, key=parse_any_key(word, encoded))
    except KeyFormatError as error:
        raise KeyFormatError(f"invalid key: {error}") from None


_OPTION: Final = re.compile(r'([A-Za-z-]+)(?:=("(?:\\"|[^"])*+"))?(?=[, \t]|\Z)')


def _parse_options(signer: Signer, text: str) -> tuple[Signer, str]:
    changes: dict[str, Any] = {}
    pos = 0
    while match := _OPTION.match(text, pos):
        name, value = match[1].lower(), match[2]
        given = None if value is None else value[1:-1].replace('\\"', '"')
        field = {"namespaces": "namespaces", "valid-after": "after", "valid-before": "before"}.get(name)
        if name == "cert-authority" and given is None:
            changes["authority"] = True
        elif field is None or given is None:
            raise KeyFormatError("bad options: unknown key option")
        elif field in changes:
            raise KeyFormatError(f'bad options: multiple "{name}" clauses')
        else:
            changes[field] = given if field == "namespaces" else _time(name, given)
        pos = match.end()
        if text[pos : pos + 1] != ",":
            break
        pos += 1
    if not changes or text[pos - 1] == ",":
        raise KeyFormatError("invalid key, or bad options: unknown key option")
    if changes.get("namespaces") == "":
        raise KeyFormatError("bad options: an empty list of namespaces")
    if changes.get("after") and changes.get("before", changes["after"] + 1) <= changes["after"]:
        raise KeyFormatError('bad options: "valid-before" time is before "valid-after"')
    return replace(signer, **changes), text[pos:]


def _time(name: str, value: str) -> int:
    try:
        moment = parse_time(value)
    except KeyFormatError:
        moment = 0
    if moment <= 0:
        raise KeyFormatError(f'bad options: invalid "{name}" time')
    return moment
