"""RFC 4253 §7-§9: one key exchange, from the two KEXINITs to the six keys.

Every method is a KEM: the client's public value, the server's answer, a shared secret. Group exchange
(RFC 4419) fetches its group first. An `Exchange` sends nothing and asks nobody: each call returns the
next steps, and the transport takes them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias

from .. import wire
from ..crypto import groups
from ..crypto.kdf import derive
from ..crypto.key_exchange import KeyExchange
from ..crypto.packet_ciphers import Opener, Sealer
from ..crypto.registry import KexAlgorithm, Kind, find, make_opener, make_sealer
from ..crypto.signatures import PublicKey, key_type_of, plain_algorithm
from ..errors import CryptoError, HostKeyRefused, KeyFormatError, ProtocolViolation
from ..events import Negotiated
from ..keys.public import AnyKey, read_key
from ..messages import kex as messages
from ..messages.declare import Message
from ..policy import Policy
from ..values import field, slotted
from ..wire import Secret
from .negotiate import IMPLICIT
from .rules import Role


@slotted(frozen=True)
class Send:
    """Step: send this message."""

    message: Message


@slotted(frozen=True)
class Trust:
    """Step: ask whether this host key is the server's, then call `trusted`."""

    key: AnyKey
    algorithm: str
    signature: bytes
    exchange_hash: bytes


@slotted(frozen=True)
class Sign:
    """Step: have `data` signed with the host key, then call `signed`.

    A certificate changes nothing for who signs: key and algorithm are the plain ones.
    """

    key: PublicKey
    algorithm: str
    data: bytes


@slotted(frozen=True)
class Log:
    """Step, only with `Exchange.log_keys`: tell whoever hears keys; each secret with its label."""

    secrets: tuple[tuple[str, Secret], ...]


@slotted(frozen=True)
class Done:
    """Step: the keys are there; send NEWKEYS and use them."""

    keys: Keys


Step: TypeAlias = Send | Trust | Sign | Log | Done


@slotted(frozen=True)
class Keys:
    """What a key exchange yields: K and H, from which the keys of each direction are derived (§7.2)."""

    hash_name: str
    k: Secret
    h: bytes
    session_id: bytes
    negotiated: Negotiated
    find: Callable[[Kind, str], Any] = find
    """Where the rows of cipher and MAC are looked up."""

    def sealer(self, sender: Role) -> Sealer:
        """What seals the packets that `sender` sends."""
        return make_sealer(*self.rows(sender), *self.secrets(sender))

    def opener(self, sender: Role) -> Opener:
        """What opens the packets that `sender` sends."""
        return make_opener(*self.rows(sender), *self.secrets(sender))

    def rows(self, sender: Role) -> tuple[Any, Any]:
        """The rows of the cipher and of the MAC, which is None where the cipher needs none."""
        n = self.negotiated
        cipher, mac = (n.cipher_c2s, n.mac_c2s) if sender == "client" else (n.cipher_s2c, n.mac_s2c)
        return self.find(Kind.CIPHER, cipher), None if mac == IMPLICIT else self.find(Kind.MAC, mac)

    def secrets(self, sender: Role) -> tuple[Secret, Secret, Secret]:
        """Key, IV and MAC key: letters C, A, E from the client, D, B, F from the server."""
        cipher, mac = self.rows(sender)
        key, iv, mac_key = b"CAE" if sender == "client" else b"DBF"
        sizes = ((key, cipher.key_size), (iv, cipher.iv_size), (mac_key, mac.key_size if mac else 0))
        made = [
            derive(self.hash_name, self.k, self.h, bytes((letter,)), self.session_id, size)
            for letter, size in sizes
        ]
        return made[0], made[1], made[2]


@slotted(frozen=True, kw_only=True)
class Transcript:
    """What both sides have seen before the method's own messages: V_C, V_S, I_C, I_S (§8)."""

    v_c: bytes
    v_s: bytes
    i_c: bytes
    i_s: bytes


def exchange_hash(
    hash_name: str, transcript: Transcript, host_key: bytes, gex: bytes, q_c: bytes, q_s: bytes, k: Secret
) -> bytes:
    """H (§8). `gex` is min || n || max || p || g of a group exchange, before e and f (RFC 4419 §3); an
    old client's request has n alone (§5). `k` is K with its length, as its method encodes it.
    """
    t = transcript
    seen = b"".join(map(wire.string, (t.v_c, t.v_s, t.i_c, t.i_s, host_key)))
    return hashlib.new(
        hash_name, seen + gex + wire.string(q_c) + wire.string(q_s) + k.reveal()
    ).digest()


