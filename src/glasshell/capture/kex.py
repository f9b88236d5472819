"""One key exchange as a capture shows it, and the keys that a key log makes of it.

RFC 4253 §8: H is a hash of what both sides have sent, all of which is in clear in the first exchange, and
of K, which is not. K comes from the key log, or from a private value in it and the other side's public one.
"""

from __future__ import annotations

from typing import Any, Final

from .. import wire
from ..crypto import readonly
from ..crypto.groups import Group
from ..crypto.registry import KexAlgorithm, Kind
from ..errors import CryptoError, MalformedMessage, ProtocolViolation, UsageError
from ..events import Negotiated
from ..messages.declare import GENERIC, lookup
from ..messages.kex import KexDhGexGroup, KexDhGexRequest, KexDhGexRequestOld
from ..transport.exchange import FAMILIES, Keys, Transcript, exchange_hash
from ..transport.negotiate import guess_is_right, negotiate
from ..transport.rules import Role
from ..wire import Secret
from .hostkey import verify
from .kexinit import Offer
from .keylog import KeyLog, Logged

MAX_PRIVATE: Final = 1024
"""Longest private value that is computed with, in bytes: as long as the largest group."""

MAX_GROUP: Final = 8192
"""Largest group of a group exchange that is computed with, in bits (RFC 4419 §3): of twice as many, each
secret of a key log would take seconds."""

CLIENT_NUMBERS: Final = frozenset({30, 32, 34})
SERVER_NUMBERS: Final = frozenset({31, 33})
"""Who sends which number of a key exchange method (RFC 4253 §8, RFC 4419 §3, RFC 5656 §4)."""


