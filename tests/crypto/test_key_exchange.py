"""Key exchange against Wycheproof, CCTV and Diffie-Hellman known answers."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from glasshell.crypto.groups import rfc3526
from glasshell.crypto.key_exchange import (
    EXPONENT_BITS,
    X25519,
    Classical,
    Ecdh,
    FiniteField,
    Hybrid,
    KeyExchange,
)
from glasshell.errors import ProtocolViolation, UsageError
from glasshell.wire import Secret, mpint, mpint_body, string

from .kat import records, wycheproof

CURVES = {"secp256r1": ec.SECP256R1(), "secp384r1": ec.SECP384R1(), "secp521r1": ec.SECP521R1()}


def k_of(shared_hex: str) -> Secret:
    """K of RFC 8731 §3.1 and RFC 5656 §4: the octets as an integer, as an mpint."""
    return Secret(mpint(int(shared_hex, 16)))


def test_x25519(shared: Path) -> None:
    refused = 0
    for test in wycheproof(shared / "vectors/wycheproof/x25519_test.json"):
        side = Classical(X25519(bytes.fromhex(test["private"])))
        public = bytes.fromhex(test["public"])
        if int(test["shared"], 16) == 0:
            refused += 1
            with pytest.raises(ProtocolViolation, match="low order"):
                side.respond(public)
            with pytest.raises(ProtocolViolation, match="low order"):
                side.finish(public)
        else:
            assert side.respond(public) == (side.init(), k_of(test["shared"]))
            assert side.finish(public) == k_of(test["shared"])
    assert refused > 20


@pytest.mark.parametrize("size", [0, 1, 31, 33, 64])
def test_x25519_takes_32_bytes_only(size: int) -> None:
    with pytest.raises(ProtocolViolation, match=f"{size} bytes"):
        Classical(X25519()).respond(bytes([9]) * size)


@pytest.mark.parametrize("curve", CURVES)
def test_ecdh(shared: Path, curve: str) -> None:
    refused = 0
    for test in wycheproof(shared / f"vectors/wycheproof/ecdh_{curve}_ecpoint_test.json"):
        side = Classical(Ecdh(CURVES[curve], int(test["private"], 16)))
        public = bytes.fromhex(test["public"])
        if test["result"] == "valid":
            assert side.finish(public) == k_of(test["shared"])
            continue
        refused += 1  # off the curve, or compressed, which Wycheproof finds acceptable and OpenSSH does not
        with pytest.raises(ProtocolViolation, match="point"):
            side.respond(public)
    assert refused


@pytest.mark.parametrize("curve", CURVES)
def test_ecdh_refuses_what_is_no_point(curve: str) -> None:
    side = Classical(Ecdh(CURVES[curve]))
    point = side.init()
    compressed = bytes([2 + point[-1] % 2]) + point[1 : 1 + len(point) // 2]
    hybrid = bytes([6 + point[-1] % 2]) + point[1:]  # X9.62 §4.3.6
    origin = b"\4" + bytes(len(point) - 1)
    for bad in (b"", b"\0", b"\4", compressed, hybrid, origin, point[:-1], point + b"\0"):
        with pytest.raises(ProtocolViolation):
            side.respond(bad)


# How many of each group's vectors: an exponent as long as the modulus takes a second in group 18.
TAKEN = {"GROUP14": 5, "GROUP15": 2, "GROUP16": 1, "GROUP18": 1}


def finite_field_vectors(shared: Path) -> list[dict[str, str]]:
    found = list(records(shared / "vectors/ssh-attacker/DH_TestVectors_KAS.txt"))
    return [record for record in found if int(record["COUNT"]) < TAKEN.get(record["section"], 0)]


def test_finite_fields(shared: Path) -> None:
    vectors = finite_field_vectors(shared)
    assert len(vectors) == sum(TAKEN.values())
    for record in vectors:
        group = rfc3526(int(record["section"].removeprefix("GROUP")))
        side = Classical(FiniteField(group, int(record["A_pr"], 16)))
        assert side.init() == mpint_body(int(record["A_pub"], 16))
        assert side.finish(mpint_body(int(record["B_pub"], 16))) == k_of(record["K_S"])


P = rfc3526(14).p


OUT_OF_BOUNDS = {
    "0": 0, "1": 1, "p-1": P - 1, "p": P, "p+1": P + 1, "-1": -1, "-2": -2, "2-p": 2 - P, "long": P << 20_000,
}  # fmt: skip


@pytest.mark.parametrize("value", OUT_OF_BOUNDS.values(), ids=OUT_OF_BOUNDS)
def test_finite_fields_refuse_values_out_of_bounds(value: int) -> None:
    with pytest.raises(ProtocolViolation, match="outside 2 to p-2"):
        Classical(FiniteField(rfc3526(14))).respond(mpint_body(value))


def test_a_finite_field_exponent_is_long_and_fresh() -> None:
    drawn = [FiniteField(rfc3526(14))._private for _ in range(20)]
    assert len(set(drawn)) == 20
    assert all(x.bit_length() == EXPONENT_BITS >= 256 for x in drawn)


def mlkem_vectors(shared: Path, name: str) -> list[dict[str, Any]]:
    return wycheproof(shared / f"vectors/wycheproof/mlkem_768{name}_test.json")


def test_hybrid_public_value_is_key_then_point(shared: Path) -> None:
    for test in mlkem_vectors(shared, "_keygen_seed"):
        agreement = X25519()
        client = Hybrid(agreement, bytes.fromhex(test["seed"]))
        assert client.init() == bytes.fromhex(test["ek"]) + agreement.public


def test_hybrid_secret(shared: Path) -> None:
    pair = wycheproof(shared / "vectors/wycheproof/x25519_test.json")[0]
    private, public, classical = (bytes.fromhex(pair[name]) for name in ("private", "public", "shared"))
    valid = 0
    for test in mlkem_vectors(shared, ""):
        seed, ciphertext = bytes.fromhex(test["seed"]), bytes.fromhex(test["c"])
        if len(seed) != 64:
            continue
        client = Hybrid(X25519(private), seed)
        client.init()
        if test["result"] == "valid":
            valid += 1
            combined = hashlib.sha256(bytes.fromhex(test["K"]) + classical).digest()
            assert client.finish(ciphertext + public) == Secret(string(combined))
        else:
            with pytest.raises(ProtocolViolation):
                client.finish(ciphertext + public)
    assert valid


def test_hybrid_refuses_unreduced_keys(shared: Path) -> None:
    keys = gzip.decompress((shared / "vectors/cctv/ML-KEM/modulus/ML-KEM-768.txt.gz").read_bytes()).split()
    keys += [t["ek"].encode() for t in mlkem_vectors(shared, "_encaps") if t["result"] == "invalid"]
    assert len(keys) > 780
    server, point = Hybrid(), X25519().public
    for key in keys:
        with pytest.raises(ProtocolViolation):
            server.respond(bytes.fromhex(key.decode()) + point)


def test_hybrid_refuses_low_order_points_and_other_lengths() -> None:
    client, server = Hybrid(), Hybrid()
    offer = client.init()
    answer, secret = server.respond(offer)
    assert (len(offer), len(answer), len(secret)) == (1184 + 32, 1088 + 32, 4 + 32)
    takes: list[tuple[Callable[[bytes], object], bytes]] = [(server.respond, offer), (client.finish, answer)]
    for take, value in takes:
        for bad in (b"", value[:-1], value + b"\0", value[:-32] + bytes(32)):
            with pytest.raises(ProtocolViolation):
                take(bad)


def test_an_altered_ciphertext_gives_another_secret() -> None:
    client, server = Hybrid(), Hybrid()
    answer, secret = server.respond(client.init())
    altered = bytes([answer[0] ^ 1]) + answer[1:]
    assert client.finish(altered) != secret
    assert client.finish(answer) == secret


def test_finish_needs_init() -> None:
    with pytest.raises(UsageError):
        Hybrid().finish(bytes(1120))


@given(st.binary(max_size=1300), st.sampled_from(["x25519", "nistp256", "group14", "hybrid"]))
def test_noise_is_a_violation_or_a_secret(value: bytes, which: str) -> None:
    makers: dict[str, Callable[[], KeyExchange]] = {
        "x25519": lambda: Classical(X25519()),
        "nistp256": lambda: Classical(Ecdh(ec.SECP256R1())),
        "group14": lambda: Classical(FiniteField(rfc3526(14), 3)),
        "hybrid": Hybrid,
    }
    side = makers[which]()
    side.init()
    takes: list[Callable[[bytes], object]] = [side.respond, side.finish]
    for take in takes:
        with contextlib.suppress(ProtocolViolation):
            take(value)


def test_secrets_are_not_shown() -> None:
    client, server = Classical(X25519()), Classical(X25519())
    _, secret = server.respond(client.init())
    assert repr(secret) == "<redacted>"
