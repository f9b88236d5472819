"""What a host key of a capture is, and whether it has signed."""

from __future__ import annotations

import pytest

from glasshell.capture.hostkey import verify
from glasshell.crypto.signatures import PrivateKey
from tests.certs import build
from tests.fido import ED25519, Token

RSA = PrivateKey.generate("ssh-rsa", 2048)
H = b"h" * 32


@pytest.mark.parametrize("algorithm", ["rsa-sha2-512", "rsa-sha2-256"])
def test_a_certificate_signs_as_its_key_does(algorithm: str) -> None:
    blob = build(b"host", kind=2, key=RSA.public)
    signature = RSA.sign(algorithm, H)
    agreed = f"{algorithm}-cert-v01@openssh.com"
    assert verify(blob, agreed, signature, H) is True
    assert verify(blob, agreed, signature, H[1:]) is False
    assert verify(blob, algorithm, signature, H) is None
    assert verify(blob[:-1], agreed, signature, H) is None
    assert verify(RSA.public.blob, algorithm, signature, H) is True


def test_nobody_touches_the_security_key_of_a_host() -> None:
    token = Token(ED25519)
    assert verify(token.blob, ED25519, token.sign(H, flags=0), H) is True
