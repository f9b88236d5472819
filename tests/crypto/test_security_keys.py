"""OpenSSH PROTOCOL.u2f: keys inside security keys, and what their signatures say of who held them."""

from __future__ import annotations

import pytest

from glasshell.crypto.signatures import PrivateKey, PublicKey
from glasshell.errors import KeyFormatError, UsageError
from tests.fido import ECDSA, ED25519, TOUCHED, VERIFIED, WEBAUTHN, Token, string

KINDS = (ED25519, ECDSA)


@pytest.mark.parametrize("kind", KINDS)
def test_a_touched_key_has_signed(kind: str) -> None:
    token = Token(kind)
    signature = token.sign(b"data")
    assert token.public.verify(kind, signature, b"data")
    assert not token.public.verify(kind, signature, b"Data")
    assert not Token(kind).public.verify(kind, signature, b"data")
    for length in range(len(signature)):
        assert not token.public.verify(kind, signature[:length], b"data")
    assert not token.public.verify(kind, signature + b"\0", b"data")


@pytest.mark.parametrize("kind", KINDS)
def test_go_cve_2026_39831_touch_is_asked_for_unless_the_caller_says_otherwise(kind: str) -> None:
    token = Token(kind)
    for flags in (0, VERIFIED, 0x80, 0xFE):
        signature = token.sign(b"data", flags=flags)
        assert not token.public.verify(kind, signature, b"data")
        assert token.public.verify(kind, signature, b"data", touch_required=False)
    assert token.public.verify(kind, token.sign(b"data", flags=0xFF), b"data")


@pytest.mark.parametrize("kind", KINDS)
def test_who_touched_it_is_verified_where_that_is_asked_for(kind: str) -> None:
    token = Token(kind)
    for flags, good in ((TOUCHED, False), (VERIFIED, False), (TOUCHED | VERIFIED, True)):
        signature = token.sign(b"data", flags=flags)
        assert token.public.verify(kind, signature, b"data", verify_required=True) is good
    only = token.sign(b"data", flags=VERIFIED)
    assert token.public.verify(kind, only, b"data", touch_required=False, verify_required=True)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_beside_the_signature_is_signed_too(kind: str) -> None:
    token = Token(kind)
    assert not token.public.verify(kind, token.sign(b"data", application="ssh:other"), b"data")
    assert not token.public.verify(kind, token.sign(b"data", extensions=b"x"), b"data")
    signature = bytearray(token.sign(b"data", flags=TOUCHED, counter=7))
    for at in range(-5, 0):  # flags and counter
        changed = bytearray(signature)
        changed[at] ^= 0x10
        assert not token.public.verify(kind, bytes(changed), b"data")


@pytest.mark.parametrize("kind", KINDS)
def test_blob_of_the_key(kind: str) -> None:
    token = Token(kind, "ssh:märz")
    assert token.public.blob == token.blob
    assert token.public.application == "ssh:märz"
    assert token.public.label == {ED25519: "ED25519-SK", ECDSA: "ECDSA-SK"}[kind]
    for length in range(len(token.blob)):
        with pytest.raises(KeyFormatError):
            PublicKey.from_blob(token.blob[:length])
    for blob in (token.blob + b"\0", _with(token, b"a\0b"),
                 _with(token, bytes(1025))):  # fmt: skip
        with pytest.raises(KeyFormatError):
            PublicKey.from_blob(blob)


def _with(token: Token, application: bytes) -> bytes:
    return token.blob[: -len(string(token.application.encode()))] + string(application)


def test_a_plain_key_is_in_no_hardware() -> None:
    assert PrivateKey.generate("ssh-ed25519").public.application == ""


@pytest.mark.parametrize("kind", KINDS)
def test_none_is_made_here(kind: str) -> None:
    with pytest.raises(UsageError, match="inside a security key"):
        PrivateKey.generate(kind)


def test_a_plain_signature_is_none_of_a_security_key() -> None:
    token = Token(ED25519)
    bare = string(b"ssh-ed25519") + string(token.private.sign(b"data"))
    assert not token.public.verify(ED25519, bare, b"data")
    assert not token.public.verify("ssh-ed25519", bare, b"data")


def test_a_browser_signs_client_data() -> None:
    token = Token(ECDSA)
    signature = token.sign_in_browser(b"data\xff\xfe")
    assert token.public.verify(WEBAUTHN, signature, b"data\xff\xfe")
    assert not token.public.verify(WEBAUTHN, signature, b"data")
    assert not token.public.verify(ECDSA, signature, b"data\xff\xfe")
    assert not token.public.verify(WEBAUTHN, token.sign(b"data"), b"data")
    for length in range(len(signature)):
        assert not token.public.verify(WEBAUTHN, signature[:length], b"data\xff\xfe")
    with_more = token.sign_in_browser(b"data", flags=TOUCHED | 0x80, extensions=b"\xa0")
    assert token.public.verify(WEBAUTHN, with_more, b"data")


@pytest.mark.parametrize(
    "wrong",
    [
        {"flags": 0}, {"flags": TOUCHED | 0x40}, {"flags": TOUCHED | 0x80}, {"extensions": b"x"},
        {"challenge": b"other"}, {"told": "https://example.net"},
        {"origin": 'https://a","challenge":"x', "told": 'https://a","challenge":"x'},
    ],
    ids=["untouched", "attested", "no-extension", "extension", "challenge", "origin", "quote"],
)  # fmt: skip
def test_client_data_that_is_refused(wrong: dict[str, object]) -> None:
    token = Token(ECDSA)
    assert not token.public.verify(WEBAUTHN, token.sign_in_browser(b"data", **wrong), b"data")  # type: ignore[arg-type]
