"""Attacks on the key exchange: rows B1 to B20 of docs/attacks.md, on whole cores.

B2 is tests/transport/test_matrix.py; re-exchanges are in test_rekey.py, guesses in test_guess.py.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from glasshell import wire
from glasshell.crypto import groups, key_exchange
from glasshell.crypto.groups import rfc3526
from glasshell.crypto.key_exchange import X25519
from glasshell.crypto.registry import Kind, find
from glasshell.crypto.signatures import PrivateKey
from glasshell.errors import (
    CryptoError,
    HostKeyRefused,
    LimitExceeded,
    MalformedMessage,
    NegotiationFailed,
    PeerError,
    ProtocolViolation,
    SSHError,
)
from glasshell.events import (
    Authenticated,
    ChannelOffered,
    CredentialNeeded,
    HandshakeDone,
    HostKeyOffered,
    HostKeySignatureNeeded,
    KeyOffered,
    NoneOffered,
    PasswordMethod,
)
from glasshell.messages.auth import NoneRequest, UserauthRequest
from glasshell.messages.connection import ChannelOpen, ChannelRequest, Exec, SessionOpen
from glasshell.messages.kex import (
    KexDhGexGroup,
    KexDhGexReply,
    KexDhGexRequest,
    KexDhReply,
    KexEcdhReply,
    KexHybridReply,
)
from glasshell.messages.transport import Extension, ExtInfo, Ignore, KexInit, ServiceAccept
from glasshell.policy import Policy
from glasshell.testing.pair import Packet, Pair, Side
from glasshell.transport import transport as transport_module
from glasshell.transport.exchange import Done, Exchange, Send, Step
from glasshell.transport.rules import Phase
from glasshell.wire import Secret
from tests.transport.kit import (
    HOST_KEY,
    ROLES,
    change_kexinit,
    ended,
    logged_in,
    other,
    pair,
    plain_packet,
    waiting,
)

CHACHA, GCM, CTR = "chacha20-poly1305@openssh.com", "aes128-gcm@openssh.com", "aes128-ctr"
GROUP14, GEX = "diffie-hellman-group14-sha256", "diffie-hellman-group-exchange-sha256"
CURVE, HYBRID = "curve25519-sha256", "mlkem768x25519-sha256"


# --- B1


class Terrapin:
    """Slips an IGNORE to the client before NEWKEYS, and deletes the server's first packet after it."""

    def __init__(self, pair: Pair) -> None:
        self._deleted = False
        self._injected = False
        pair.relay = self.relay

    def relay(self, packet: Packet) -> bytes:
        if packet.sender == "server" and packet.number == 31 and not self._injected:
            self._injected = True
            return plain_packet(Ignore(b"").encode()) + packet.wire
        if packet.sender == "server" and packet.number == ExtInfo.NUMBER and not self._deleted:
            self._deleted = True
            return b""
        return packet.wire


@pytest.mark.parametrize("cipher", [CHACHA, GCM, CTR])
def test_b1_terrapin_cve_2023_48795(cipher: str) -> None:
    """With strict key exchange the IGNORE alone ends the handshake."""
    made = pair(ciphers=(cipher,))
    Terrapin(made)
    made.run()
    error = ended(made, "client")
    assert type(error) is ProtocolViolation
    assert "SSH_MSG_IGNORE may not be sent during key exchange" in str(error)
    assert HandshakeDone not in made.kinds("client") + made.kinds("server")


def test_b1_the_harness_is_an_attack_indeed() -> None:
    """Where both sides lack strict key exchange and are told not to mind, the extension is gone unseen."""
    made = pair(ciphers=(CHACHA,), strict=False, allow_terrapin=True)
    made.run()
    assert made.client.transport.extensions
    made = pair(ciphers=(CHACHA,), strict=False, allow_terrapin=True)
    Terrapin(made)
    made.run()
    assert Authenticated in made.kinds("client")
    assert not made.client.transport.extensions


@pytest.mark.parametrize(("cipher", "mac"), [
    (GCM, "hmac-sha2-256"), (CTR, "hmac-sha2-256"), (CTR, "hmac-sha2-256-etm@openssh.com"),
])  # fmt: skip
def test_b1_the_other_ciphers_hold_without_strict(cipher: str, mac: str) -> None:
    """CTR with encrypt-then-MAC holds by luck alone: the MAC fits, and what the wrong keystream leaves of a
    packet is no message, but one time in twenty it is one that changes nothing."""
    made = pair(ciphers=(cipher,), macs=(mac,), strict=False)
    Terrapin(made)
    made.run()
    if "etm" not in mac:
        assert isinstance(ended(made, "client"), PeerError)
    assert Authenticated not in made.kinds("client") + made.kinds("server")


