"""Attacks on identification and framing: rows A1 to A15 of docs/attacks.md, on whole cores.

Both roles wherever both can be attacked. What a single parser must hold against is in tests/transport.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag

from glasshell.crypto.registry import Kind, names
from glasshell.errors import (
    DeadlineExceeded,
    Disconnected,
    IntegrityError,
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
    Closed,
    CredentialNeeded,
    DebugMessage,
    HandshakeDone,
    HostKeyOffered,
    NoneOffered,
    PrefaceLine,
)
from glasshell.messages.connection import ChannelOpen, SessionOpen
from glasshell.messages.transport import Debug, Disconnect, Ping
from glasshell.policy import Policy
from glasshell.testing.pair import Pair, Side
from glasshell.transport import transport as transport_module
from glasshell.transport.rules import Phase
from tests.transport.kit import ROLES, ended, logged_in, other, pair, plain_packet, sample


def fresh(side: Side) -> Pair:
    """A core that has sent what it sends first, and has heard nothing."""
    made = pair()
    made.start()
    made._collect(side)
    return made


def hears(made: Pair, side: Side, data: bytes) -> None:
    made.core(side).receive_data(data, made.now)


def identified(side: Side) -> Pair:
    made = fresh(side)
    hears(made, side, b"SSH-2.0-peer\r\n")
    assert made.core(side).transport.phase is Phase.KEXINIT
    return made


def with_verdict_pending(side: Side) -> Pair:
    """A core whose application has not answered a question that holds everything back."""
    made = pair()
    del made.answers[HostKeyOffered if side == "client" else NoneOffered]
    made.run()
    assert made.core(side).transport.agenda.held == 1
    return made


# --- A1, A2, A3: identification


@pytest.mark.parametrize(("side", "most"), [("server", 1024), ("client", 9 * 1024)])
def test_a1_twisted_cve_2022_21716_endless_identification(side: Side, most: int) -> None:
    made = fresh(side)
    taken = 0
    while not made.core(side).closed:
        hears(made, side, b"A" * 512)
        taken += 512
        assert taken <= most
    assert isinstance(ended(made, side), PeerError)
    hears(made, side, b"A" * 10_000_000)
    assert len(made.core(side).transport._reader._buffer) <= most


def test_a2_russh_cve_2026_48108_lines_before_the_identification() -> None:
    made = fresh("server")
    hears(made, "server", b"hello\r\nSSH-2.0-x\r\n")
    assert type(ended(made, "server")) is ProtocolViolation
    made = fresh("client")
    hears(made, "client", b"\x1b[2Jline\n" * 1024)
    assert made.client.transport.phase is Phase.IDENTIFICATION
    shown = {event.text for event in made.client.events() if isinstance(event, PrefaceLine)}
    assert shown == {"\\033[2Jline"}
    hears(made, "client", b"x\n")
    assert type(ended(made, "client")) is LimitExceeded


@pytest.mark.parametrize("side", ROLES)
@pytest.mark.parametrize(
    "line", [b"SSH-1.5-x", b"SSH-2.0-a\0b", b"SSH-2.0-\x1b[0m", b"SSH-2.0-" + b"x" * 248, b"SSH-9-x"]
)
def test_a3_odd_versions(side: Side, line: bytes) -> None:
    made = fresh(side)
    hears(made, side, line + b"\r\n")
    assert isinstance(ended(made, side), PeerError | NegotiationFailed)


@pytest.mark.parametrize("line", [b"SSH-1.99-x\r\n", b"SSH-2.0-x\n"])
@pytest.mark.parametrize("side", ROLES)
def test_a3_versions_that_are_fine(side: Side, line: bytes) -> None:
    made = fresh(side)
    hears(made, side, line)
    assert made.core(side).transport.phase is Phase.KEXINIT


# --- A4: slowness


def slow(made: Pair, data: bytes) -> float:
    """When a server closes on a client that sends one byte every five seconds."""
    for byte in data:
        made.now += 5
        made.server.handle_timeout(made.now)
        if made.server.closed:
            assert type(ended(made, "server")) is DeadlineExceeded
            return made.now
        hears(made, "server", bytes((byte,)))
    raise AssertionError("never closed")


def at_auth(side: Side) -> Pair:
    made = pair()
    del made.answers[CredentialNeeded]
    made.run()
    assert made.core(side).transport.phase is Phase.AUTH
    return made


@pytest.mark.parametrize("position", ["P0", "P1", "P2", "P4"])
def test_a4_slowloris_the_grace_time_counts_from_the_start(position: str) -> None:
    """Each byte is in time, the login is not: 120 s from the connection's start, whatever came meanwhile."""
    bring = {"P0": fresh, "P1": identified, "P2": after_kexinit, "P4": at_auth}
    made = bring[position]("server")
    data = {
        "P0": b"SSH-2.0-" + b"x" * 100,
        "P1": plain_packet(sample_kexinit()),
        "P2": plain_packet(b"\x1e" + bytes(200)),
        "P4": made.forge("client", b"\x32" + bytes(200)),
    }[position]
    assert slow(made, data) == 120


