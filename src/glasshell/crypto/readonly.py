"""Algorithms that are read and never spoken: what old captures hold, and what other programs agree on.

The registry lists what this program offers, takes and configures, and whatever stands there can be
switched on by somebody. These rows stand apart so that nothing but a reader of captures finds them:
`find` here looks into `READ_ONLY` first and then into the registry, whose own never sees these rows.

An opener made here takes note of a wrong MAC and goes on (`wrong`), since what went over the wire is
there to be looked at; an AEAD has nothing to go on with and raises IntegrityError as ever. A MAC whose
primitive is missing (UMAC) is not checked, and `checkable` says so.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from hmac import compare_digest
from typing import Any, Final, NoReturn

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from ..errors import UsageError
from ..wire import Secret
from . import key_exchange, packet_ciphers, registry
from .compression import Decompressor
from .groups import Group, rfc2409_second, rfc3526
from .key_exchange import Agreement, KeyExchange
from .packet_ciphers import Buffer, CtrEtmOpener, CtrOpener, Mac, Opener, Sealer
from .registry import (
    Algorithm,
    CipherAlgorithm,
    CompressionAlgorithm,
    Context,
    Encoding,
    KexAlgorithm,
    Kind,
    MacAlgorithm,
    Status,
)

# --- MACs


class _HmacCut(Mac):
    """HMAC with a hash that the live protocol no longer uses, or with a tag that is cut short."""

    __slots__ = ()

    def __init__(self, algorithm: hashes.HashAlgorithm, key: Secret, *, etm: bool, size: int) -> None:
        self._keyed = hmac.HMAC(key.reveal(), algorithm)
        self.size = size
        self.etm = etm

    def tag(self, seq: int, head: Buffer | memoryview, rest: Buffer | memoryview) -> bytes:
        return super().tag(seq, head, rest)[: self.size]


class _Unchecked(Mac):
    """A MAC without a primitive: its size is known, and no tag ever equals what it gives."""

    __slots__ = ()

    def __init__(self, *, etm: bool, size: int) -> None:
        self.size = size
        self.etm = etm

    def tag(self, seq: int, head: Buffer | memoryview, rest: Buffer | memoryview) -> bytes:
        return b""


def _hash(name: str) -> hashes.HashAlgorithm | None:
    found: dict[str, type[hashes.HashAlgorithm]] = {
        "md5": hashes.MD5, "sha1": hashes.SHA1, "sha256": hashes.SHA256, "sha512": hashes.SHA512,
    }  # fmt: skip
    made = found.get(name)
    return made() if made else None


def make_mac(row: MacAlgorithm, key: Secret) -> Mac:
    """The MAC of `row`, or one that is never right where there is no primitive for it."""
    algorithm = _hash(row.hash_name)
    if algorithm is None:
        return _Unchecked(etm=row.etm, size=row.tag_size)
    return _HmacCut(algorithm, key, etm=row.etm, size=row.tag_size)


# --- openers


class Running(CtrOpener):
    """A key stream, or a chain of blocks, that runs on; the MAC is of the packet in clear."""

    __slots__ = ("block_size", "checkable", "head_size", "wrong")

    def __init__(self, context: CipherContext, block_size: int, mac: Mac) -> None:
        self._stream, self._mac, self.tag_size = context, mac, mac.size
        self.block_size = self.head_size = block_size
        self.checkable = not isinstance(mac, _Unchecked)
        self.wrong = False
        self._first = b""

    def _refuse(self) -> None:
        self.wrong = True


class RunningEtm(CtrEtmOpener):
    """The same with the MAC of the ciphertext and packet_length in clear."""

    __slots__ = ("block_size", "checkable", "wrong")

    def __init__(self, context: CipherContext, block_size: int, mac: Mac) -> None:
        self._stream, self._mac, self.tag_size = context, mac, mac.size
        self.block_size = block_size
        self.checkable = not isinstance(mac, _Unchecked)
        self.wrong = False

    def _refuse(self) -> None:
        self.wrong = True

    def matches(self, seq: int, buffer: bytearray, offset: int, length: int) -> bool:
        """Whether a packet of `length` at `offset` has the tag of sequence number `seq`."""
        end = offset + 4 + length
        with memoryview(buffer) as view:
            tag = self._mac.tag(seq, view[offset : offset + 4], view[offset + 4 : end])
            return compare_digest(tag, view[end : end + self.tag_size])

    def leap(self, count: int) -> None:
        """Passes over `count` bytes of the key stream, whose ciphertext nobody has."""
        while count > 0:
            self._stream.update(bytes(min(count, 1 << 16)))
            count -= 1 << 16


def _decryptor(name: str, key: bytes, iv: bytes) -> CipherContext:
    """The running cipher of an algorithm, which the crypto library may have put among the decrepit ones."""
    from cryptography.hazmat.decrepit.ciphers import algorithms as old

    family, _, mode = name.partition("-")
    if mode == "ctr":
        return Cipher(algorithms.AES(key), modes.CTR(iv)).decryptor()
    if family.startswith("arcfour"):
        stream = Cipher(old.ARC4(key), None).decryptor()
        if family != "arcfour":  # RFC 4345 §4: the first 1536 bytes of the key stream are thrown away
            stream.update(bytes(1536))
        return stream
    decrepit: dict[str, Any] = {
        "3des": old.TripleDES, "blowfish": old.Blowfish, "cast128": old.CAST5, "seed": old.SEED,
    }  # fmt: skip
    return Cipher(decrepit.get(family, algorithms.AES)(key), modes.CBC(iv)).decryptor()


def _running(name: str, block_size: int) -> Callable[[Secret, Secret, Mac | None], Opener]:
    def opener(key: Secret, iv: Secret, mac: Mac | None) -> Opener:
        if mac is None:
            raise UsageError(f"{name} needs a MAC")
        context = _decryptor(name, key.reveal(), iv.reveal())
        return RunningEtm(context, block_size, mac) if mac.etm else Running(context, block_size, mac)

    return opener


def _never_sealed(key: Secret, iv: Secret, mac: Mac | None) -> Sealer:
    raise UsageError("an algorithm that is only read")


# --- rows


def _cipher(
    name: str, key_size: int, block_size: int, clause: str, iv_size: int | None = None
) -> CipherAlgorithm:
    return CipherAlgorithm(
        name=name, status=Status.LEGACY, clause=clause, note="read only", key_size=key_size,
        iv_size=block_size if iv_size is None else iv_size, block_size=block_size, aead=False,
        sealer=_never_sealed, opener=_running(name, block_size),
    )  # fmt: skip


def _gcm(name: str, bits: int) -> CipherAlgorithm:
    return CipherAlgorithm(
        name=name, status=Status.LEGACY, clause="RFC 5647 6", note="read only", key_size=bits // 8,
        iv_size=12, block_size=16, aead=True, sealer=_never_sealed, opener=packet_ciphers.aes_gcm_opener,
    )  # fmt: skip


def _mac(name: str, hash_name: str, key_size: int, tag_size: int, clause: str) -> tuple[MacAlgorithm, ...]:
    """A MAC as RFC 4253 has it, and its encrypt-then-MAC form."""
    etm = f"{name.removesuffix('@openssh.com')}-etm@openssh.com"
    return tuple(
        MacAlgorithm(
            name=full, status=Status.LEGACY, clause=clause, note="read only", hash_name=hash_name,
            key_size=key_size, tag_size=tag_size, etm=full == etm,
        )
        for full in (name, etm)
    )  # fmt: skip


def _no_factory(*_: Any) -> NoReturn:
    raise UsageError("a key exchange that is only read")


def _kex(
    name: str, hash_name: str, context: Context, clause: str, *, secret: Encoding = "mpint",
) -> KexAlgorithm:
    return KexAlgorithm(
        name=name, status=Status.LEGACY, clause=clause, note="read only", hash_name=hash_name,
        context=context, public="mpint" if context in ("dh", "gex") else "string", secret=secret,
        factory=_no_factory,
    )  # fmt: skip


READ_ONLY: Final[tuple[Algorithm, ...]] = (
    _kex("sntrup4591761x25519-sha512@tinyssh.org", "sha512", "hybrid", "RFC 9941", secret="string"),
    _kex("curve448-sha512", "sha512", "ecdh", "RFC 8731"),
    _kex("diffie-hellman-group1-sha1", "sha1", "dh", "RFC 4253 8.1"),
    _kex("diffie-hellman-group14-sha1", "sha1", "dh", "RFC 4253 8.2"),
    _kex("diffie-hellman-group15-sha512", "sha512", "dh", "RFC 8268 3"),
    _kex("diffie-hellman-group17-sha512", "sha512", "dh", "RFC 8268 3"),
    _kex("ecdh-sha2-1.3.132.0.10", "sha256", "ecdh", "RFC 5656 6.3"),
    *(_kex(f"diffie-hellman-group{group}-sha{bits}@ssh.com", f"sha{bits}", "dh", "ssh.com")
      for group, bits in ((14, 224), (14, 256), (15, 256), (15, 384), (16, 384), (16, 512), (18, 512))),
    *(_kex(f"diffie-hellman-group-exchange-sha{bits}@ssh.com", f"sha{bits}", "gex", "ssh.com")
      for bits in (224, 384, 512)),
    _kex("diffie-hellman-group-exchange-sha1", "sha1", "gex", "RFC 4419"),
    _gcm("AEAD_AES_128_GCM", 128),
    _gcm("AEAD_AES_256_GCM", 256),
    *(_cipher(f"aes{bits}-cbc", bits // 8, 16, "RFC 4253 6.3") for bits in (128, 192, 256)),
    _cipher("rijndael-cbc@lysator.liu.se", 32, 16, "OpenSSH"),
    _cipher("3des-cbc", 24, 8, "RFC 4253 6.3"),
    _cipher("blowfish-cbc", 16, 8, "RFC 4253 6.3"),
    _cipher("cast128-cbc", 16, 8, "RFC 4253 6.3"),
    _cipher("seed-cbc@ssh.com", 16, 16, "ssh.com"),
    _cipher("arcfour", 16, 8, "RFC 4253 6.3", 0),
    _cipher("arcfour128", 16, 8, "RFC 4345", 0),
    _cipher("arcfour256", 32, 8, "RFC 4345", 0),
    *_mac("hmac-sha1", "sha1", 20, 20, "RFC 4253 6.4"),
    *_mac("hmac-sha1-96", "sha1", 20, 12, "RFC 4253 6.4"),
    *_mac("hmac-md5", "md5", 16, 16, "RFC 4253 6.4"),
    *_mac("hmac-md5-96", "md5", 16, 12, "RFC 4253 6.4"),
    *_mac("hmac-sha2-256-96", "sha256", 32, 12, "OpenSSH 5.9"),
    *_mac("hmac-sha2-512-96", "sha512", 64, 12, "OpenSSH 5.9"),
    *_mac("hmac-ripemd160", "", 20, 20, "OpenSSH"),
    *_mac("umac-64@openssh.com", "", 16, 8, "draft-miller-secsh-umac-01"),
    *_mac("umac-128@openssh.com", "", 16, 16, "draft-miller-secsh-umac-01"),
    CompressionAlgorithm(
        name="zlib", status=Status.LEGACY, clause="RFC 4253 6.2", note="read only",
        decompressor=Decompressor,
    ),
)  # fmt: skip
"""Rows of the same types as the registry's, for reading alone."""

