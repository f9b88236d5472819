"""The catalogue: every message of the protocol, declared once, one file per layer."""

from __future__ import annotations

from . import auth, blobs, connection, kex, transport
from .declare import (
    CATALOGUE,
    GENERIC,
    SUBSYSTEMS,
    Message,
    Shown,
    Struct,
    UnknownMessage,
    code_name,
    decode,
    describe,
    family,
    lookup,
    may_hide,
    message_name,
)

__all__ = [
    "CATALOGUE", "GENERIC", "SUBSYSTEMS", "Message", "Shown", "Struct", "UnknownMessage", "auth",
    "blobs", "code_name", "connection", "decode", "describe", "family", "kex", "lookup", "may_hide",
    "message_name", "transport",
]  # fmt: skip