def sample_kexinit() -> bytes:
    made = pair()
    made.run(lambda: len(made.sent) >= 2)
    return next(p.payload for p in made.sent if p.number == 20 and p.sender == "client")


def after_kexinit(side: Side) -> Pair:
    made = pair()
    made.run(lambda: made.core(side).transport.phase is Phase.KEX)
    made._wire.clear()
    return made


# --- A5, A6, A7: packets


@pytest.mark.parametrize("side", ROLES)
@pytest.mark.parametrize("length", [0, 1, 4, 7, 11, 13, 35001, 262145, 2**31 - 1, 2**32 - 1])
def test_a5_libssh2_cve_2026_55200_russh_cve_2024_43410_packet_length(side: Side, length: int) -> None:
    """Closed by the four bytes alone: asyncssh 2.24.1 waits for ever after 0 and 1."""
    made = identified(side)
    hears(made, side, struct.pack(">I", length))
    assert type(ended(made, side)) is ProtocolViolation
    assert made.core(side).transport.inbound.buffered() == 4


@pytest.mark.parametrize("side", ROLES)
@pytest.mark.parametrize("padding", [0, 1, 2, 3, 11, 12, 13, 255])
def test_a6_go_cve_2021_43565_cve_2026_46597_padding(side: Side, padding: int) -> None:
    made = identified(side)
    hears(made, side, struct.pack(">IB", 12, padding) + bytes(11))
    assert type(ended(made, side)) is MalformedMessage


@pytest.mark.parametrize("side", ROLES)
@pytest.mark.parametrize("cipher", names(Kind.CIPHER))
def test_a7_cve_2008_5161_one_answer_to_every_alteration(side: Side, cipher: str) -> None:
    """What goes out after an altered packet is the same in length, reason and text."""
    answers = set()
    for at in (4, 5, 20, 30, -1):
        made = logged_in(ciphers=(cipher,), strict=True)
        made.relay = lambda p: bytes_flipped(p.wire, at) if p.sender != side else p.wire  # noqa: B023
        made.say(other(side), b"\x02\x00\x00\x00\x20" + bytes(32))
        made.run()
        error = ended(made, side)
        assert type(error) is IntegrityError
        goodbye = [p for p in made.sent if p.sender == side]
        answers.add((str(error), *(p.payload for p in goodbye), *(len(p.wire) for p in goodbye)))
        assert goodbye[0].payload.startswith(b"\1\0\0\0\5")  # SSH_DISCONNECT_MAC_ERROR
    assert len(answers) == 1


def bytes_flipped(wire: bytes, at: int) -> bytes:
    data = bytearray(wire)
    data[at] ^= 1
    return bytes(data)


# --- A8: crypto that fails


PRIMITIVES = {
    "agree": "glasshell.crypto.key_exchange.X25519.shared",
    "derive": "glasshell.transport.exchange.derive",
    "verify": "glasshell.crypto.signatures.PublicKey.verify",
    "read key": "glasshell.crypto.signatures.PublicKey.from_blob",
}