class Kex:
    """What one key exchange has shown so far."""

    def __init__(self, *, first: bool) -> None:
        self.first = first
        self.offers: dict[Role, Offer] = {}
        self.negotiated: Negotiated | None = None
        self.row: KexAlgorithm | None = None
        self.guess = ""
        self.host_key = b""
        self.signature = b""
        self.keys: Keys | None = None
        self.verified: bool | None = None
        """Whether the host key's signature of H was checked, and is right."""
        self.why_not = ""
        """Why there are no keys."""
        self.offered: set[bool] = set()
        """The directions whose KEXINIT was seen."""
        self.installed: set[bool] = set()
        """The directions whose NEWKEYS was seen."""
        self.told = False
        """It has been said why there are no keys."""
        self.incomplete = False
        """Something of it is not in the capture."""
        self._skip: Role | None = None
        """Whose next message is a wrong guess."""
        self._early: set[Role] = set()
        """Who sent a message of the method before both had offered: a guess."""
        self._gex = b""
        self._group: Group | None = None
        self._public: dict[Role, bytes] = {}

    @property
    def both_offers(self) -> bool:
        """Whether both KEXINITs are there."""
        return len(self.offers) == 2

    @property
    def complete(self) -> bool:
        """Whether everything that H is made of is there."""
        return self.negotiated is not None and bool(self.host_key) and len(self._public) == 2

    def negotiate(self) -> Negotiated:
        """What the two KEXINITs agree on. Raises NegotiationFailed."""
        client, server = self.offers["client"].message, self.offers["server"].message
        chosen = negotiate(client, server, "client", first=self.first, aead=readonly.is_aead)
        self.negotiated = chosen
        self.row = readonly.find(Kind.KEX, chosen.kex)
        for role, offer in (("client", client), ("server", server)):
            if offer.first_kex_packet_follows:
                right = guess_is_right(client, server)
                self.guess = "right" if right else "wrong"
                if not right:
                    self._wrong_guess(role)  # type: ignore[arg-type]
        return chosen

    def _wrong_guess(self, role: Role) -> None:
        """The packet after this side's KEXINIT does not count, be it there already or not (RFC 4253 §7)."""
        if role in self._early:
            self._public.pop(role, None)
            self._gex = b""
        else:
            self._skip = role

    def context(self, role: Role) -> str:
        """What the numbers 30 to 49 from `role` mean now; its own first choice until both have offered."""
        row = self.row
        if self.negotiated is None or self._skip == role:
            offer = self.offers.get(role)
            names = offer.message.kex_algorithms[:1] if offer else ()
            row = readonly.find(Kind.KEX, names[0]) if names else None
        return row.context if row is not None else GENERIC

    def take(self, role: Role, payload: bytes, context: str) -> None:
        """One message of the method."""
        if self._skip == role:
            self._skip = None
            return
        if self.negotiated is None:
            self._early.add(role)
        found = lookup(context, payload[0])
        if found is None or context not in FAMILIES:
            return
        try:
            message: Any = found.decode(payload)
        except MalformedMessage:
            self.incomplete = True
            return
        self._read(role, message, FAMILIES[context])
        if isinstance(message, KexDhGexRequest | KexDhGexRequestOld):
            self._gex = payload[1:]
        elif isinstance(message, KexDhGexGroup):
            self._gex += payload[1:]
            self._group = Group(message.p, message.g)

    def _read(self, role: Role, message: Any, family: Any) -> None:
        if isinstance(message, family.init):
            self._public["client"] = _octets(getattr(message, family.q_c))
        elif isinstance(message, family.reply):
            self._public["server"] = _octets(getattr(message, family.q_s))
            self.host_key, self.signature = message.host_key, message.signature

    # --- keys

    def resolve(self, idents: tuple[bytes, bytes], log: KeyLog | None, session_id: bytes | None) -> None:
        """Tries to make the keys; `why_not` says why there are none."""
        cookies = [offer.message.cookie for offer in self.offers.values()]
        named = " nor ".join(cookie.hex() for cookie in cookies) or "(no KEXINIT seen)"
        secrets = log.find(*cookies) if log is not None else []
        if self.negotiated is None:
            self.why_not = "the algorithms are not known: a KEXINIT is missing"
        elif self.row is None:
            self.why_not = f"the key exchange {self.negotiated.kex} is not known"
        elif missing := self._unknown_rows(self.negotiated):
            self.why_not = f"{missing} is not known"
        elif not secrets:
            self.why_not = f"no key for cookie {named}" if log is not None and len(log) else "no keys given"
        elif not self.complete:
            self.why_not = "a part of the key exchange is missing"
        elif self.first is False and session_id is None:
            self.why_not = "the first key exchange, which names the session, has no keys"
        else:
            self._try(secrets, idents, session_id)

    def _unknown_rows(self, n: Negotiated) -> str:
        for kind, names in (
            (Kind.CIPHER, (n.cipher_c2s, n.cipher_s2c)),
            (Kind.MAC, (n.mac_c2s, n.mac_s2c)),
            (Kind.COMPRESSION, (n.compression_c2s, n.compression_s2c)),
        ):
            for name in names:
                if not name.startswith("<") and readonly.find(kind, name) is None:
                    return f"the {kind.value} {name}"
        return ""

    def _try(self, secrets: list[Logged], idents: tuple[bytes, bytes], session_id: bytes | None) -> None:
        assert self.row is not None
        assert self.negotiated is not None
        offers = self.offers
        transcript = Transcript(
            v_c=idents[0], v_s=idents[1], i_c=offers["client"].payload, i_s=offers["server"].payload
        )
        reasons = []
        for secret in secrets:
            k = self._k(secret)
            if k is None:
                reasons.append(f"{secret.source}: the {secret.label} does not fit {self.row.name}")
                continue
            public = self._public["client"], self._public["server"]
            h = exchange_hash(self.row.hash_name, transcript, self.host_key, self._gex, *public, k)
            checked = verify(self.host_key, self.negotiated.host_key, self.signature, h)
            if checked is False:
                reasons.append(f"{secret.source}: with this secret the host's signature does not verify")
                continue
            find = readonly.find
            self.keys = Keys(self.row.hash_name, k, h, session_id or h, self.negotiated, find)
            self.verified = checked
            return
        self.why_not = "; ".join(reasons[:3])

    def _k(self, secret: Logged) -> Secret | None:
        """K as it enters the exchange hash."""
        assert self.row is not None
        raw = secret.value.reveal()
        if secret.label == "SHARED_SECRET":
            if self.row.secret == "string":
                return Secret(wire.string(raw))
            return Secret(wire.mpint(int.from_bytes(raw, "big"))) if len(raw) <= wire.MAX_MPINT else None
        if len(raw) > MAX_PRIVATE or (self._group and self._group.p.bit_length() > MAX_GROUP):
            return None
        try:
            ours = readonly.agreement(self.row.name, raw, self._group)
            if ours is None:
                return None
            client, server = self._public["client"], self._public["server"]
            if ours.public == client:
                return readonly.settle(ours, server)
            return readonly.settle(ours, client) if ours.public == server else None
        except (ValueError, CryptoError, ProtocolViolation, UsageError):
            return None


def _octets(value: int | bytes) -> bytes:
    return wire.mpint_body(value) if isinstance(value, int) else value


