"""RFC 4253 §7-§9 over the life of a connection: when keys are exchanged, and what each exchange changes.

Strict key exchange (OpenSSH PROTOCOL, strict key exchange), guessed packets (§7.1), NEWKEYS (§7.3), EXT_INFO
(RFC 8308) and key re-exchange (§9) are here; one exchange's mathematics is in `exchange`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import inf
from typing import TYPE_CHECKING, Any, Final

from ..crypto.registry import Kind, find
from ..crypto.signatures import PublicKey, algorithms_for, plain_algorithm
from ..errors import (
    DeadlineExceeded,
    HostKeyRefused,
    LimitExceeded,
    NegotiationFailed,
    ProtocolViolation,
    SSHError,
    UsageError,
)
from ..events import HandshakeDone, HostKeyOffered, HostKeySignatureNeeded, Negotiated
from ..keys.public import AnyKey
from ..messages.declare import lookup
from ..messages.transport import Extension, ExtInfo, KexInit, NewKeys
from ..wire import Secret, visible
from .exchange import Done, Exchange, Keys, Log, Send, Sign, Step, Transcript, Trust
from .negotiate import EXT_INFO, STRICT, guess_is_right, negotiate
from .rules import Handler, Phase

if TYPE_CHECKING:
    from .transport import Transport

_IDLE_REKEYS: Final = 100
"""Key exchanges in a row that a peer may begin with hardly anything sent between them."""
_IDLE_BYTES: Final = 1024
"""Less than this, both directions together, is hardly anything."""


@lru_cache(maxsize=16)
def _held(wanted: tuple[str, ...], key_types: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the `wanted` signature algorithms that keys of these types can be used with."""
    held = {algorithm for key_type in key_types for algorithm in algorithms_for(key_type)}
    return tuple(name for name in wanted if name in held)


