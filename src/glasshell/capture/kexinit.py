"""SSH_MSG_KEXINIT as a capture shows it, and the two fingerprints that are made of it.

HASSH (Salesforce, 2018): the MD5 of the name-lists of one side, as they stand on the wire:

    hassh        kex ; encryption, MAC and compression client to server    of the client's KEXINIT
    hasshServer  kex ; encryption, MAC and compression server to client    of the server's KEXINIT

Names that RFC 4251 §6 would not allow are taken as they are: they are what tells programs apart.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final

from ..errors import MalformedMessage
from ..messages.transport import KexInit
from ..transport.negotiate import EXT_INFO, STRICT
from ..transport.rules import Role
from ..wire import NameList, Reader

__all__ = ["Offer", "marked_role", "read_offer"]

_DIRECTION: Final[dict[Role, str]] = {"client": "client_to_server", "server": "server_to_client"}
MAX_NAMES: Final = 8192
"""Most names of one list that are looked at; what is left over cannot be agreed on."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One KEXINIT: `payload` as it enters the exchange hash, `lists` the name-lists as on the wire."""

    payload: bytes
    message: KexInit
    lists: dict[str, bytes]

    def hassh(self, role: Role) -> tuple[str, str]:
        """The fingerprint of the sender, who is `role`, and the text that it is the MD5 of."""
        kinds = ("encryption", "mac", "compression")
        fields = ["kex_algorithms", *(f"{kind}_algorithms_{_DIRECTION[role]}" for kind in kinds)]
        text = b";".join(self.lists[field] for field in fields)
        digest = hashlib.md5(text, usedforsecurity=False).hexdigest()
        return digest, text.decode("utf-8", "backslashreplace")


def read_offer(payload: bytes) -> Offer | None:
    """Reads a KEXINIT; None where it is cut short. The fields are those that the catalogue declares."""
    reader = Reader(payload, 1)
    values: dict[str, Any] = {}
    lists: dict[str, bytes] = {}
    try:
        for field in KexInit.FIELDS:
            if isinstance(field.type, NameList):
                raw = lists[field.name] = reader.string()
                names = raw.decode("latin-1").split(",", MAX_NAMES)[:MAX_NAMES] if raw else ()
                values[field.name] = tuple(names)
            else:
                values[field.name] = field.type.decode(reader)
    except MalformedMessage:
        return None
    return Offer(payload, KexInit(**values), lists)


def marked_role(offer: Offer) -> Role | None:
    """Who sent it, by the markers that only one side sends; None where there are none."""
    names = offer.message.kex_algorithms
    for role in ("client", "server"):
        if STRICT[role] in names or EXT_INFO[role] in names:
            return role
    return None
