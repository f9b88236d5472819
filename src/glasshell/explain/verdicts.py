"""What is thought of each algorithm: one table, those included that are not spoken here.

A row's names may hold `*`. The first row that fits counts, so exceptions stand before their family.
Grades: `broken` can be attacked in practice, or protects nothing; `weak` is within reach, deprecated, or
needs conditions that nobody checks; `good`; `unknown` is in no row.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias

__all__ = ["GRADES", "MARKERS", "ROWS", "Grade", "Kind", "Verdict", "key_size_verdict", "verdict"]

Kind: TypeAlias = Literal["kex", "host_key", "cipher", "mac", "compression"]
Grade: TypeAlias = Literal["good", "weak", "broken", "unknown"]

GRADES: Final[tuple[Grade, ...]] = ("good", "unknown", "weak", "broken")
"""From best to worst."""

MARKERS: Final = ("ext-info-*", "kex-strict-*", "kexguess2@matt.ucc.asn.au")
"""Names among the key exchange methods that are none."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on one algorithm. `since` is the year in which it became what it is, or was specified."""

    kind: Kind
    name: str
    grade: Grade
    reason: str
    since: str
    source: str
    post_quantum: bool = False

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name, "grade": self.grade, "reason": self.reason, "since": self.since,
            "source": self.source, "post_quantum": self.post_quantum,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One row: names separated by blanks, and what holds for all of them."""

    kind: Kind
    names: str
    grade: Grade
    reason: str
    since: str
    source: str
    post_quantum: bool = False

    def fits(self, name: str) -> bool:
        """Whether `name` is of this row."""
        return any(_matches(name, pattern) for pattern in self.names.split())


def _matches(name: str, pattern: str) -> bool:
    expression = ".*".join(re.escape(part) for part in pattern.split("*"))
    return re.fullmatch(expression, name, re.DOTALL) is not None


_SHA1: Final = "SHA-1 collides since 2017, and choosing what collides costs little since 2020"
_SMALL: Final = "a modulus of 1024 bits is within reach of a state"
_112: Final = "a modulus of 2048 bits is worth 112 bits, which NIST retires after 2030"
_QUANTUM: Final = "sound; recorded traffic could be read with a large quantum computer"
_EAM: Final = "covers the plaintext: what is decrypted is not yet verified, and equal packets show"
_64: Final = "blocks of 64 bits repeat after some gigabytes (Sweet32)"
_CBC: Final = "CBC lets parts of the plaintext be recovered, and with EtM is open to Terrapin"
_OWN: Final = "a design hardly anybody has looked at"

ROWS: Final[tuple[Row, ...]] = (
    # Key exchange
    Row("kex", "mlkem768x25519-sha256", "good", "post-quantum and classical together", "2024",
        "RFC 10042", True),
    Row("kex", "sntrup761x25519-sha512 sntrup761x25519-sha512@openssh.com", "good",
        "post-quantum and classical together", "2020", "draft-ietf-sshm-ntruprime-ssh", True),
    Row("kex", "mlkem768nistp256-sha256 mlkem1024nistp384-sha384", "good",
        "post-quantum and classical together", "2024", "RFC 10042", True),
    Row("kex", "sntrup4591761x25519-sha512@tinyssh.org", "weak",
        "an early parameter set that its authors have replaced", "2020", "OpenSSH 8.5 release notes", True),
    Row("kex", "*kyber*", "weak", "a draft of ML-KEM that the standard has replaced", "2024",
        "FIPS 203", True),
    Row("kex", "curve25519-sha256 curve25519-sha256@libssh.org curve448-sha512", "good", _QUANTUM, "2020",
        "RFC 8731"),
    Row("kex", "ecdh-sha2-nistp256 ecdh-sha2-nistp384 ecdh-sha2-nistp521", "good",
        _QUANTUM + "; the curves' seeds were never explained, and nothing was found in them", "2009",
        "RFC 5656; RFC 9142 3.3"),
    Row("kex", "ecdh-sha2-*", "weak", "a curve that hardly anybody uses or has tested", "2009",
        "RFC 9142 3.3"),
    Row("kex", "diffie-hellman-group1-sha1 gss-group1-sha1-*", "broken", f"{_SMALL} (Logjam); SHA-1", "2015",
        "RFC 9142 3.4; CVE-2015-4000"),
    Row("kex", "diffie-hellman-group1-* rsa1024-sha1", "broken", f"{_SMALL} (Logjam)", "2015",
        "RFC 9142 3.4"),
    Row("kex", "diffie-hellman-group14-sha1 gss-group14-sha1-*", "weak", f"{_SHA1}; {_112}", "2017",
        "RFC 9142 3.4"),
    Row("kex", "diffie-hellman-group-exchange-sha1 gss-gex-sha1-*", "weak",
        f"{_SHA1}; the server chooses the size", "2017", "RFC 9142 3.2"),
    Row("kex", "diffie-hellman-group14-* gss-group14-* rsa2048-sha256", "weak", _112, "2016",
        "RFC 9142 3.4; NIST SP 800-57"),
    Row("kex", "diffie-hellman-group15-* diffie-hellman-group16-* diffie-hellman-group17-*"
        " diffie-hellman-group18-*", "good",
        _QUANTUM + "; costs a server much and a client nothing (CVE-2002-20001)", "2017", "RFC 8268"),
    Row("kex", "diffie-hellman-group-exchange-sha256 diffie-hellman-group-exchange-sha*@ssh.com", "good",
        _QUANTUM + "; as strong as the smallest group the server gives", "2006", "RFC 4419; RFC 8270"),
    Row("kex", "gss-curve* gss-group15-* gss-group16-* gss-group17-* gss-group18-* gss-gex-sha256-*"
        " gss-nistp*", "good",
        _QUANTUM + "; Kerberos vouches for the server", "2020", "RFC 8732"),
    # Host keys and signatures
    Row("host_key", "ssh-ed25519 ssh-ed448 sk-ssh-ed25519@openssh.com", "good", "small, fast, no nonce to get"
        " wrong", "2020", "RFC 8709"),
    Row("host_key", "ssh-ed25519-cert-v01@openssh.com sk-ssh-ed25519-cert-v01@openssh.com", "good",
        "a certificate over Ed25519", "2014", "OpenSSH PROTOCOL.certkeys"),
    Row("host_key", "rsa-sha2-512 rsa-sha2-256 rsa-sha2-512-cert-v01@openssh.com"
        " rsa-sha2-256-cert-v01@openssh.com ssh-rsa-sha2-* ssh-rsa-sha256@ssh.com x509v3-rsa2048-sha256",
        "good", "sound with a key of 2048 bits or more", "2018", "RFC 8332"),
    Row("host_key", "ecdsa-sha2-nistp* sk-ecdsa-sha2-nistp* webauthn-sk-ecdsa-*", "good",
        "sound; gives its key away where a nonce is weak", "2009", "RFC 5656"),
    Row("host_key", "ssh-rsa ssh-rsa-cert-* x509v3-sign-rsa x509v3-sign-rsa-sha1 ssh-rsa1", "broken",
        f"signs with SHA-1: {_SHA1}", "2020", "RFC 8332 1; OpenSSH 8.8 release notes"),
    Row("host_key", "ssh-dss* ssh-dsa x509v3-*dss* spki-sign-* pgp-sign-*", "broken",
        f"DSA: {_SMALL}; SHA-1; one weak nonce gives the key away", "2015", "OpenSSH 7.0; FIPS 186-5"),
    Row("host_key", "*mldsa*", "good", "post-quantum signatures", "2024", "FIPS 204", True),
    Row("host_key", "null none", "broken", "no signature: anybody can be the server", "2006", "RFC 4462 5"),
    Row("host_key", "ssh-gost*", "weak", _OWN, "2013", "no RFC"),
    Row("host_key", "ssh-xmss*", "weak", "an experiment: a key must never be used from a copy", "2018",
        "OpenSSH 7.7 release notes", True),
    # Ciphers
    Row("cipher", "aes128-gcm@openssh.com aes256-gcm@openssh.com aes128-gcm aes256-gcm AEAD_AES_*", "good",
        "authenticates what it encrypts", "2009", "RFC 5647"),
    Row("cipher", "chacha20-poly1305@openssh.com chacha20-poly1305", "good",
        "authenticates what it encrypts, lengths too; open to Terrapin without strict key exchange", "2014",
        "OpenSSH PROTOCOL.chacha20poly1305; CVE-2023-48795"),
    Row("cipher", "aes128-ctr aes192-ctr aes256-ctr", "good", "sound with a good MAC", "2006", "RFC 4344"),
    Row("cipher", "camellia*-ctr* twofish*-ctr serpent*-ctr", "good", "sound, and hardly used", "2006",
        "RFC 4344"),
    Row("cipher", "none", "broken", "no encryption: everybody on the way reads along", "2006",
        "RFC 4253 6.3"),
    Row("cipher", "arcfour*", "broken", "RC4: its output is biased, plaintext can be recovered", "2015",
        "RFC 8758"),
    Row("cipher", "des* des-cbc-ssh1", "broken", "keys of 56 bits can be searched", "1998", "RFC 4253 6.3"),
    Row("cipher", "3des*", "broken", f"3DES: {_64}", "2016", "CVE-2016-2183; NIST SP 800-131A"),
    Row("cipher", "blowfish* cast128* idea* seed-*", "broken", _64, "2016", "CVE-2016-2183"),
    Row("cipher", "*-cbc *-cbc@* rijndael*", "weak", _CBC, "2008", "CVE-2008-5161; CVE-2023-48795"),
    Row("cipher", "*-cfb* *-ofb *-ecb crypticore* grasshopper*", "weak", _OWN, "2006", "no RFC"),
    # MACs
    Row("mac", "hmac-sha2-256-etm@openssh.com hmac-sha2-512-etm@openssh.com umac-128-etm@openssh.com",
        "good", "covers the ciphertext: nothing is decrypted before it is verified", "2012",
        "OpenSSH PROTOCOL 1.5; RFC 6668"),
    Row("mac", "AEAD_AES_* aes*-gcm* chacha20-poly1305*", "good", "the cipher's own", "2009", "RFC 5647"),
    Row("mac", "none", "broken", "no integrity: everybody on the way can change what is sent", "2006",
        "RFC 4253 6.4"),
    Row("mac", "*md5*", "broken", "MD5, which collides in seconds", "2004", "RFC 6151"),
    Row("mac", "*sha1*", "weak", "SHA-1: HMAC still holds, the hash does not; it is leaving the libraries",
        "2017", "RFC 6194; NIST 2022"),
    Row("mac", "*ripemd*", "weak", "a hash that hardly anybody has looked at since 1996", "2011",
        "OpenSSH 7.6 release notes"),
    Row("mac", "umac-64* umac-32* hmac-*-96* hmac-sha2-56", "weak", "a short tag: guesses succeed sooner",
        "2012", "OpenSSH PROTOCOL 1.5"),
    Row("mac", "hmac-sha2-* hmac-sha3-* hmac-sha256* hmac-sha384* hmac-sha512* umac-* hmac-sha224*", "weak",
        _EAM, "2012", "RFC 6668; Bellare and Namprempre 2000"),
    Row("mac", "cbcmac-* crypticore*", "weak", _OWN, "2006", "no RFC"),
    # Compression
    Row("compression", "none", "good", "lengths tell nothing about contents", "2006", "RFC 4253 6.2"),
    Row("compression", "zlib@openssh.com", "good",
        "after the login only; lengths then tell something about contents", "2006",
        "draft-miller-secsh-compression-delayed"),
    Row("compression", "zlib", "weak", "opens zlib to everybody, before the login", "2005",
        "OpenSSH 7.4 release notes"),
)  # fmt: skip
"""Every verdict."""


@lru_cache(maxsize=1024)
def verdict(kind: Kind, name: str) -> Verdict:
    """What is thought of the algorithm `name`."""
    for row in ROWS:
        if row.kind == kind and row.fits(name):
            return Verdict(kind, name, row.grade, row.reason, row.since, row.source, row.post_quantum)
    return Verdict(kind, name, "unknown", "not in this program's table", "", "")


def is_marker(name: str) -> bool:
    """Whether `name`, in a list of key exchange methods, is only a sign between the two programs."""
    return any(_matches(name, pattern) for pattern in MARKERS)


def key_size_verdict(key_type: str, bits: int) -> tuple[Grade, str]:
    """What is thought of a host key of `bits`."""
    if key_type == "ssh-dss":
        return "broken", "DSA keys have 1024 bits in SSH"
    if key_type.startswith("ssh-rsa") or key_type.startswith("rsa-"):
        if bits < 2048:
            return "broken", f"an RSA key of {bits} bits is within reach (RFC 9142 1.1 wants 2048 or more)"
        if bits < 3072:
            return "weak", f"an RSA key of {bits} bits is worth 112 bits, which NIST retires after 2030"
    return "good", ""


def recommended(kind: Kind, offered: tuple[str, ...]) -> tuple[str, ...]:
    """Of `offered` those that are good, those that resist a quantum computer first."""
    good = [verdict(kind, name) for name in offered if not is_marker(name)]
    found = sorted((v for v in good if v.grade == "good"), key=lambda v: not v.post_quantum)
    return tuple(v.name for v in found)
