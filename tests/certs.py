"""The table of user certificates that servers have taken and should not have, and their counterparts.

Each case is a blob put together by hand, whatever it says, and how its key signs. `good` is the verdict;
`sshd` that of OpenSSH where it differs, and `why` it does.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from glasshell.crypto.signatures import PrivateKey, PublicKey, certified_name, plain_algorithm
from glasshell.events import KeyOffered, Verdict
from glasshell.keys.certificate import ALWAYS
from tests.fido import ED25519, TOUCHED, VERIFIED, Token, string

Sign = Callable[[str, bytes], bytes]

CA = PrivateKey.generate("ssh-ed25519")
REVOKED_CA = PrivateKey.generate("ssh-ed25519")
"""Trusted as `CA` is, and revoked."""
RSA_CA = PrivateKey.generate("ssh-rsa", 2048)
"""Trusted."""
STRANGER = PrivateKey.generate("ssh-ed25519")
USER = PrivateKey.generate("ssh-ed25519")
RSA_USER = PrivateKey.generate("ssh-rsa", 2048)
TOKEN = Token(ED25519)

PLAIN = "ssh-ed25519-cert-v01@openssh.com"
YEAR = 365 * 24 * 3600
ADDRESS = "127.0.0.1"
"""Where the user comes from."""


def option(name: bytes, value: bytes | None = None) -> bytes:
    """A critical option or extension; None: without data."""
    return string(name) + string(b"" if value is None else string(value))


PTY = option(b"permit-pty")


def build(
    user: bytes, *, kind: int = 1, key_id: bytes = b"id", serial: int = 7, principals: bytes | None = None,
    after: int = 0, before: int = ALWAYS, critical: bytes = b"", extensions: bytes = PTY,
    reserved: bytes = b"", authority: bytes = b"", signer: PrivateKey = CA, key: PublicKey = USER.public,
    tail: bytes = b"", algorithm: str = "", spoil: bool = False,
) -> bytes:  # fmt: skip
    """The blob of a certificate for `user`, signed by `signer`, with whatever is to be wrong about it."""
    body = string(certified_name(key.type).encode()) + string(b"nonce")
    body += key.blob[4 + len(key.type) :]
    names = string(user) if principals is None else principals
    body += struct.pack(">QI", serial, kind) + string(key_id) + string(names)
    body += struct.pack(">QQ", after, before) + string(critical) + string(extensions) + string(reserved)
    body += string(authority or signer.public.blob)
    signature = signer.sign(algorithm or signer.public.algorithms[0], body + b"x" * spoil)
    return body + string(signature) + tail


def by_sha1(user: bytes) -> bytes:
    """Signed by RSA with SHA-1, which nothing here does any more."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    unsigned = build(user, signer=RSA_CA)
    body = unsigned[: -len(string(RSA_CA.sign("rsa-sha2-512", b"")))]
    made = RSA_CA.reveal().sign(body, padding.PKCS1v15(), hashes.SHA1())
    return body + string(string(b"ssh-rsa") + string(made))


@dataclass(frozen=True)
class Case:
    """One certificate; `algorithm` is what the user's signature is asked for by."""

    name: str
    blob: Callable[[bytes], bytes]
    good: bool
    sshd: bool | None = None
    why: str = ""
    algorithm: str = PLAIN
    sign: Sign = field(default=USER.sign, repr=False)

    @property
    def sshd_good(self) -> bool:
        """What OpenSSH says."""
        return self.good if self.sshd is None else self.sshd

    def __str__(self) -> str:
        return self.name


def case(name: str, good: bool, /, **parts: Any) -> Case:
    own = {each: parts.pop(each) for each in ("sshd", "why", "algorithm", "sign") if each in parts}
    wanted = {"alg": "algorithm"}
    parts = {wanted.get(each, each): value for each, value in parts.items()}
    return Case(name, partial(build, **parts), good, **own)


def token(flags: int, **changes: Any) -> Sign:
    return lambda algorithm, data: TOKEN.sign(data, flags=flags, **changes)


def on_token(name: str, good: bool, flags: int, /, **parts: Any) -> Case:
    made = {"key": TOKEN.public, "sign": token(flags), "algorithm": certified_name(ED25519)}
    return case(name, good, **{**made, **parts})