class Handshake:
    """The key exchanges of one connection. `transport` does the sending, asking and dispatching."""

    def __init__(self, transport: Transport, host_keys: Sequence[AnyKey]) -> None:
        self._t = transport
        self._host_keys = tuple(host_keys)
        self.session_id: bytes | None = None
        self.host_key: AnyKey | None = None
        self.negotiated: Negotiated | None = None
        self.strict = False
        self.offered = ("", "")
        """What the peer put first in its first KEXINIT: a key exchange, a host key algorithm."""
        self.blocked = False
        """KEXINIT is sent and NEWKEYS is not: nothing but the key exchange may be sent (§7.1)."""
        self.exchange: Exchange | None = None
        self._ours: KexInit | None = None
        self._pending: Keys | None = None
        """Keys that we use already, and the peer from its NEWKEYS on."""
        self._asked = -inf
        """When the message was sent that the peer's next one answers."""
        self._skip_guess = False
        self._idle_rekeys = 0
        self._fresh_until = inf
        """When the keys are too old, by the caller's clock."""

    # --- when

    @property
    def first(self) -> bool:
        """Whether no key exchange has ended yet."""
        return self.session_id is None

    def due(self) -> str:
        """Why keys should be exchanged anew now, or empty (RFC 4253 §9, RFC 4344 §3.1)."""
        if self._t.phase is not Phase.CONNECTION or self.blocked or self._pending:
            return ""
        policy, inbound, outbound = self._t.policy, self._t.inbound, self._t.outbound
        if max(inbound.key_bytes, outbound.key_bytes) >= policy.rekey_bytes:
            return f"{policy.rekey_bytes} bytes under the same keys"
        if max(inbound.key_packets, outbound.key_packets) >= policy.rekey_packets:
            return f"{policy.rekey_packets} packets under the same keys"
        if self._t.now >= self._fresh_until:
            return "the time under the same keys is over"
        return ""

    def start(self, reason: str, *, by: str = "us") -> None:
        """Sends KEXINIT, and a guessed packet where the policy says so; nothing if one is under way."""
        if self.blocked or self._pending:
            return
        t, self.blocked = self._t, True
        if t.hub:
            t.hub.state("kex_started", first=self.first, by=by, reason=reason)
        self._set_deadline()
        t.agenda.cancel("rekey")
        guess = self.first and t.policy.guess and t.role == "client"
        self._ours = self._kexinit(guess)
        t.send_now(self._ours)
        if guess:
            self._send_guess(self._ours)

    def handler(self, number: int) -> Handler | None:
        """What takes 20-49 where it is due; `rules` says in which phases it counts."""
        if number == KexInit.NUMBER:
            return self._on_kexinit
        if number == NewKeys.NUMBER and self._pending is not None:
            return self._on_newkeys
        if self._skip_guess and 30 <= number < 50:
            return self._on_wrong_guess
        if self.exchange is not None and number == self.exchange.expected != 0:
            return self._on_method
        return None

    @property
    def context(self) -> str:
        """What gives the numbers 30-49 their meaning now."""
        return self.exchange.context if self.exchange else ""

    # --- KEXINIT

    def _kexinit(self, guess: bool) -> KexInit:
        t, policy = self._t, self._t.policy
        kex = policy.kex
        if self.first:
            kex = (*kex, EXT_INFO[t.role], STRICT[t.role])
        return KexInit(
            cookie=t.random(16),
            kex_algorithms=kex,
            server_host_key_algorithms=self._host_key_algorithms(),
            encryption_algorithms_client_to_server=policy.ciphers,
            encryption_algorithms_server_to_client=policy.ciphers,
            mac_algorithms_client_to_server=policy.macs,
            mac_algorithms_server_to_client=policy.macs,
            compression_algorithms_client_to_server=policy.compression,
            compression_algorithms_server_to_client=policy.compression,
            first_kex_packet_follows=guess,
        )

    def _host_key_algorithms(self) -> tuple[str, ...]:
        wanted = self._t.policy.host_key_algorithms
        if self._t.role == "client":
            return wanted
        offered = _held(wanted, tuple(key.type for key in self._host_keys))
        if not offered:
            raise UsageError("the server has no host key for any of its host key algorithms")
        return offered

    def _send_guess(self, ours: KexInit) -> None:
        """Sends the first packet of our own first choice before the peer has said its own (§7.1)."""
        none = "none"
        guessed = Negotiated(
            ours.kex_algorithms[0], ours.server_host_key_algorithms[0],
            none, none, none, none, none, none, False, False, {},
        )  # fmt: skip
        self.exchange = self._make_exchange(guessed, Transcript(v_c=b"", v_s=b"", i_c=b"", i_s=b""))
        self._take(self.exchange.start())

    def _on_kexinit(self, payload: memoryview) -> None:
        theirs = KexInit.decode(payload)
        t, first = self._t, self.first
        if not self.blocked:
            self._count_rekey()
            self.start("the peer asked for it", by="peer")
        assert self._ours is not None
        if first:
            first_of = (theirs.kex_algorithms[:1], theirs.server_host_key_algorithms[:1])
            self.offered = "".join(first_of[0]), "".join(first_of[1])
        client, server = (self._ours, theirs) if t.role == "client" else (theirs, self._ours)
        chosen = negotiate(self._ours, theirs, t.role, first=first)
        self.strict = chosen.strict = chosen.strict if first else self.strict
        self._check_strict(chosen)
        self.negotiated = chosen
        right = guess_is_right(client, server)
        self._skip_guess = theirs.first_kex_packet_follows and not right
        self._tell_negotiated(chosen, theirs, right)
        transcript = self._transcript(bytes(payload))
        t.enter_kex(Phase.KEX if first else Phase.REKEY_KEX)
        if self._ours.first_kex_packet_follows and right and self.exchange is not None:
            self.exchange.negotiated, self.exchange.transcript = chosen, transcript
        else:
            self.exchange = self._make_exchange(chosen, transcript)
            self._take(self.exchange.start())
        self._tell_waiting()
        t.reslot()

    def _count_rekey(self) -> None:
        """A peer that does nothing but exchange keys makes us work for nothing."""
        inbound, outbound = self._t.inbound, self._t.outbound
        moved = inbound.key_bytes - inbound.lengths[2] + outbound.key_bytes
        self._idle_rekeys = self._idle_rekeys + 1 if moved < _IDLE_BYTES else 0
        if self._idle_rekeys > _IDLE_REKEYS:
            raise LimitExceeded(f"{_IDLE_REKEYS} key exchanges in a row with hardly anything in between")

    def _check_strict(self, chosen: Negotiated) -> None:
        if not self.first:
            return
        if chosen.strict and self._t.inbound.seq != 1:
            raise ProtocolViolation(
                "strict key exchange was agreed on, but KEXINIT was not the first packet",
                clause="OpenSSH PROTOCOL, strict key exchange",
            )
        weak = {c for c in (chosen.cipher_c2s, chosen.cipher_s2c) if c.startswith("chacha20-poly1305")}
        if weak and not chosen.strict and not self._t.policy.allow_terrapin:
            raise NegotiationFailed(
                f"{weak.pop()} was agreed on without strict key exchange, which the peer lacks: "
                "open to the Terrapin attack (CVE-2023-48795)",
                what="cipher", ours=self._t.policy.ciphers, theirs=(chosen.cipher_c2s,),
                hint="Upgrade the peer, choose another cipher, or allow it with -o AllowTerrapin=yes.",
            )  # fmt: skip

    def _transcript(self, theirs: bytes) -> Transcript:
        t = self._t
        assert self._ours is not None
        ours = self._ours.encode()
        assert t.theirs is not None
        if t.role == "client":
            return Transcript(v_c=t.ours.line, v_s=t.theirs.line, i_c=ours, i_s=theirs)
        return Transcript(v_c=t.theirs.line, v_s=t.ours.line, i_c=theirs, i_s=ours)

    def _make_exchange(self, chosen: Negotiated, transcript: Transcript) -> Exchange:
        return Exchange(
            self._t.role, self._t.policy, chosen, transcript,
            session_id=self.session_id, host_key=self.host_key, host_keys=self._host_keys,
            log_keys=self._t.hub is not None and self._t.hub.hears_keys,
        )  # fmt: skip

    # --- the method's own messages

    def _on_wrong_guess(self, payload: memoryview) -> None:
        """The one packet that was guessed wrong is passed over (§7.1)."""
        self._skip_guess = False
        self._t.reslot()

    def _on_method(self, payload: memoryview) -> None:
        assert self.exchange is not None
        self._answered()
        self._take(self.exchange.receive(payload))
        self._tell_waiting()
        self._t.reslot()

    def _take(self, steps: Sequence[Step]) -> None:
        for step in steps:
            match step:
                case Send(message):
                    self._asked = self._t.now
                    self._t.send_now(message)
                case Trust():
                    self._on_host_key(step)
                case Sign(key, algorithm, data):
                    question = HostKeySignatureNeeded(key, algorithm, data)
                    self._t.ask(question, self._on_signature, hold=True)
                case Log(secrets):
                    self._tell_secrets(secrets)
                case Done(keys):
                    self._use(keys)

    def _answered(self) -> None:
        """The peer could not send this before it had our last message: that took a round trip at most."""
        self._t.round_trip = min(self._t.round_trip, self._t.now - self._asked)
        self._asked = -inf

    def _on_host_key(self, step: Trust) -> None:
        assert self.exchange is not None
        key, algorithm = step.key, step.algorithm
        if self._t.hub:
            self._t.hub.state(
                "host_key", type=key.type, algorithm=algorithm, fingerprint=key.fingerprint(), bits=key.bits
            )
            self._tell_certificate(key)
        if self.first:
            self._t.agenda.cancel("kex")  # a person may have to look the fingerprint up
            question = HostKeyOffered(key, algorithm, step.signature, step.exchange_hash)
            self._t.ask(question, self._on_trust, hold=True)
        else:  # the exchange has checked that it is the key of the first one
            self._take(self.exchange.trusted())

    def _on_trust(self, answer: Any) -> None:
        assert self.exchange is not None
        if isinstance(answer, SSHError):
            raise answer
        if answer is not True:  # fails closed: whatever is not a clear yes is a no
            raise HostKeyRefused("the server's host key was not accepted")
        self._set_deadline()
        self._take(self.exchange.trusted())
        self._t.reslot()

    def _on_signature(self, answer: Any) -> None:
        assert self.exchange is not None
        if isinstance(answer, SSHError):
            raise answer
        if not isinstance(answer, bytes):
            raise UsageError("a signature is bytes")
        self._take(self.exchange.signed(answer))
        self._t.reslot()

    # --- NEWKEYS

    def _use(self, keys: Keys) -> None:
        """Sends NEWKEYS, seals with the new keys from there on, and lets what waited go."""
        t, first = self._t, self.first
        assert self.exchange is not None
        t.send_now(NewKeys())
        self._tell_keys(sent=True)
        t.outbound.install(keys.sealer(t.role), reset_seq=self.strict)
        self._pending = keys
        self.session_id, self.host_key = keys.session_id, self.exchange.host_key
        if not first:
            t.start_compression()
        t.enter_kex(Phase.NEWKEYS if first else Phase.REKEY_NEWKEYS)
        if first and keys.negotiated.peer_ext_info:
            t.send_now(ExtInfo(self._extensions()))
        self.blocked = False
        t.release()

    def _extensions(self) -> tuple[Extension, ...]:
        """What we tell of ourselves (RFC 8308 §3, OpenSSH PROTOCOL, ping, 3)."""
        if self._t.role == "client":
            return (Extension("ext-info-in-auth@openssh.com", b"0"),)
        # As OpenSSH: what is in a signature; that its key came with a certificate makes no difference.
        plain = dict.fromkeys(map(plain_algorithm, self._t.policy.pubkey_algorithms))
        algorithms = ",".join(plain).encode()
        return (
            Extension("server-sig-algs", algorithms),
            Extension("publickey-hostbound@openssh.com", b"0"),
            Extension("ping@openssh.com", b"0"),
        )

    def _on_newkeys(self, payload: memoryview) -> None:
        NewKeys.decode(payload)
        self._answered()
        t, keys = self._t, self._pending
        assert keys is not None
        assert self.negotiated is not None
        assert self.exchange is not None
        assert t.theirs is not None
        first = self.exchange.session_id is None
        self._tell_keys(sent=False)
        t.inbound.install(keys.opener(t.peer), reset_seq=self.strict)
        self._pending = self.exchange = self._ours = None
        t.agenda.cancel("kex")
        if t.policy.rekey_seconds:
            self._fresh_until = t.now + t.policy.rekey_seconds
            # The timer only wakes us: `due` knows when a key re-exchange may begin, not before login.
            t.agenda.schedule("rekey", self._fresh_until, lambda: None)
        if not first:
            t.start_decompression()
        if t.hub:
            t.hub.state("kex_done", first=first)
        t.leave_kex()
        if first:
            t.handshake_done(HandshakeDone(self.negotiated, keys.session_id, t.theirs.name))

    def _set_deadline(self) -> None:
        self._t.schedule("kex", self._t.policy.kex_timeout, self._too_slow)

    def _too_slow(self) -> None:
        raise DeadlineExceeded(f"the key exchange did not end within {self._t.policy.kex_timeout:g} s")

    # --- what is told

    def _tell_negotiated(self, n: Negotiated, theirs: KexInit, right: bool) -> None:
        if self._t.hub is None:
            return
        guessed = theirs.first_kex_packet_follows or (self._ours and self._ours.first_kex_packet_follows)
        self._t.hub.state(
            "negotiated", kex=n.kex, host_key=n.host_key, cipher_c2s=n.cipher_c2s, cipher_s2c=n.cipher_s2c,
            mac_c2s=n.mac_c2s, mac_s2c=n.mac_s2c, compression_c2s=n.compression_c2s,
            compression_s2c=n.compression_s2c, strict=n.strict, ext_info=n.peer_ext_info,
            guess=("right" if right else "wrong") if guessed else "", why=dict(n.why),
            hash=find(Kind.KEX, n.kex).hash_name,
        )  # fmt: skip

    def _tell_certificate(self, key: AnyKey) -> None:
        if self._t.hub and not isinstance(key, PublicKey):
            by = key.authority
            self._t.hub.state(
                "host_certificate", type=key.type, fingerprint=key.fingerprint(), serial=key.serial,
                key_id=visible(key.key_id), authority_type=by.type, authority=by.fingerprint(),
                valid=key.validity, principals=tuple(map(visible, key.principals)),
            )  # fmt: skip

    def _tell_waiting(self) -> None:
        if self._t.hub and self.exchange is not None and self.exchange.expected:
            found = lookup(self.exchange.context, self.exchange.expected)
            self._t.hub.state("kex_waiting", message=found.NAME if found else "")

    def _tell_secrets(self, secrets: Sequence[tuple[str, Secret]]) -> None:
        assert self._ours is not None
        for label, secret in secrets:
            if self._t.hub is not None:
                self._t.hub.key(self._ours.cookie, label, secret)

    def _tell_keys(self, *, sent: bool) -> None:
        if self._t.hub is None:
            return
        side = self._t.outbound if sent else self._t.inbound
        self._t.hub.state(
            "keys_installed", sent=sent, epoch=side.epoch + 1, seq_reset=self.strict, seq=side.seq,
            bytes=self._t.policy.rekey_bytes,
        )  # fmt: skip