@pytest.mark.parametrize("fault", [InvalidTag(), ValueError("x"), MemoryError(), AssertionError(), OSError()])
@pytest.mark.parametrize("side", ROLES)
@pytest.mark.parametrize("what", ["open", "seal", *PRIMITIVES])
def test_a8_libssh_cve_2025_5987_cve_2025_26465_a_failing_primitive(
    what: str, side: Side, fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of a primitive is never success: the connection ends there, and nothing in clear goes out."""

    def fail(*_: object, **__: object) -> Any:
        raise fault

    made = pair()
    if what in PRIMITIVES:
        monkeypatch.setattr(PRIMITIVES[what], fail)
    else:
        made.run(lambda: made.core(side).transport.phase is Phase.AUTH)
        transport = made.core(side).transport
        if what == "open":
            transport.inbound.opener = Broken(transport.inbound.opener, fail)
        else:
            transport.outbound.sealer = Broken(transport.outbound.sealer, fail)
    made.run()
    told = made.kinds("server") + made.kinds("client")
    assert Authenticated not in told
    assert HandshakeDone not in told or what not in PRIMITIVES
    errors = [event.error for who in ROLES for event in made.told(who, Closed)]
    assert errors
    assert all(isinstance(error, SSHError) for error in errors)
    assert not any(b"ssh-connection" in packet.wire for packet in made.sent)


class Broken:
    """A cipher that raises where it should work."""

    def __init__(self, real: Any, fail: Callable[..., Any]) -> None:
        self._real = real
        self.open = self.seal_into = fail

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


# --- A9: counters (their bounds: tests/transport/test_packets.py; rekeys: test_rekey.py)


def test_a9_keys_are_renewed_long_before_a_counter_comes_round() -> None:
    for policy in (Policy.client(), Policy.server()):
        assert policy.rekey_packets <= 2**31  # RFC 4344 §3.1
        assert policy.rekey_bytes <= 2**36  # RFC 4344 §3.2, blocks of 16 bytes


# --- A10: compression


def zlib_pair() -> Pair:
    return logged_in(compression=("zlib@openssh.com",))


def test_a10_compression_is_off_by_default_and_never_before_login() -> None:
    assert Policy.client().compression == Policy.server().compression == ("none",)
    assert "zlib" not in names(Kind.COMPRESSION)
    made = pair(compression=("zlib@openssh.com",))
    made.run(lambda: made.server.transport.phase is Phase.AUTH)
    assert made.server.transport.inbound.decompressor is None
    logged_in(made)
    assert made.server.transport.inbound.decompressor is not None


@pytest.mark.parametrize("side", ROLES)
def test_a10_erlang_cve_2026_23943_decompression_bomb(side: Side) -> None:
    made = zlib_pair()
    made.say(other(side), b"\x02" + struct.pack(">I", 8 << 20) + bytes(8 << 20))
    made.run()
    assert len(made.sent[0].wire) < 16 * 1024
    assert type(ended(made, side)) is LimitExceeded


@pytest.mark.parametrize("side", ROLES)
def test_a10_russh_cve_2026_46702_empty_compressed_packets(side: Side) -> None:
    class Empty:
        def compress(self, payload: bytes) -> bytes:
            return zlib.compressobj().flush(zlib.Z_SYNC_FLUSH)

    made = zlib_pair()
    made.core(other(side)).transport.outbound.compressor = Empty()  # type: ignore[assignment]
    for _ in range(1000):
        made.say(other(side), b"\x02")
    made.run()
    assert type(ended(made, side)) is MalformedMessage


# --- A11, A13: floods whose answers nobody reads


def flood(made: Pair, side: Side, payload: bytes, most: int = 200_000) -> int:
    """Feeds `payload` until `side` has enough; returns the most bytes it ever kept for the peer."""
    core, kept = made.core(side), 0
    for _ in range(most):
        made.inject(other(side), payload)
        kept = max(kept, len(core.transport.outbound.buffer) + core.transport._waiting.size)
        if core.closed:
            return kept
        assert not core.events() or payload[0] == 4
    raise AssertionError("never enough")


@pytest.mark.parametrize("side", ROLES)
@pytest.mark.parametrize("where", ["AUTH", "CONNECTION", "REKEY"])
@pytest.mark.parametrize("payload", [Ping(b"x" * 200).encode(), b"\xc8", b"\x08"], ids=["PING", "200", "8"])
def test_a11_openssh_cve_2025_26466_a13_replies_that_nobody_reads(
    side: Side, where: str, payload: bytes
) -> None:
    if where == "AUTH":
        made = pair(max_output=100_000)
        del made.answers[CredentialNeeded]
        made.run()
    else:
        made = logged_in(max_output=100_000)
    if where == "REKEY":
        made.core(side).rekey(made.now)
    made.core(side).events()
    kept = flood(made, side, payload)
    assert kept <= 100_000 + 1000
    assert type(ended(made, side)) is LimitExceeded
    assert len(made.core(side).transport.outbound.buffer) <= 100_000 + 1000


@pytest.mark.parametrize("side", ROLES)
def test_a11_the_default_bound_is_4_mib(side: Side) -> None:
    made = logged_in()
    kept = flood(made, side, Ping(bytes(100_000)).encode())
    assert 3 << 20 < kept <= (4 << 20) + 200_000
    assert type(ended(made, side)) is LimitExceeded


@pytest.mark.parametrize("side", ROLES)
def test_a13_debug_messages_are_not_kept_for_ever(side: Side) -> None:
    made = logged_in()
    for _ in range(5000):
        made.inject(other(side), Debug(True, "x").encode())
    told = made.core(side).events()
    assert len(told) == 1000
    assert {type(event) for event in told} == {DebugMessage}


@pytest.mark.parametrize("side", ROLES)
def test_a13_noise_before_login_has_an_end(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSH 10.3's rule: a peer that has not logged in gets only so many bytes."""
    monkeypatch.setattr(transport_module, "_BEFORE_LOGIN", 100_000)
    made = pair()
    del made.answers[CredentialNeeded]
    made.run()
    sent = 0
    while not made.core(side).closed:
        made.inject(other(side), b"\x02\x00\x00\x03\xe8" + bytes(1000))
        sent += 1000
    assert 90_000 < sent < 101_000
    assert type(ended(made, side)) is LimitExceeded


def test_a13_after_login_there_is_no_such_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_module, "_BEFORE_LOGIN", 100_000)
    made = logged_in()
    for _ in range(200):
        made.say("client", b"\x02\x00\x00\x03\xe8" + bytes(1000))
    made.server.rekey(made.now)
    made.run()
    assert not made.server.closed