@pytest.mark.parametrize("lacking", ROLES)
@pytest.mark.parametrize("direction", ["client_to_server", "server_to_client"])
def test_b1_chacha_without_strict_is_refused(lacking: Side, direction: str) -> None:
    made = pair(ciphers=(CHACHA, GCM), strict=True)
    strip = {f"encryption_algorithms_{d}": (GCM,) for d in ("client_to_server", "server_to_client")}
    strip[f"encryption_algorithms_{direction}"] = (CHACHA,)

    def without(kexinit: KexInit) -> KexInit:
        kept = tuple(n for n in kexinit.kex_algorithms if "strict" not in n)
        return replace(kexinit, kex_algorithms=kept, **strip)  # type: ignore[arg-type]

    change_kexinit(made, lacking, without)
    made.run()
    failed = [e for e in (ended(made, side) for side in ROLES) if isinstance(e, NegotiationFailed)]
    assert failed
    assert "Terrapin" in str(failed[0])
    assert "AllowTerrapin" in failed[0].hint
    goodbye = next(p for p in made.sent if p.number == 1)
    assert goodbye.payload[4] == 3  # SSH_DISCONNECT_KEY_EXCHANGE_FAILED


def test_b1_numbers_begin_again_both_ways_and_a_later_marker_is_nothing() -> None:
    made = pair(strict=False)
    logged_in(made)
    strict = ("kex-strict-c-v00@openssh.com", "kex-strict-s-v00@openssh.com")

    def add_markers(kexinit: KexInit) -> KexInit:
        return replace(kexinit, kex_algorithms=(*kexinit.kex_algorithms, *strict))

    for side in ROLES:
        change_kexinit(made, side, add_markers)
    made.client.rekey(made.now)
    made.run()
    for side in ROLES:
        assert not made.core(side).closed
        assert made.core(side).negotiated.strict is False
        assert made.core(side).transport.inbound.seq > 3


# --- B3, B4, B5: what comes before the keys


def between_kexinit_and_reply(side: Side, strict: bool = True) -> Pair:
    made = pair(strict=strict)
    there = waiting(made, side, Phase.KEX)
    made.run(there)
    assert there()
    return made


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "lax"])
def test_b3_erlang_cve_2025_32433_a_command_before_the_keys(strict: bool) -> None:
    made = between_kexinit_and_reply("server", strict)
    for message in (
        ChannelOpen("session", 0, 1 << 20, 1 << 15, SessionOpen()),
        ChannelRequest(0, "exec", True, Exec("touch /tmp/owned")),
    ):
        made.server.receive_data(plain_packet(message.encode()), made.now)
    made.run()
    assert type(ended(made, "server")) is ProtocolViolation
    assert not made.told("server", ChannelOffered)
    assert not made.server.mux.channels


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "lax"])
@pytest.mark.parametrize("side", ROLES)
@pytest.mark.parametrize("phase", [Phase.KEXINIT, Phase.KEX, Phase.NEWKEYS])
def test_b4_asyncssh_cve_2023_46445_rogue_extension(side: Side, phase: Phase, strict: bool) -> None:
    made = pair(strict=strict)
    made.run(waiting(made, side, phase))
    rogue = ExtInfo((Extension("server-sig-algs", b"ssh-rsa"),))
    made.inject(other(side), rogue.encode())
    assert type(ended(made, side)) is ProtocolViolation
    assert not made.core(side).transport.extensions


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "lax"])
@pytest.mark.parametrize("phase", [Phase.KEXINIT, Phase.KEX, Phase.NEWKEYS])
def test_b5_asyncssh_cve_2023_46446_rogue_session(phase: Phase, strict: bool) -> None:
    """The attacker's own login, sent in clear, waits for nothing: it ends the connection."""
    made = pair(strict=strict)
    made.run(waiting(made, "server", phase))
    login = UserauthRequest("mallory", "ssh-connection", "none", NoneRequest())
    made.inject("client", login.encode())
    made.run()
    assert type(ended(made, "server")) is ProtocolViolation
    assert not made.told("server", NoneOffered) + made.told("server", KeyOffered)


