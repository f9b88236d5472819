"""The groups of RFC 3526, moduli files, and the checks on a peer's group (RFC 4419)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.crypto.groups import (
    Group,
    check_group,
    choose_group,
    is_probable_prime,
    parse_moduli,
    rfc3526,
)
from glasshell.errors import ProtocolViolation, UsageError

from .kat import records, wycheproof

NUMBERS = {2048: 14, 3072: 15, 4096: 16, 6144: 17, 8192: 18}


def test_the_formula_gives_the_published_primes(shared: Path) -> None:
    published = {}
    for record in records(shared / "vectors/cryptography-vectors/asymmetric/DH/rfc3526.txt"):
        group = Group(int(record["P"], 16), int(record["G"]))
        published[group.bits] = group
    for bits, number in NUMBERS.items():
        assert rfc3526(number) == published[bits]


def test_an_unknown_group_is_named() -> None:
    with pytest.raises(UsageError, match="no group 1 here"):
        rfc3526(1)


def test_wycheproof_primality(shared: Path) -> None:
    for test in wycheproof(shared / "vectors/wycheproof/primality_test.json"):
        value = int.from_bytes(bytes.fromhex(test["value"]), "big", signed=True)
        if test["result"] != "acceptable":  # negative primes, which no reader of ours lets through
            assert is_probable_prime(value, rounds=16) is (test["result"] == "valid"), test["comment"]


def test_openssh_moduli(shared: Path) -> None:
    text = (shared / "vectors/openssh/moduli").read_text()
    groups = parse_moduli(text)
    lines = [line.split() for line in text.splitlines() if not line.startswith("#")]
    assert len(groups) == len(lines) > 100
    assert [(group.bits - 1, f"{group.g:x}", f"{group.p:X}") for group in groups] == [
        (int(fields[4]), fields[5], fields[6].upper()) for fields in lines
    ]


P = rfc3526(14).p


@pytest.mark.parametrize(
    "line",
    [
        f"20260101000000 1 6 100 2047 2 {P:X}",  # not a safe prime
        f"20260101000000 2 7 100 2047 2 {P:X}",  # found composite
        f"20260101000000 2 0 100 2047 2 {P:X}",  # never tested
        f"20260101000000 2 6 0 2047 2 {P:X}",  # no trials
        f"20260101000000 2 6 100 2048 2 {P:X}",  # the size is another
        f"20260101000000 2 6 100 2047 1 {P:X}",  # a generator of nothing
        f"20260101000000 2 6 100 1023 2 {P >> 1024:X}",  # too small
        f"20260101000000 2 6 100 2047 2 {P:X} more",
        f"20260101000000 2 6 100 2047 2 {P:X}Z",
        f"#20260101000000 2 6 100 2047 2 {P:X}",
    ],
)
def test_lines_that_may_not_be_offered(line: str) -> None:
    assert parse_moduli(line) == ()


@given(st.text(max_size=300))
def test_any_text_is_read(text: str) -> None:
    parse_moduli(text)


def fake(bits: int) -> Group:
    return Group((1 << (bits - 1)) + 1, 2)


def first(groups: list[Group]) -> Group:
    return groups[0]


def test_the_smallest_that_is_enough_else_the_largest() -> None:
    known = [fake(4096), fake(2048), fake(3072)]
    assert choose_group(known, 2048, 3000, 8192, first).bits == 3072
    assert choose_group(known, 2048, 3072, 8192, first).bits == 3072
    assert choose_group(known, 2048, 8192, 8192, first).bits == 4096
    assert choose_group(known, 1024, 1024, 8192, first).bits == 2048  # raised to our minimum
    assert choose_group(known, 2048, 2048, 2**32 - 1, first).bits == 2048


def test_rfc_3526_stands_in() -> None:
    assert choose_group([], 2048, 3072, 8192) == rfc3526(15)
    assert choose_group([fake(2048)], 4096, 4096, 8192) == rfc3526(16)


@pytest.mark.parametrize(
    "request_", [(4096, 3072, 8192), (2048, 8192, 4096), (0, 0, 0), (8192, 4096, 2048), (1024, 1024, 2047),
                 (8193, 8193, 2**32 - 1), (5000, 5000, 5500)],
)  # fmt: skip
def test_requests_that_cannot_be_met(request_: tuple[int, int, int]) -> None:
    with pytest.raises(ProtocolViolation):
        choose_group([fake(2048), fake(3072)], *request_)


def test_good_groups_pass(shared: Path) -> None:
    assert check_group(P, 2) == Group(P, 2)
    group = parse_moduli((shared / "vectors/openssh/moduli").read_text())[0]
    assert check_group(group.p, group.g) == group


@pytest.mark.parametrize(
    ("p", "g", "said"),
    [
        (rfc3526(14).p >> 1, 2, "2047 bits"),
        (rfc3526(18).p << 1, 2, "8193 bits"),
        (-P, 2, "0 bits"),
        (0, 2, "0 bits"),
        (P - 1, 2, "not prime"),  # even
        (P - 2, 2, "not prime"),
        ((1 << 2047) + 1, 2, "not prime"),
        (P, 0, "generator"),
        (P, 1, "generator"),
        (P, -2, "generator"),
        (P, P - 1, "generator"),
        (P, P, "generator"),
    ],
)
def test_bad_groups_are_refused(p: int, g: int, said: str) -> None:
    with pytest.raises(ProtocolViolation, match=said):
        check_group(p, g)


def test_a_group_must_be_of_the_size_asked_for() -> None:
    with pytest.raises(ProtocolViolation, match="3072 to 8192"):
        check_group(P, 2, minimum=3072)
    with pytest.raises(ProtocolViolation, match="2048 to 4096"):
        check_group(rfc3526(18).p, 2, maximum=4096)