@slotted(frozen=True)
class Family:
    """How the messages of one context carry the public values."""

    init: Any
    reply: Any
    q_c: str
    q_s: str


FAMILIES: Final[dict[str, Family]] = {
    "dh": Family(messages.KexDhInit, messages.KexDhReply, "e", "f"),
    "gex": Family(messages.KexDhGexInit, messages.KexDhGexReply, "e", "f"),
    "ecdh": Family(messages.KexEcdhInit, messages.KexEcdhReply, "q_c", "q_s"),
    "hybrid": Family(messages.KexHybridInit, messages.KexHybridReply, "q_c", "q_s"),
}

GEX_SIZES: Final = (groups.MIN_BITS, 3072, 4096)
"""Bits of the smallest, the preferred and the largest group a client takes (RFC 4419 §3).

Testing the primality of 8192 bits takes seconds, which a server could make us spend.
"""


_moduli: Final = lru_cache(maxsize=4)(groups.parse_moduli)
"""A file of half a megabyte is not parsed anew for every client that asks for a group."""


@slotted
class Exchange:
    """One run of a key exchange method, as `role`.

    `session_id` is that of the first exchange, None in the first; `host_key` the key that the first one
    proved, which a later one may not change. `host_keys` are the server's own. With `log_keys` the steps
    tell the exchange's secrets as well; without it nobody asks for them.
    """

    role: Role
    policy: Policy
    negotiated: Negotiated
    transcript: Transcript
    session_id: bytes | None = None
    host_key: AnyKey | None = None
    host_keys: Sequence[AnyKey] = ()
    log_keys: bool = False
    expected: int = 0
    """The number of the method's message that the peer must send next; 0: none."""
    _row: KexAlgorithm = field(init=False)
    _kem: KeyExchange | None = field(init=False, default=None)
    _gex: bytes = field(init=False, default=b"")
    """min || n || max || p || g of a group exchange, as they enter the exchange hash."""
    _q_c: bytes = field(init=False, default=b"")
    _q_s: bytes = field(init=False, default=b"")
    _keys: Keys | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._row = find(Kind.KEX, self.negotiated.kex)

    @property
    def context(self) -> str:
        """What gives the numbers 30-49 their meaning in this exchange."""
        return self._row.context

    @property
    def _family(self) -> Family:
        return FAMILIES[self._row.context]

    def start(self) -> list[Step]:
        """The first steps of our role."""
        if self.role == "server":
            gex = self.context == "gex"
            self.expected = messages.KexDhGexRequest.NUMBER if gex else self._family.init.NUMBER
            return []
        if self.context == "gex":
            self.expected = messages.KexDhGexGroup.NUMBER
            asked = messages.KexDhGexRequest(*GEX_SIZES)
            self._gex = asked.encode()[1:]
            return [Send(asked)]
        self._kem = self._row.factory()
        return self._send_init()

    def receive(self, payload: memoryview) -> list[Step]:
        """Takes the message whose number is `expected`. Raises PeerError or HostKeyRefused."""
        number, self.expected = self.expected, 0
        if self.context == "gex" and number == messages.KexDhGexRequest.NUMBER:
            return self._on_gex_request(messages.KexDhGexRequest.decode(payload))
        if self.context == "gex" and number == messages.KexDhGexGroup.NUMBER:
            return self._on_gex_group(messages.KexDhGexGroup.decode(payload))
        if self.role == "server":
            return self._on_init(payload)
        return self._on_reply(payload)

    def trusted(self) -> list[Step]:
        """The client's application trusts the host key."""
        assert self._keys is not None
        return [Done(self._keys)]

    def signed(self, signature: bytes) -> list[Step]:
        """The server's host key has signed the exchange hash."""
        assert self._keys is not None
        assert self.host_key is not None
        if not self._verified(self.host_key, signature, self._keys.h):
            # One faulty RSA signature gives the key away to whoever sees it pass (Boneh, DeMillo, Lipton).
            raise CryptoError("the signature made with the host key does not verify; it was not sent")
        q_s = self._field(self._q_s)
        reply = self._family.reply(self.host_key.blob, q_s, signature)
        return [Send(reply), Done(self._keys)]

    # --- the client

    def _send_init(self) -> list[Step]:
        assert self._kem is not None
        self._q_c = self._kem.init()
        self.expected = self._family.reply.NUMBER
        return [Send(self._family.init(self._field(self._q_c)))]

    def _on_gex_group(self, group: messages.KexDhGexGroup) -> list[Step]:
        self._kem = self._row.factory(groups.check_group(group.p, group.g, GEX_SIZES[0], GEX_SIZES[2]))
        self._gex += wire.mpint(group.p) + wire.mpint(group.g)
        return self._send_init()

    def _on_reply(self, payload: memoryview) -> list[Step]:
        assert self._kem is not None
        reply: Any = self._family.reply.decode(payload)
        key = self._read_host_key(reply.host_key)
        self._q_s = self._octets(getattr(reply, self._family.q_s))
        log = self._finish(key, self._kem, self._kem.finish(self._q_s))
        assert self._keys is not None
        if not self._verified(key, reply.signature, self._keys.h):
            raise HostKeyRefused(
                "the server's signature of the key exchange does not verify",
                hint="Somebody in between, or a broken server: do not go on.",
            )
        self.host_key = key
        return [*log, Trust(key, self.negotiated.host_key, reply.signature, self._keys.h)]

    def _read_host_key(self, blob: bytes) -> AnyKey:
        try:
            key = read_key(blob)
        except KeyFormatError as error:
            raise HostKeyRefused(f"the server's host key cannot be used: {error}", hint=error.hint) from None
        if key.type != key_type_of(self.negotiated.host_key):
            raise ProtocolViolation(
                f"{self.negotiated.host_key} was agreed on, but the host key is of type {key.type}",
                clause="RFC 4253 7.1",
            )
        if key.plain.type == "ssh-rsa" and key.bits < self.policy.min_rsa_bits:
            raise HostKeyRefused(
                f"the server's RSA key has {key.bits} bits; {self.policy.min_rsa_bits} are asked for",
                hint="Give the server a new key, or allow shorter ones with -o RequiredRSASize=N.",
            )
        if self.host_key is not None and key.blob != self.host_key.blob:
            raise HostKeyRefused("the server showed another host key in a later key exchange")
        return key

    # --- the server

    def _on_gex_request(self, asked: messages.KexDhGexRequest) -> list[Step]:
        known = _moduli(self.policy.moduli)
        group = groups.choose_group(known, asked.min, asked.n, asked.max)
        self._gex = asked.encode()[1:] + wire.mpint(group.p) + wire.mpint(group.g)
        self._kem = self._row.factory(group)
        self.expected = self._family.init.NUMBER
        return [Send(messages.KexDhGexGroup(group.p, group.g))]

    def _on_init(self, payload: memoryview) -> list[Step]:
        init: Any = self._family.init.decode(payload)
        self._q_c = self._octets(getattr(init, self._family.q_c))
        kem = self._kem or self._row.factory()
        self._q_s, k = kem.respond(self._q_c)
        algorithm = self.negotiated.host_key
        key = next(key for key in self.host_keys if algorithm in key.algorithms)
        log = self._finish(key, kem, k)
        assert self._keys is not None
        self.host_key = key
        return [*log, Sign(key.plain, plain_algorithm(algorithm), self._keys.h)]

    # --- both

    def _verified(self, key: AnyKey, signature: bytes, h: bytes) -> bool:
        """Whether the host key has signed. Nobody stands beside a host to touch its security key."""
        algorithm = self.negotiated.host_key
        if isinstance(key, PublicKey) and algorithm in key.legacy_algorithms:  # the policy asks for it
            return key.verify(algorithm, signature, h, legacy=True)
        return key.verify(algorithm, signature, h, touch_required=False)

    def _octets(self, value: int | bytes) -> bytes:
        return wire.mpint_body(value) if isinstance(value, int) else value

    def _field(self, octets: bytes) -> Any:
        return octets if self._row.public == "string" else int.from_bytes(octets, "big", signed=True)

    def _finish(self, key: AnyKey, kem: KeyExchange, k: Secret) -> list[Log]:
        h = exchange_hash(self._row.hash_name, self.transcript, key.blob, self._gex, self._q_c, self._q_s, k)
        self._keys = Keys(self._row.hash_name, k, h, self.session_id or h, self.negotiated)
        self._kem = None
        return [Log(self._secrets(kem, k))] if self.log_keys else []

    def _secrets(self, kem: KeyExchange, k: Secret) -> tuple[tuple[str, Secret], ...]:
        """As `record.KeyRecord` has them; ours first, since what is old reads the first line only."""
        content = k.reveal()[4:]
        shared = content if self._row.secret == "string" else content.lstrip(b"\0")
        private = kem.private()
        ours = [("PRIVATE_KEY", private)] if private is not None else []
        return (*ours, ("SHARED_SECRET", Secret(shared)))