_BY_NAME: Final = {(row.kind, row.name): row for row in (*registry.ALGORITHMS, *READ_ONLY)}


def find(kind: Kind, name: str) -> Any:
    """The row of `name`, of the registry or of those that are only read; None where there is none."""
    return _BY_NAME.get((kind, name))


def is_aead(cipher: str) -> bool:
    """Whether `cipher` brings its own tag; one that nobody knows is taken for one that does not."""
    row = find(Kind.CIPHER, cipher)
    return bool(row is not None and row.aead)


def make_opener(
    cipher: CipherAlgorithm, mac: MacAlgorithm | None, key: Secret, iv: Secret, mac_key: Secret
) -> Opener:
    """The opener of one direction, lenient where it can be. Raises UsageError where a MAC is missing."""
    made = None if cipher.aead or mac is None else make_mac(mac, mac_key)
    opener = cipher.opener if cipher.aead else _running(cipher.name, cipher.block_size)
    return opener(key, iv, made)


# --- K from a private value of a key log

_CURVES: Final[dict[str, type[ec.EllipticCurve]]] = {
    "ecdh-sha2-nistp256": ec.SECP256R1,
    "ecdh-sha2-nistp384": ec.SECP384R1,
    "ecdh-sha2-nistp521": ec.SECP521R1,
}