@pytest.mark.parametrize("side", ROLES)
def test_goal_9_bytes_behind_an_open_question_are_bounded(side: Side) -> None:
    """design rule 10: reading stops at 64 KiB; who feeds on all the same is cut off."""
    made = with_verdict_pending(side)
    core = made.core(side)
    assert not core.reading_paused
    fed = core.transport.inbound.buffered()
    while not core.closed:
        hears(made, side, bytes(8192))
        fed += 8192
        assert core.reading_paused is (64 * 1024 <= fed <= 512 * 1024)
        assert core.transport.inbound.buffered() == fed
        assert fed < 600 * 1024
    assert type(ended(made, side)) is LimitExceeded


# --- A12: EXT_INFO


def at_service(side: Side) -> Pair:
    made = pair()
    held = {5, 6, 7}
    made.relay = lambda p: b"" if p.sender != side and p.number in held else p.wire
    made.run()
    assert made.core(side).transport.phase is Phase.SERVICE
    return made


EXT_INFO = b"\x07\x00\x00\x00\x01\x00\x00\x00\x01x\x00\x00\x00\x01y"


@pytest.mark.parametrize("side", ROLES)
@pytest.mark.parametrize("count", [2, 1025, 2**31, 2**32 - 1])
def test_a12_libssh2_cve_2026_55199_more_extensions_than_bytes(side: Side, count: int) -> None:
    made = at_service(side)
    made.inject(other(side), b"\x07" + struct.pack(">I", count) + bytes(10))
    assert isinstance(ended(made, side), MalformedMessage | LimitExceeded)


@pytest.mark.parametrize("side", ROLES)
def test_a12_many_extensions_are_too_many(side: Side) -> None:
    made = at_service(side)
    one = b"\0\0\0\1x\0\0\0\0"
    made.inject(other(side), b"\x07" + struct.pack(">I", 2000) + one * 2000)
    assert type(ended(made, side)) is LimitExceeded