def named(*names: bytes) -> bytes:
    return b"".join(map(string, names))


LEXICAL = "PROTOCOL.certkeys: names are sorted, and none occurs twice; sshd does not look"
NUL = "text of C ends at its NUL: what stands there is not the name that was signed for"
NESTED = build(b"", signer=STRANGER)

TABLE = (
    case("plain", True),
    case("one name of several", True, principals=named(b"other")),
    case("another name", False, principals=named(b"other")),
    case("no name", False, principals=b""),
    case("empty name", False, principals=named(b"")),
    case("names in one, with a comma", False, principals=named(b"other,%u")),
    case("name before a comma", False, principals=named(b"%u,other")),
    case("wildcard", False, principals=named(b"*")),
    case("pattern of the name", False, principals=named(b"?%u", b"%u*")),
    case("name with a NUL", False, principals=named(b"%u\0x")),
    case("name with a NUL at its end", False, principals=named(b"%u\0"), sshd=True, why=NUL),
    case("name in upper case", False, principals=named(b"%U")),
    case("name with a space", False, principals=named(b"%u ")),
    case("256 names", True, principals=named(*[b"x"] * 255)),
    case("257 names", False, principals=named(*[b"x"] * 256)),
    case("names cut short", False, principals=b"\0\0\0\x09x"),
    case("expired", False, before=31 * YEAR),
    case("not yet valid", False, after=200 * YEAR),
    case("valid at no time", False, after=200 * YEAR, before=31 * YEAR),
    case("within its time", True, after=31 * YEAR, before=200 * YEAR),
    case("of a host", False, kind=2),
    case("of neither kind", False, kind=3),
    case("of kind 0", False, kind=0),
    case("unknown critical option", False, critical=option(b"later@example.org")),
    case("unknown extension", True, extensions=option(b"later@example.org", b"x") + PTY),
    case("address that fits", True, critical=option(b"source-address", b"192.0.2.0/24,127.0.0.0/8")),
    case("another address", False, critical=option(b"source-address", b"192.0.2.0/24")),
    case("address without a value", False, critical=option(b"source-address")),
    case("empty address", False, critical=option(b"source-address", b"")),
    case("address that is none", False, critical=option(b"source-address", b"localhost")),
    case("address and an empty one", False, critical=option(b"source-address", b"127.0.0.1,")),
    case("negated address", False, critical=option(b"source-address", b"!192.0.2.1,127.0.0.1")),
    case("address past its mask", False, critical=option(b"source-address", b"127.0.0.1/8")),
    case("forced command", True, critical=option(b"force-command", b"true")),
    case("forced command without a value", False, critical=option(b"force-command")),
    case("forced command and more", False,
         critical=string(b"force-command") + string(string(b"true") + b"x")),
    case("forced command with a NUL", False, critical=option(b"force-command", b"tr\0ue")),
    case("forced command twice", False, critical=option(b"force-command", b"true") * 2),
    case("verify-required of a plain key", True, critical=option(b"verify-required")),
    case("verify-required with a value", False, critical=option(b"verify-required", b"no")),
    case("extension with a value", False, extensions=option(b"permit-pty", b"x")),
    case("extension twice", False, extensions=PTY * 2, sshd=True, why=LEXICAL),
    case("extensions out of order", False, extensions=PTY + option(b"a@example.org"), sshd=True, why=LEXICAL),
    case("critical options out of order", False, sshd=True, why=LEXICAL,
         critical=option(b"source-address", b"127.0.0.1") + option(b"force-command", b"true")),
    case("extensions cut short", False, extensions=string(b"permit-pty")),
    case("authority that is not trusted", False, signer=STRANGER),
    case("signed by itself", False, signer=USER),
    case("revoked authority", False, signer=REVOKED_CA),
    case("authority of RSA", True, signer=RSA_CA),
    case("authority of RSA, SHA-256", True, signer=RSA_CA, alg="rsa-sha2-256"),
    Case("authority of RSA, SHA-1", by_sha1, False),
    case("authority that is a certificate", False, authority=NESTED, signer=STRANGER),
    case("trusted authority, another's signature", False, authority=CA.public.blob, signer=STRANGER),
    case("signature of something else", False, spoil=True),
    case("bytes behind it", False, tail=b"\0"),
    case("something in what is reserved", True, reserved=b"x"),
    case("serial 2^64-1", True, serial=(1 << 64) - 1),
    case("control characters in the ID", True, key_id=b"\x1b[31m\n"),
    case("NUL in the ID", False, key_id=b"a\0b"),
    case("user's signature by another key", False, sign=STRANGER.sign),
    case("RSA key", True, key=RSA_USER.public, sign=RSA_USER.sign,
         algorithm="rsa-sha2-512-cert-v01@openssh.com"),
    case("RSA key, by the name of plain keys", False, key=RSA_USER.public, sign=RSA_USER.sign,
         algorithm="rsa-sha2-512"),
    case("RSA key, SHA-1", False, key=RSA_USER.public, sign=RSA_USER.sign,
         algorithm="ssh-rsa-cert-v01@openssh.com"),
    case("key of another type than asked for", False, algorithm="rsa-sha2-512-cert-v01@openssh.com",
         sign=lambda algorithm, data: USER.sign("ssh-ed25519", data)),
    on_token("security key, touched", True, TOUCHED),
    on_token("security key, not touched", False, 0),
    on_token("security key, verified and not touched", False, VERIFIED),
    on_token("security key, no-touch-required", True, 0, extensions=option(b"no-touch-required")),
    on_token("security key, no-touch-required with a value", False, 0,
             extensions=option(b"no-touch-required", b"x")),
    on_token("security key, verify-required", False, TOUCHED, critical=option(b"verify-required")),
    on_token("security key, verify-required and done", True, TOUCHED | VERIFIED,
             critical=option(b"verify-required")),
    on_token("security key, another application", False, TOUCHED,
             sign=token(TOUCHED, application="ssh:other")),
)  # fmt: skip