def test_b5_requests_after_success_are_ignored() -> None:
    made = logged_in()
    login = UserauthRequest("mallory", "ssh-connection", "none", NoneRequest())
    made.say("client", login.encode())
    made.run()
    assert not made.server.closed
    assert made.log["server"] == []
    assert [p for p in made.sent if p.sender == "server"] == []


# --- B6: a client led by the server

PASSWORD = "correct horse battery staple"


def about_to_log_in() -> Pair:
    made = pair(methods=("password",))
    made.answers[CredentialNeeded] = lambda q: PasswordMethod(Secret(PASSWORD))
    return made


@pytest.mark.parametrize(
    "payload",
    [
        b"\x15", ServiceAccept("ssh-userauth").encode(), b"\x34", b"\x33" + wire.string(b"password") + b"\0",
        b"\x3c" + wire.string(b"ssh-ed25519") + wire.string(b"k"), b"\x3c" + bytes(16),
        ServiceAccept("ssh-connection").encode(),
    ],
    ids=["NEWKEYS", "ACCEPT", "SUCCESS", "FAILURE", "PK_OK", "INFO_REQUEST", "ACCEPT connection"],
)  # fmt: skip
@pytest.mark.parametrize("phase", [Phase.KEXINIT, Phase.KEX, Phase.NEWKEYS, Phase.SERVICE, Phase.AUTH])
def test_b6_wolfssh_cve_2025_14942_out_of_order(phase: Phase, payload: bytes) -> None:
    made = about_to_log_in()
    if phase is Phase.AUTH:
        del made.answers[CredentialNeeded]
    made.run(waiting(made, "client", phase))
    legal = {Phase.NEWKEYS: b"\x15", Phase.SERVICE: ServiceAccept("ssh-userauth").encode()}
    if legal.get(phase) == payload:
        return
    made.inject("server", payload)
    made.run()
    assert isinstance(ended(made, "client"), PeerError)
    assert Authenticated not in made.kinds("client")
    secret = PASSWORD.encode()
    assert not any(secret in packet.wire or secret in packet.payload for packet in made.sent)


def test_b6_the_password_is_sent_where_it_belongs() -> None:
    made = about_to_log_in()
    made.run()
    assert sum(PASSWORD.encode() in p.payload for p in made.sent) == 1
    assert not any(PASSWORD.encode() in p.wire for p in made.sent)


# --- B8: finite fields


def bad_values(p: int) -> Iterator[int]:
    yield from (0, 1, p - 1, p, p + 1, -1, -p, 2 ** (8 * 10 * 256))


@pytest.mark.parametrize("method", [GROUP14, GEX])
@pytest.mark.parametrize("which", range(8))
def test_b8_russh_cve_2023_28113_public_value_of_the_client(method: str, which: int) -> None:
    made = pair(kex=(method,))
    number = 30 if method == GROUP14 else 32
    made.run(waiting(made, "server", Phase.KEX, number))
    p = rfc3526(14).p if method == GROUP14 else group_sent(made).p
    made.inject("client", bytes((number,)) + wire.mpint(list(bad_values(p))[which]))
    assert isinstance(ended(made, "server"), PeerError)
    assert not made.told("server", HostKeySignatureNeeded)


def group_sent(made: Pair) -> KexDhGexGroup:
    made._collect("server")
    return KexDhGexGroup.decode(next(p.payload for p in made.sent if p.number == 31))


@pytest.mark.parametrize("method", [GROUP14, GEX])
@pytest.mark.parametrize("which", range(8))
def test_b8_public_value_of_the_server(method: str, which: int) -> None:
    made = pair(kex=(method,))
    number, reply = (31, KexDhReply) if method == GROUP14 else (33, KexDhGexReply)
    made.run(waiting(made, "client", Phase.KEX, number))
    p = rfc3526(14).p if method == GROUP14 else group_sent(made).p
    value = list(bad_values(p))[which]
    blob = wire.string(HOST_KEY.public.blob)
    payload = bytes((reply.NUMBER,)) + blob + wire.mpint(value) + wire.string(b"x")
    made.inject("server", payload)
    assert isinstance(ended(made, "client"), PeerError)
    assert not made.told("client", HostKeyOffered)