def _fixed(name: str) -> Callable[[], Group] | None:
    number = name.removeprefix("diffie-hellman-group").partition("-")[0]
    if number == "1":
        return rfc2409_second
    return partial(rfc3526, int(number)) if number in ("14", "15", "16", "17", "18") else None


def agreement(name: str, private: bytes, group: Group | None) -> Agreement | None:
    """The Diffie-Hellman agreement of the exchange `name` with its private value.

    The value is big endian, X25519's are 32 bytes; `group` is that of a group exchange. None where a
    private value does not make K (hybrids need both of theirs). Raises ValueError for a value that is none.
    """
    if name.startswith("curve25519-sha256"):
        return key_exchange.X25519(private)
    if name in _CURVES:
        return key_exchange.Ecdh(_CURVES[name](), int.from_bytes(private, "big"))
    if name.startswith("diffie-hellman-group-exchange-"):
        return key_exchange.FiniteField(group, int.from_bytes(private, "big")) if group else None
    fixed = _fixed(name) if name.startswith("diffie-hellman-group") else None
    return key_exchange.FiniteField(fixed(), int.from_bytes(private, "big")) if fixed else None


def settle(agreement: Agreement, peer: bytes) -> Secret:
    """K of a classical exchange, as it enters the exchange hash. Raises ProtocolViolation."""
    kem: KeyExchange = key_exchange.Classical(agreement)
    return kem.finish(peer)
