"""A security key in software, for tests: signs as the hardware does (OpenSSH PROTOCOL.u2f)."""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from glasshell.crypto.signatures import PublicKey

ED25519 = "sk-ssh-ed25519@openssh.com"
ECDSA = "sk-ecdsa-sha2-nistp256@openssh.com"
WEBAUTHN = "webauthn-sk-ecdsa-sha2-nistp256@openssh.com"

TOUCHED, VERIFIED = 1, 4


def string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def mpint(value: int) -> bytes:
    return string(value.to_bytes(value.bit_length() // 8 + 1, "big"))


class Token:
    """One key of `kind` made for `application`."""

    def __init__(self, kind: str, application: str = "ssh:") -> None:
        self.kind = kind
        self.application = application
        self.private: Any
        if kind == ED25519:
            self.private = ed25519.Ed25519PrivateKey.generate()
            fields = string(self.private.public_key().public_bytes_raw())
        else:
            self.private = ec.generate_private_key(ec.SECP256R1())
            point = self.private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
            fields = string(b"nistp256") + string(point)
        self.blob = string(kind.encode()) + fields + string(application.encode())
        self.public = PublicKey.from_blob(self.blob)

    def sign(
        self, data: bytes, *, flags: int = TOUCHED, counter: int = 7, application: str | None = None,
        extensions: bytes = b"",
    ) -> bytes:  # fmt: skip
        """The signature blob of `data`; each part can be made wrong."""
        inner = self._inner(hashlib.sha256(data).digest(), flags, counter, application, extensions)
        return string(self.kind.encode()) + string(inner) + struct.pack(">BI", flags, counter)

    def sign_in_browser(
        self, data: bytes, *, flags: int = TOUCHED, counter: int = 7, origin: str = "https://example.org",
        challenge: bytes | None = None, extensions: bytes = b"", told: str | None = None,
    ) -> bytes:  # fmt: skip
        """The signature blob of `data` as WebAuthn makes it: over a page's client data."""
        text = base64.urlsafe_b64encode(data if challenge is None else challenge).decode().rstrip("=")
        client = f'{{"type":"webauthn.get","challenge":"{text}","origin":"{origin}","crossOrigin":false}}'
        inner = self._inner(hashlib.sha256(client.encode()).digest(), flags, counter, None, extensions)
        more = map(string, ((told or origin).encode(), client.encode(), extensions))
        head = string(WEBAUTHN.encode()) + string(inner) + struct.pack(">BI", flags, counter)
        return head + b"".join(more)

    def _inner(
        self, digest: bytes, flags: int, counter: int, application: str | None, extensions: bytes
    ) -> bytes:
        name = self.application if application is None else application
        signed = hashlib.sha256(name.encode()).digest() + struct.pack(">BI", flags, counter)
        signed += extensions + digest
        if self.kind == ED25519:
            return bytes(self.private.sign(signed))
        pair = decode_dss_signature(self.private.sign(signed, ec.ECDSA(hashes.SHA256())))
        return b"".join(map(mpint, pair))