P14 = rfc3526(14).p
BAD_GROUPS = {
    "short": (2**1023 + 1155, 2),
    "too long": ((1 << 8200) + 1, 2),
    "longer than asked for": (rfc3526(18).p, 2),
    "even": (P14 + 1, 2),
    "composite": (P14 - 2, 2),
    "product of primes": (groups.rfc3526(14).p ** 2, 2),
    "negative": (-P14, 2),
    "zero": (0, 2),
    "generator 0": (P14, 0),
    "generator 1": (P14, 1),
    "generator -1": (P14, -1),
    "generator p-1": (P14, P14 - 1),
    "generator p": (P14, P14),
}


@pytest.mark.parametrize("name", BAD_GROUPS)
def test_b8_logjam_group_of_the_server(name: str) -> None:
    made = pair(kex=(GEX,))
    made.run(waiting(made, "client", Phase.KEX, 31))
    made.inject("server", KexDhGexGroup(*BAD_GROUPS[name]).encode())
    assert isinstance(ended(made, "client"), PeerError)


@pytest.mark.parametrize(
    "asked", [(4096, 2048, 2048), (0, 0, 0), (2**32 - 1,) * 3, (1024, 1024, 1024), (8193, 9000, 2**32 - 1)]
)
def test_b8_group_asked_for(asked: tuple[int, int, int]) -> None:
    made = pair(kex=(GEX,))
    made.run(waiting(made, "server", Phase.KEX, 34))
    made.inject("client", KexDhGexRequest(*asked).encode())
    assert isinstance(ended(made, "server"), PeerError)


def test_b8_cve_2016_0739_the_exponent_is_long_enough() -> None:
    assert key_exchange.EXPONENT_BITS >= 512
    seen = {key_exchange.FiniteField(rfc3526(14))._private for _ in range(50)}
    assert len(seen) == 50
    assert all(private.bit_length() == key_exchange.EXPONENT_BITS for private in seen)


# --- B9


def test_b9_dheat_cve_2002_20001_no_finite_field_unasked() -> None:
    for policy in (Policy.client(), Policy.server()):
        assert not any(name.startswith("diffie-hellman") for name in policy.kex)


