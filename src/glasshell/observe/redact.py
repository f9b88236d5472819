"""Secrets leave a payload before any sink sees it. What is secret, the declarations say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from ..messages import CATALOGUE, GENERIC, Shown, describe, family, may_hide

LENGTH: Final = 4
"""Bytes before the content of a string: its length, which stays."""

HARMLESS: Final = frozenset(range(256)) - {
    number
    for number in range(256)
    if family(number) == "auth"
    or may_hide(number)
    or any(cls.SECRET for (_, declared), cls in CATALOGUE.items() if declared == number)
}
"""The numbers that carry no secret in any context, known or not."""


def redact(payload: bytes, context: str = GENERIC) -> bytes:
    """`payload` with the content of its secret fields overwritten by zeros, at the same length.

    A payload that holds no secret is returned as it is. One that may hold a secret and cannot be
    parsed to its last byte keeps its message number only: the secret may be anywhere in it. The same
    goes for the body of an authentication method that is not known. Raises nothing.
    """
    if not payload or payload[0] in HARMLESS or not may_hide(payload[0], context):
        return payload
    wiped = bytearray(payload)
    for start, end in _secret_spans(describe(payload, context)):
        wiped[start:end] = bytes(end - start)
    return bytes(wiped)


def _secret_spans(fields: Iterable[Shown]) -> Iterator[tuple[int, int]]:
    for field in fields:
        if field.name == "unparsed":
            yield 1, field.end
        elif field.children:
            yield from _secret_spans(field.children)
        elif field.secret:
            yield field.start + (LENGTH if field.type == "string" else 0), field.end