@pytest.mark.parametrize(("side", "most"), [("client", 2), ("server", 1)])
def test_a12_how_often_ext_info_may_come(side: Side, most: int) -> None:
    made = at_service(side)
    for _ in range(most):
        made.inject(other(side), EXT_INFO)
        assert made.core(side).transport.extensions == {"x": b"y"}
    made.inject(other(side), EXT_INFO)
    assert type(ended(made, side)) is ProtocolViolation


def test_a12_a_clients_ext_info_comes_first_or_not_at_all() -> None:
    made = at_service("server")
    made.inject("client", b"\x02\0\0\0\0")
    made.inject("client", EXT_INFO)
    assert type(ended(made, "server")) is ProtocolViolation


# --- A14: trailing bytes


@pytest.mark.parametrize("side", ROLES)
@pytest.mark.parametrize("number", [20, 30, 31, 21, 5, 6, 90])
def test_a14_russh_2026_one_byte_too_many(side: Side, number: int) -> None:
    made = pair(answers={ChannelOffered: lambda q: True})
    sender = other(side)
    transport = made.core(sender).transport

    seal = transport.outbound.seal

    def longer(head: bytes, data: bytes = b"") -> tuple[int, int, int]:
        return seal(head, data + b"\0" if head[0] == number else data)

    transport.outbound.seal = longer  # type: ignore[method-assign, assignment]
    made.run()
    if number == 90:
        made.core(sender).mux.open("session", SessionOpen())
        made.run()
    elif {5: "client", 30: "client", 6: "server", 31: "server"}.get(number, sender) != sender:
        return  # the other role's message
    assert type(ended(made, side)) is MalformedMessage


# --- A15: text for terminals


EVIL = "\x1b]0;pwned\x07 \x9b2J \r\n \u202e"
RAW = b"\x1b[2J\xff\xfe\x9b\r\n"


def harmless(text: str) -> bool:
    return text.isprintable()


@pytest.mark.parametrize("side", ROLES)
@pytest.mark.parametrize("text", [EVIL.encode(), RAW])
def test_a15_go_2026_control_characters_in_disconnect_and_debug(side: Side, text: bytes) -> None:
    string = struct.pack(">I", len(text)) + text
    made = logged_in()
    made.inject(other(side), b"\x04\x01" + string + bytes(4))
    (debug,) = made.core(side).events()
    assert isinstance(debug, DebugMessage)
    assert harmless(debug.text)
    made.inject(other(side), b"\x01\0\0\0\x0b" + string + bytes(4))
    error = ended(made, side)
    assert isinstance(error, Disconnected)
    assert harmless(str(error))
    assert harmless(error.description)


@pytest.mark.parametrize("side", ROLES)
def test_a15_in_names_and_identifications(side: Side) -> None:
    """Names are ASCII by their grammar; what is shown of a line that is no identification is escaped."""
    made = fresh(side)
    hears(made, side, b"SSH-2.0-" + RAW)
    assert harmless(str(ended(made, side)))
    made = fresh(side)
    hears(made, side, EVIL.encode() + b"\n")
    made.log[side] += made.core(side).events()
    shown = [e.text for e in made.told(side, PrefaceLine)] + [str(e.error) for e in made.told(side, Closed)]
    assert shown
    assert all(map(harmless, shown))
    made = identified(side)
    lists = (struct.pack(">I", 3) + b"a\x1bb") * 10
    hears(made, side, plain_packet(b"\x14" + bytes(16) + lists + bytes(5)))
    error = ended(made, side)
    assert type(error) is MalformedMessage
    assert harmless(str(error))


def test_a15_eof_hint_shows_what_is_no_ssh_escaped() -> None:
    made = fresh("client")
    hears(made, "client", b"\x1b]0;x\x07 Sorry")
    made.client.receive_eof(made.now)
    assert harmless(ended(made, "client").hint)


@pytest.mark.parametrize("kind", [Disconnect, ChannelOpen])
def test_the_samples_of_this_file_are_well_formed(kind: Any) -> None:
    assert kind.decode(sample(kind).encode()) == sample(kind)