def test_b9_a_servers_work_begins_with_a_value_that_is_in_range(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is raised to a power for a client whose own value is not even a number below p."""
    made = pair(kex=(GROUP14,))
    made.run(waiting(made, "server", Phase.KEX, 30))
    monkeypatch.setattr(key_exchange, "pow", pytest.fail, raising=False)
    made.inject("client", b"\x1e" + wire.mpint(0))
    assert type(ended(made, "server")) is ProtocolViolation


# --- B10, B11, B12: elliptic curves and ML-KEM

LOW_ORDER = [
    "00" * 32, "01" + "00" * 31,
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ec" + "ff" * 30 + "7f", "ed" + "ff" * 30 + "7f", "ee" + "ff" * 30 + "7f",
]  # fmt: skip
"""RFC 7748 §6.1 has them found by the all-zero result; the list is D. J. Bernstein's (cr.yp.to/ecdh.html)."""

BAD_X25519 = [*map(bytes.fromhex, LOW_ORDER), bytes(31), b"\x09" + bytes(32), b""]


@pytest.mark.parametrize("value", BAD_X25519, ids=range(len(BAD_X25519)))
def test_b10_russh_2026_x25519_low_order_and_length(value: bytes) -> None:
    made = pair(kex=(CURVE,))
    made.run(waiting(made, "server", Phase.KEX))
    made.inject("client", b"\x1e" + wire.string(value))
    assert type(ended(made, "server")) is ProtocolViolation
    made = pair(kex=(CURVE,))
    made.run(waiting(made, "client", Phase.KEX))
    made.inject("server", KexEcdhReply(HOST_KEY.public.blob, value, b"x").encode())
    assert type(ended(made, "client")) is ProtocolViolation


@pytest.mark.parametrize("value", BAD_X25519[:8], ids=range(8))
def test_b10_inside_the_hybrid(value: bytes) -> None:
    made = pair(kex=(HYBRID,))
    made.run(waiting(made, "server", Phase.KEX))
    key = key_exchange.Hybrid().init()[:1184]
    made.inject("client", b"\x1e" + wire.string(key + value))
    assert type(ended(made, "server")) is ProtocolViolation
    made = pair(kex=(HYBRID,))
    made.run(waiting(made, "client", Phase.KEX))
    made.inject("server", KexHybridReply(HOST_KEY.public.blob, bytes(1088) + value, b"x").encode())
    assert type(ended(made, "client")) is ProtocolViolation


def test_b10_k_with_a_leading_zero_or_a_high_bit() -> None:
    """RFC 8731 §3.1: K is an mpint, so that zeros go and a sign byte comes, each once in 256 handshakes."""
    seen = set()
    for seed in range(2000):
        ours = X25519(hashlib.sha256(b"a%d" % seed).digest())
        theirs = X25519(hashlib.sha256(b"b%d" % seed).digest())
        raw = ours.shared(theirs.public)
        kind = "zero" if raw[0] == 0 else "high" if raw[0] & 0x80 else "plain"
        if kind in seen:
            continue
        seen.add(kind)
        body = raw.lstrip(b"\0")
        body = b"\0" + body if body[0] & 0x80 else body
        expected = struct.pack(">I", len(body)) + body
        assert key_exchange.Classical(ours).finish(theirs.public).reveal() == expected
        if len(seen) == 3:
            return
    raise AssertionError(seen)


NISTP256 = "ecdh-sha2-nistp256"


def bad_points() -> dict[str, bytes]:
    curve = find(Kind.KEX, NISTP256).factory()
    point = curve.init()
    x, y = point[1:33], point[33:]
    return {
        "compressed": bytes((2 + (y[-1] & 1),)) + x,
        "infinity": b"\0",
        "off the curve": b"\x04" + x + bytes(31) + b"\x01",
        "short": point[:-1],
        "long": point + b"\0",
        "empty": b"",
        "hybrid form": bytes((6 + (y[-1] & 1),)) + x + y,
        "zero": b"\x04" + bytes(64),
        "of another curve": find(Kind.KEX, "ecdh-sha2-nistp384").factory().init(),
    }


@pytest.mark.parametrize("name", bad_points())
def test_b11_invalid_curve(name: str) -> None:
    point = bad_points()[name]
    made = pair(kex=(NISTP256,))
    made.run(waiting(made, "server", Phase.KEX))
    made.inject("client", b"\x1e" + wire.string(point))
    assert type(ended(made, "server")) is ProtocolViolation
    made = pair(kex=(NISTP256,))
    made.run(waiting(made, "client", Phase.KEX))
    made.inject("server", KexEcdhReply(HOST_KEY.public.blob, point, b"x").encode())
    assert type(ended(made, "client")) is ProtocolViolation


def test_b11_go_8f405a4_a_key_of_another_curve_than_its_name() -> None:
    key = PrivateKey.generate("ecdsa-sha2-nistp384")
    blob = key.public.blob.replace(b"nistp384", b"nistp256")
    refuse_host_key(blob, ("ecdsa-sha2-nistp256",), key)


def refuse_host_key(blob: bytes, algorithms: tuple[str, ...], key: PrivateKey) -> SSHError:
    """A server shows `blob` and signs with `key`; the client, which takes `algorithms`, must end it."""
    made = pair(kex=(CURVE,), host_key_algorithms=algorithms, host_keys=(key,))
    made.server.transport.kex._host_key_algorithms = lambda: algorithms  # type: ignore[method-assign]
    made.run(waiting(made, "client", Phase.KEX))
    signature = key.sign(key.public.algorithms[0], b"x")
    made.inject("server", KexEcdhReply(blob, X25519().public, signature).encode())
    error = ended(made, "client")
    assert isinstance(error, HostKeyRefused | PeerError)
    assert not made.told("client", HostKeyOffered)
    return error


@pytest.mark.parametrize("size", [0, 1184, 1184 + 31, 1184 + 33, 1088 + 32])
def test_b12_ml_kem_lengths(size: int) -> None:
    made = pair(kex=(HYBRID,))
    made.run(waiting(made, "server", Phase.KEX))
    made.inject("client", b"\x1e" + wire.string(bytes(size)))
    assert type(ended(made, "server")) is ProtocolViolation


def test_b12_a_key_with_unreduced_coefficients() -> None:
    """FIPS 203 §7.2: the modulus check."""
    made = pair(kex=(HYBRID,))
    made.run(waiting(made, "server", Phase.KEX))
    made.inject("client", b"\x1e" + wire.string(b"\xff" * 1184 + X25519().public))
    assert type(ended(made, "server")) is ProtocolViolation


def test_b12_a_flipped_ciphertext_looks_like_a_bad_signature() -> None:
    """Implicit rejection: an altered ciphertext and an altered signature have one answer."""
    said = set()
    for at in (4 + 4 + 51 + 4, 4 + 4 + 51 + 4 + 1000, -20):
        made = pair(kex=(HYBRID,))
        made.relay = lambda p: flipped(p, at) if p.number == 31 else p.wire  # noqa: B023
        made.run()
        error = ended(made, "client")
        assert type(error) is HostKeyRefused
        said.add((str(error), error.hint, error.disconnect_reason))
    assert len(said) == 1


def flipped(packet: Packet, at: int) -> bytes:
    payload = bytearray(packet.payload)
    payload[at] ^= 1
    return plain_packet(bytes(payload))


# --- B13: KEXINIT


def kexinit_with(lists: bytes) -> bytes:
    empty = (wire.string(b"none")) * 9
    return b"\x14" + bytes(16) + lists + empty + bytes(5)


BAD_KEXINITS = {
    "one-byte names": kexinit_with(wire.string(b",".join([b"x"] * 128_000))),
    "a long name": kexinit_with(wire.string(b"x" * 65)),
    "two commas": kexinit_with(wire.string(b"a,,b")),
    "a trailing comma": kexinit_with(wire.string(b"a,")),
    "a leading comma": kexinit_with(wire.string(b",a")),
    "not ASCII": kexinit_with(wire.string(b"\xc3\xa9")),
    "a space": kexinit_with(wire.string(b"a b")),
    "longer than the packet": kexinit_with(struct.pack(">I", 2**32 - 1)),
    "cut short": b"\x14" + bytes(10),
    "nothing": b"\x14",
    "empty lists": b"\x14" + bytes(16) + bytes(40) + bytes(5),
}


@pytest.mark.parametrize("side", ROLES)
@pytest.mark.parametrize("name", BAD_KEXINITS)
def test_b13_openssh_cve_2016_8858_erlang_cve_2025_30211_kexinit(side: Side, name: str) -> None:
    made = pair()
    made.run(waiting(made, side, Phase.KEXINIT))
    made.inject(other(side), BAD_KEXINITS[name])
    assert isinstance(ended(made, side), MalformedMessage | NegotiationFailed)


@pytest.mark.parametrize("side", ROLES)
def test_b13_a_second_kexinit(side: Side) -> None:
    made = between_kexinit_and_reply(side)
    kexinit = next(p.payload for p in made.sent if p.number == 20 and p.sender != side)
    made.inject(other(side), kexinit)
    assert type(ended(made, side)) is ProtocolViolation


# --- B14: what the host key signs with


@pytest.mark.parametrize("signed", ["ssh-rsa", "rsa-sha2-256"])
def test_b14_paramiko_cve_2026_44405_sha1_downgrade(signed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """rsa-sha2-512 was agreed on; a signature that says otherwise of itself does not count."""
    rsa = PrivateKey.generate("ssh-rsa", 2048)

    def sign(question: Any) -> bytes:
        good = rsa.sign("rsa-sha2-256", question.data)
        inner = good[4 + len("rsa-sha2-256") :]
        return wire.string(signed.encode()) + inner

    monkeypatch.setattr(Exchange, "signed", send_unverified)
    made = pair(
        kex=(CURVE,), host_keys=(rsa,), host_key_algorithms=("rsa-sha2-512",),
        answers={HostKeySignatureNeeded: sign},
    )  # fmt: skip
    made.run()
    assert type(ended(made, "client")) is HostKeyRefused
    assert not made.told("client", HostKeyOffered)


def send_unverified(self: Exchange, signature: bytes) -> list[Step]:
    """A server that sends whatever signature it is given."""
    assert self.host_key is not None
    assert self._keys is not None
    return [Send(KexEcdhReply(self.host_key.blob, self._q_s, signature)), Done(self._keys)]


def test_b14_cve_2026_35387_a_host_key_of_another_type() -> None:
    error = refuse_host_key(HOST_KEY.public.blob, ("rsa-sha2-512",), HOST_KEY)
    assert "ssh-ed25519" in str(error)
    for algorithm in ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384"):
        key = PrivateKey.generate("ecdsa-sha2-nistp521")
        refuse_host_key(key.public.blob, (algorithm,), key)


@pytest.mark.parametrize(
    "blob",
    [b"", b"x", wire.string(b"ssh-ed25519"), HOST_KEY.public.blob + b"\0"],
    ids=["empty", "one byte", "name alone", "a byte too many"],
)
def test_b14_a_host_key_that_cannot_be_read(blob: bytes) -> None:
    refuse_host_key(blob, ("ssh-ed25519",), HOST_KEY)


def test_b14_a_short_rsa_host_key_is_refused_where_the_policy_says_so() -> None:
    rsa = PrivateKey.generate("ssh-rsa", 2048)
    made = pair(host_keys=(rsa,), host_key_algorithms=("rsa-sha2-512",), client={"min_rsa_bits": 3072})
    made.run()
    error = ended(made, "client")
    assert type(error) is HostKeyRefused
    assert "2048 bits" in str(error)


# --- B15: the transcript


def small() -> dict[str, Any]:
    return {"kex": (CURVE,), "ciphers": (GCM,), "macs": (), "host_key_algorithms": ("ssh-ed25519",)}


@pytest.mark.parametrize("side", ROLES)
@pytest.mark.parametrize("what", ["identification", "KEXINIT"])
def test_b15_every_byte_of_the_transcript_is_bound(side: Side, what: str) -> None:
    """V_C, V_S, I_C, I_S: one altered bit in any byte, and no handshake ends."""
    sample = pair(**small())
    sample.run()
    number = -1 if what == "identification" else 20
    packet = next(p for p in sample.sent if p.sender == side and p.number == number)
    length = len(packet.wire) if number < 0 else len(packet.payload)
    for at in range(length):
        made = pair(**small())
        made.relay = altered(side, number, at)
        made.run()
        told = made.kinds("client") + made.kinds("server")
        assert HandshakeDone not in told, f"byte {at} of {length} may be altered"
        assert HostKeyOffered not in told


def altered(side: Side, number: int, at: int) -> Callable[[Packet], bytes]:
    def relay(packet: Packet) -> bytes:
        if (packet.sender, packet.number) != (side, number):
            return packet.wire
        if number == 20:
            return flipped(packet, at)
        data = bytearray(packet.wire)
        data[at] ^= 1
        return bytes(data)

    return relay


@pytest.mark.parametrize("method", [CURVE, HYBRID, NISTP256, GROUP14, GEX])
def test_b15_the_methods_own_values_are_bound(method: str) -> None:
    """Q_C, Q_S, the host key and, for a group exchange, all that was said of the group."""
    sample = pair(kex=(method,))
    sample.run()
    for index, packet in enumerate(p for p in sample.sent if 30 <= p.number < 50):
        for at in (1, 4, 11, -1):
            made = pair(kex=(method,), kex_timeout=5.0)
            made.relay = alter_nth(index, at)
            made.run()
            assert HandshakeDone not in made.kinds("client"), (packet.number, at)
            assert HostKeyOffered not in made.kinds("client")


def alter_nth(index: int, at: int) -> Callable[[Packet], bytes]:
    seen = iter(range(100))

    def relay(packet: Packet) -> bytes:
        if 30 <= packet.number < 50 and next(seen) == index:
            return flipped(packet, at)
        return packet.wire

    return relay


# --- B16, B17, B18: keys and randomness


@pytest.mark.parametrize("key_type", ["ssh-rsa", "ssh-ed25519", "ecdsa-sha2-nistp256"])
def test_b16_passive_rsa_key_recovery_a_faulty_signature_is_not_sent(key_type: str) -> None:
    key = PrivateKey.generate(key_type, 2048 if key_type == "ssh-rsa" else None)
    algorithm = key.public.algorithms[0]

    def faulty(question: Any) -> bytes:
        signature = bytearray(key.sign(question.algorithm, question.data))
        signature[-3] ^= 0x10
        return bytes(signature)

    made = pair(
        kex=(CURVE,), host_keys=(key,), host_key_algorithms=(algorithm,),
        answers={HostKeySignatureNeeded: faulty},
    )  # fmt: skip
    made.run()
    assert type(ended(made, "server")) is CryptoError
    assert not [p for p in made.sent if p.sender == "server" and p.number >= 21]
    assert HandshakeDone not in made.kinds("client")


N_P521 = int(
    "1fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
    "fa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409", 16
)  # fmt: skip
"""SEC 2 §2.6.1: the order of the curve."""


def test_b17_putty_cve_2024_31497_nonces_of_p521() -> None:
    """k is computed back from signatures under a known key: its nine highest bits are set half the time."""
    key = PrivateKey.generate("ecdsa-sha2-nistp521")
    d = key._handle.private_numbers().private_value
    counts = [0] * 9
    rounds = 600
    for turn in range(rounds):
        data = b"%d" % turn
        blob = wire.Reader(key.sign("ecdsa-sha2-nistp521", data))
        blob.string()
        inner = wire.Reader(blob.string())
        r, s = inner.mpint(), inner.mpint()
        h = int.from_bytes(hashlib.sha512(data).digest(), "big")
        k = pow(s, -1, N_P521) * (h + r * d) % N_P521
        for bit in range(9):
            counts[bit] += k >> (520 - bit) & 1
    assert all(rounds * 0.38 < count < rounds * 0.62 for count in counts), counts


def test_b18_libssh_cve_2014_0017_after_a_fork() -> None:
    """Parent and child, forked from one process that has made keys already, draw different numbers."""
    logged_in()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover
        try:
            os.write(write, first_draws())
        finally:
            os._exit(0)
    os.close(write)
    mine = first_draws()
    with os.fdopen(read, "rb") as pipe:
        theirs = pipe.read()
    os.waitpid(child, 0)
    assert len(theirs) == len(mine) == 16 + 32 + 32 + 64
    parts = ((0, 16), (16, 48), (48, 80), (80, 144))
    assert all(mine[a:b] != theirs[a:b] for a, b in parts)


def first_draws() -> bytes:
    """A cookie, an X25519 value, a nonce of Diffie-Hellman, and an ECDH value."""
    made = pair()
    made.start()
    cookie = made.client.transport.kex._ours.cookie  # type: ignore[union-attr]
    exponent = key_exchange.FiniteField(rfc3526(14))._private.to_bytes(64, "big")
    point = find(Kind.KEX, NISTP256).factory().init()
    return cookie + X25519().public + exponent[:32] + point[1:65]


def test_b18_cookies_are_unique() -> None:
    made = pair()
    made.start()
    kex = made.client.transport.kex
    assert len({kex._kexinit(False).cookie for _ in range(2000)}) == 2000


# --- B19, B20: re-exchanges (the rest: tests/transport/test_rekey.py)


@pytest.mark.parametrize("side", ROLES)
@pytest.mark.parametrize("number", [5, 6, 7, 50, 80, 90, 93, 94, 98, 192])
def test_b19_go_cve_2025_22869_data_during_a_re_exchange(side: Side, number: int) -> None:
    made = logged_in()
    made.core(other(side)).rekey(made.now)
    made.run(waiting(made, side, Phase.REKEY_KEX))
    made.inject(other(side), bytes((number,)) + bytes(12))
    assert type(ended(made, side)) is ProtocolViolation


@pytest.mark.parametrize("side", ROLES)
@pytest.mark.parametrize("phase", [Phase.SERVICE, Phase.AUTH])
def test_b20_a_re_exchange_before_login(side: Side, phase: Phase) -> None:
    made = pair()
    made.run(waiting(made, side, phase))
    kexinit = next(p.payload for p in made.sent if p.number == 20 and p.sender != side)
    made.inject(other(side), kexinit)
    made.run()
    assert type(ended(made, side)) is ProtocolViolation


def test_b20_too_many_bytes_before_login(monkeypatch: pytest.MonkeyPatch) -> None:
    assert transport_module._BEFORE_LOGIN <= 1 << 30
    monkeypatch.setattr(transport_module, "_BEFORE_LOGIN", 10_000)
    made = pair()
    made.run(waiting(made, "server", Phase.AUTH))
    while not made.server.closed:
        made.inject("client", b"\xc0" + wire.string(bytes(500)))
    assert type(ended(made, "server")) is LimitExceeded


@pytest.mark.parametrize("method", [CURVE, HYBRID, NISTP256, GROUP14, GEX])
def test_right_values_are_taken_where_wrong_ones_are_not(method: str) -> None:
    made = pair(kex=(method,))
    made.run()
    assert Authenticated in made.kinds("server")