def blob_of(case: Case, user: str) -> bytes:
    """The certificate for `user`; %u and %U stand for the name in what a case says of names."""
    told = case.blob
    if isinstance(told, partial) and "principals" in told.keywords:
        names = told.keywords["principals"]
        told = partial(told.func, **{**told.keywords, "principals": _filled(case, names, user.encode())})
    return told(user.encode())


def _filled(case: Case, names: bytes, user: bytes) -> bytes:
    if case.name == "names cut short":
        return names
    found, at = [], 0
    while at < len(names):
        size = int.from_bytes(names[at : at + 4], "big")
        found.append(names[at + 4 : at + 4 + size].replace(b"%u", user).replace(b"%U", user.upper()))
        at += 4 + size
    several = case.name in ("one name of several", "256 names", "257 names")
    return named(*found, *([user] if several else []))


class Offered:
    """A certificate as a client's core takes it, that says of itself whatever a test wants it to."""

    principals = ()
    valid_after, valid_before = 0, ALWAYS
    issued, validity, label, application, bits = "of the test", "forever", "RAW", "", 256
    plain = USER.public

    def __init__(self, blob: bytes, algorithm: str) -> None:
        self.blob = blob
        self.type = algorithm
        self.algorithms = (algorithm,)

    def fingerprint(self, hash: str = "sha256") -> str:
        return "SHA256:raw"


def judge(question: KeyOffered, now: float, address: str = ADDRESS) -> Verdict:
    """What a server says that trusts CA, RSA_CA and REVOKED_CA, of which the last is revoked."""
    key = question.key
    if isinstance(key, PublicKey) or key.authority not in (CA.public, RSA_CA.public):
        return Verdict(False)
    objection = key.objection("user", question.user, now, address=address)
    return Verdict(not objection, touch_required=key.touch_required)


def signature(case: Case, data: bytes) -> bytes:
    """The blob with which the case's key signs."""
    if case.algorithm.startswith("ssh-rsa-cert"):  # as an old client would
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding

        made = RSA_USER.reveal().sign(data, padding.PKCS1v15(), hashes.SHA1())
        return string(b"ssh-rsa") + string(made)
    return case.sign(plain_algorithm(case.algorithm), data)
