"""RFC 6238 codes: its own vectors, each code once, a bound on guesses, nobody told apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.auth.totp import Totp, TotpCodes
from glasshell.errors import UsageError
from glasshell.wire import Secret

SEED = b"12345678901234567890"
SEEDS = {"sha1": SEED, "sha256": (SEED * 2)[:32], "sha512": (SEED * 4)[:64]}
"""RFC 6238 errata 2866: each hash has a seed as long as its output."""

# RFC 6238 Appendix B, table 1: time, SHA-1, SHA-256, SHA-512.
TABLE = [
    (59, "94287082", "46119246", "90693936"),
    (1111111109, "07081804", "68084774", "25091201"),
    (1111111111, "14050471", "67062674", "99943326"),
    (1234567890, "89005924", "91819424", "93441116"),
    (2000000000, "69279037", "90698825", "38618901"),
    (20000000000, "65353130", "77737706", "47863826"),
]
# RFC 4226 Appendix D: counters 0 to 9.
HOTP = ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: str(row[0]))
def test_the_vectors_of_rfc_6238(row: tuple[int, str, str, str]) -> None:
    now, *codes = row
    for name, code in zip(SEEDS, codes, strict=True):
        assert Totp(SEEDS[name], digits=8, algorithm=name).code(now) == code  # type: ignore[arg-type]


def test_the_vectors_of_rfc_4226() -> None:
    assert [Totp(SEED).code(30 * counter) for counter in range(10)] == HOTP


def test_a_code_serves_once() -> None:
    totp = Totp(SEED)
    assert totp.check(HOTP[3], 90)
    assert not totp.check(HOTP[3], 91)


def test_an_older_code_does_not_serve_after_a_newer_one() -> None:
    totp = Totp(SEED)
    assert totp.check(HOTP[4], 100)  # the next step's, by a clock that is ahead
    assert not totp.check(HOTP[3], 100)


@pytest.mark.parametrize(("counter", "good"), [(1, False), (2, True), (3, True), (4, True), (5, False)])
def test_the_window_is_one_step_each_way(counter: int, good: bool) -> None:
    assert Totp(SEED).check(HOTP[counter], 3 * 30) is good


def test_guesses_are_bounded_and_the_right_code_is_not_looked_at_beyond() -> None:
    totp = Totp(SEED, attempts=3, every=30)
    assert not any(totp.check("000000", 90 + each) for each in range(3))
    assert not totp.check(HOTP[4], 119.9)
    assert totp.check(HOTP[4], 120)


def test_a_refused_guess_does_not_prolong_the_wait() -> None:
    totp = Totp(SEED, attempts=1, every=30)
    assert not totp.check("000000", 90)
    assert not totp.check("000000", 119)
    assert totp.check(HOTP[4], 120)


def test_base32_as_it_is_shown() -> None:
    assert Totp.from_base32("gezd gnbv gy3t qojq GEZDGNBVGY3TQOJQ").code(59) == HOTP[1]
    for text in ("JBSWY3DP1", "JBSW", ""):
        with pytest.raises(UsageError):
            Totp.from_base32(text)


def test_the_address_for_an_authenticator() -> None:
    assert Totp(SEED).uri("ada@host", "Glass Shell") == (
        "otpauth://totp/Glass%20Shell:ada%40host?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
        "&issuer=Glass%20Shell&algorithm=SHA1&digits=6&period=30"
    )


def test_who_has_no_codes_is_asked_like_everybody_and_refused() -> None:
    codes = TotpCodes({"ada": Totp(SEED)})
    assert [(each.text, each.echo) for each in codes.prompts().prompts] == [("Verification code: ", False)]
    assert not codes.check("bob", [Secret(HOTP[3])], 90)
    assert codes.check("ada", [Secret(f" {HOTP[3]} ")], 90)
    assert not codes.check("ada", [], 91)


@given(st.text(max_size=20), st.floats(0, 4e9))
def test_whatever_is_typed_is_a_yes_or_a_no(text: str, now: float) -> None:
    assert Totp(SEED).check(Secret(text.encode("utf-8", "surrogatepass")), now) in (True, False)
