"""The key exchanges of a captured connection: which one is under way, and the keys that come of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from ..crypto import readonly
from ..crypto.compression import Decompressor
from ..crypto.registry import Kind
from ..errors import NegotiationFailed
from ..events import Negotiated
from ..transport.rules import Role
from . import hostkey
from .kex import CLIENT_NUMBERS, SERVER_NUMBERS, Kex
from .kexinit import marked_role, read_offer
from .keylog import KeyLog
from .side import Mode, Side, walker
from .telling import NOWHERE, Frames, Teller

if TYPE_CHECKING:
    from .upper import Upper

_CHACHA: Final = "chacha20-poly1305"
MAX_TEXT: Final = 400
"""Longest sentence of an error, in characters."""


class Exchanges:
    """Follows KEXINIT, the method's messages and NEWKEYS of both directions."""

    def __init__(
        self, tell: Teller, sides: Mapping[bool, Side], keys: KeyLog | None,
        receive: Callable[[Side, bytes, float, int], None],
    ) -> None:  # fmt: skip
        self._tell = tell
        self._sides = sides
        self._keys = keys
        self._receive = receive
        self._upper: Upper | None = None
        self._current: Kex | None = None
        self._session_id: bytes | None = None
        self._strict = False
        self._begun = 0

    def _role(self, side: Side) -> Role:
        return "client" if side.forward is self._tell.client else "server"

    def _idents(self) -> tuple[bytes, bytes]:
        client = self._sides[bool(self._tell.client)].ident
        server = self._sides[not self._tell.client].ident
        return client.line if client else b"", server.line if server else b""

    # --- KEXINIT

    def on_kexinit(self, side: Side, payload: bytes, time: float, at: Frames) -> Role | None:
        """One side's offer; returns who the sender is where the offer gives it away."""
        offer = read_offer(payload)
        kex = self._current
        if kex is None or side.forward in kex.offered:
            kex = self._current = Kex(first=self._begun == 0)
            self._begun += 1
            first = kex.first
            self._tell.late(
                time, at, side.forward,
                lambda sent: (
                    "kex_started", {"first": first, "by": "us" if sent else "peer", "reason": ""}
                ),
            )  # fmt: skip
        kex.offered.add(side.forward)
        side.kex, side.offer = kex, offer
        if offer is None:
            kex.incomplete = True
            return None
        self._tell.late(
            time, at, side.forward,
            lambda sent: (
                "hassh", dict(zip(("hash", "algorithms"), offer.hassh("client" if sent else "server"),
                                  strict=True)),
            ),
        )  # fmt: skip
        if self._tell.client is not None:
            self._offer(side, time, at)
        return marked_role(offer) if kex.first else None

    def roles_known(self, time: float) -> None:
        """Now the offers have owners."""
        for side in self._sides.values():
            self._offer(side, time, NOWHERE)

    def _offer(self, side: Side, time: float, at: Frames) -> None:
        kex, offer = side.kex, side.offer
        if kex is None or offer is None:
            return
        side.offer = None
        kex.offers[self._role(side)] = offer
        if kex.both_offers:
            self._negotiate(kex, time, at)

    def _negotiate(self, kex: Kex, time: float, at: Frames) -> None:
        try:
            n = kex.negotiate()
        except NegotiationFailed as error:
            said = {"text": _short(str(error)), "hint": _short(error.hint), "clause": error.clause}
            self._tell.state("error", time, at, type="NegotiationFailed", **said)
            return
        if kex.first:
            self._strict = n.strict
        n.strict = self._strict
        ext_info = "ext-info-s" in kex.offers["server"].message.kex_algorithms
        self._tell.state(
            "negotiated", time, at, kex=n.kex, host_key=n.host_key, cipher_c2s=n.cipher_c2s,
            cipher_s2c=n.cipher_s2c, mac_c2s=n.mac_c2s, mac_s2c=n.mac_s2c, compression_c2s=n.compression_c2s,
            compression_s2c=n.compression_s2c, strict=n.strict, ext_info=ext_info, guess=kex.guess,
            why=dict(n.why), hash=kex.row.hash_name if kex.row else "",
        )  # fmt: skip
        if kex.first:
            exposed = [] if n.strict else exposed_to_terrapin(n)
            self._tell.state("terrapin", time, at, exposed=bool(exposed), by=tuple(exposed), strict=n.strict)

    # --- the method's own messages

    def client_by_number(self, side: Side, number: int, otherwise: bool) -> bool:
        """Whether the sender of the first frame is the client, by who sends this number."""
        if number in CLIENT_NUMBERS:
            return side.forward
        return not side.forward if number in SERVER_NUMBERS else otherwise

    def context(self, side: Side) -> str:
        """What the numbers 30 to 49 mean from this side."""
        return side.kex.context(self._role(side)) if side.kex else ""

    def on_method(self, side: Side, payload: bytes, context: str, time: float, at: Frames) -> None:
        """One message of the method; with the last one the keys are known, or why there are none."""
        kex = side.kex
        if kex is None:
            return
        before = kex.host_key
        kex.take(self._role(side), payload, context)
        if kex.host_key and not before:
            self._resolve(kex)
            key_type, bits, fingerprint = hostkey.describe(kex.host_key)
            algorithm = kex.negotiated.host_key if kex.negotiated else ""
            self._tell.state(
                "host_key", time, at, side.forward, kex.verified, type=key_type, algorithm=algorithm,
                fingerprint=fingerprint, bits=bits,
            )  # fmt: skip
        if kex.complete:
            self._resolve(kex)
            for each in self._sides.values():
                if each.kex is kex and each.mode is Mode.HELD:
                    self._install(each, kex, time)

    def _resolve(self, kex: Kex) -> None:
        if kex.keys is None and kex.complete:
            kex.resolve(self._idents(), self._keys, self._session_id)
            if kex.keys is not None:
                self._session_id = kex.keys.session_id

    # --- NEWKEYS

    def on_newkeys(self, side: Side, time: float, at: Frames, upper: Upper) -> None:
        """From the next packet on this side uses the new keys."""
        self._upper = upper
        kex = side.kex
        side.epoch += 1
        seq, sent = side.inbound.seq, side.forward is self._tell.client
        self._tell.state(
            "keys_installed", time, at, side.forward, sent=sent, epoch=side.epoch, seq_reset=self._strict,
            seq=seq, bytes=0,
        )  # fmt: skip
        if kex is None:
            self.seal(side, "its key exchange is not in the capture", time)
            return
        kex.installed.add(side.forward)
        if len(kex.installed) == 2:
            self._tell.state("kex_done", time, at, first=kex.first)
            if self._current is kex:
                self._current = None
        if kex.keys is None and self._may_come(kex):
            side.mode = Mode.HELD
            rest = side.inbound.rest()
            if rest:
                side.hold(rest, time, at[1])
            return
        self._install(side, kex, time)

    def _may_come(self, kex: Kex) -> bool:
        """Whether the other direction may still show what the keys are made of (it is a little behind)."""
        if kex.complete or kex.incomplete or self._keys is None:
            return False
        cookies = [offer.message.cookie for offer in kex.offers.values()]
        return bool(self._keys.find(*cookies)) and any(
            side.mode is Mode.PACKETS and not side.ended for side in self._sides.values() if side.kex is kex
        )

    def _install(self, side: Side, kex: Kex, time: float) -> None:
        if kex.keys is None and not kex.why_not:
            kex.resolve(self._idents(), self._keys, self._session_id)
        if kex.keys is None:
            self.seal(side, kex.why_not, time)
            return
        role = self._role(side)
        rows, n = kex.keys.rows(role), kex.keys.negotiated
        opener = readonly.make_opener(*rows, *kex.keys.secrets(role))
        side.inbound.install(opener, reset_seq=self._strict)
        side.cipher, side.kex = rows[0].name, None
        name = n.compression_c2s if role == "client" else n.compression_s2c
        assert self._upper is not None
        self._upper.compression[side.forward] = name
        row = readonly.find(Kind.COMPRESSION, name)
        begins = row is not None and row.decompressor and (self._upper.authenticated or not row.delayed)
        side.inbound.decompressor = Decompressor() if begins else None
        held = side.mode is Mode.HELD
        side.mode = Mode.PACKETS
        if held:
            side.release(lambda data, when, frame: self._receive(side, data, when, frame))

    def seal(self, side: Side, why: str, time: float) -> None:
        """This direction cannot be read; what can be told without keys is told from here on."""
        kex = side.kex
        if kex is None or not kex.told:
            self._tell.state("not_decrypted", time, NOWHERE, None, why=why, epoch=side.epoch)
        if kex is not None:
            kex.told = True
        rest, frame = side.inbound.rest(), side.first_frame
        side.mode = Mode.SEALED
        role, n = self._role(side), kex.negotiated if kex else None
        if n is not None:
            cipher = readonly.find(Kind.CIPHER, n.cipher_c2s if role == "client" else n.cipher_s2c)
            mac = readonly.find(Kind.MAC, n.mac_c2s if role == "client" else n.mac_s2c)
            side.walker = walker(cipher, mac)
            assert self._upper is not None
            self._upper.seal(side, cipher, mac, n.compression_s2c)
        side.kex = None
        side.release(lambda data, when, at: self._receive(side, data, when, at))
        if rest:
            self._receive(side, rest, time, frame)

    def finish(self, time: float) -> None:
        """Nothing more comes: what waited for keys stays sealed."""
        for side in self._sides.values():
            if side.mode is Mode.HELD:
                self.seal(side, "a part of the key exchange is missing", time)


def _short(text: str) -> str:
    """A sentence that may repeat a list of a thousand names, for people."""
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"


def exposed_to_terrapin(n: Negotiated) -> list[str]:
    """What makes the connection open to CVE-2023-48795, where key exchange is not strict.

    chacha20-poly1305 and CBC with encrypt-then-MAC are exploitable; CTR with it only breaks the connection.
    """
    found = []
    for cipher, mac in ((n.cipher_c2s, n.mac_c2s), (n.cipher_s2c, n.mac_s2c)):
        if cipher.startswith(_CHACHA):
            found.append(cipher)
        elif cipher.endswith("-cbc") and "-etm@" in mac:
            found.append(f"{cipher} with {mac}")
    return list(dict.fromkeys(found))
