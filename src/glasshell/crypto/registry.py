"""The one table of algorithms: each is a row, and everything that lists or looks one up reads it here.

The order of rows within a kind is the order of preference. What signs is found by name in `signatures`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Final, Literal, overload

from cryptography.hazmat.primitives.asymmetric import ec

from ..errors import UsageError
from ..values import slotted
from ..wire import Secret
from . import key_exchange, packet_ciphers
from .compression import Compressor, Decompressor
from .groups import rfc3526
from .key_exchange import KeyExchange
from .kinds import Kind as Kind
from .packet_ciphers import Mac, Opener, Sealer
from .signatures import COMPOSITE, certified_name

Role = Literal["client", "server"]
Encoding = Literal["mpint", "string"]
Context = Literal["dh", "gex", "ecdh", "hybrid"]

BOTH: Final[tuple[Role, ...]] = ("client", "server")
CLIENT: Final[tuple[Role, ...]] = ("client",)


class Status(Enum):
    """How an algorithm comes to be offered."""

    DEFAULT = "default"
    ON_REQUEST = "on request"
    LEGACY = "legacy"


@slotted(frozen=True, kw_only=True)
class Algorithm:
    """One row. `note` says in a few words why it stands where it stands.

    `offered_by` are the roles that offer it without being asked; it counts for DEFAULT rows only.
    """

    name: str
    kind: Kind
    status: Status
    clause: str
    note: str = ""
    offered_by: tuple[Role, ...] = BOTH


@slotted(frozen=True, kw_only=True)
class KexAlgorithm(Algorithm):
    """A key exchange method.

    `hash_name` is the hash of H and of the key derivation; `context` selects the messages 30 to 49;
    `public` and `secret` say how Q_C, Q_S and how K are encoded. `factory()` makes a KeyExchange; in the
    context "gex" it is `factory(group)`.
    """

    kind: Kind = Kind.KEX
    hash_name: str
    context: Context
    public: Encoding = "string"
    secret: Encoding = "mpint"
    factory: Callable[..., KeyExchange]


@slotted(frozen=True, kw_only=True)
class CipherAlgorithm(Algorithm):
    """A cipher; sizes in bytes. `aead` ciphers bring their own tag, and the negotiated MAC is not used."""

    kind: Kind = Kind.CIPHER
    key_size: int
    iv_size: int
    block_size: int
    aead: bool
    sealer: Callable[[Secret, Secret, Mac | None], Sealer]
    opener: Callable[[Secret, Secret, Mac | None], Opener]


@slotted(frozen=True, kw_only=True)
class MacAlgorithm(Algorithm):
    """A MAC; sizes in bytes. `etm`: it covers the ciphertext, and packet_length stays in clear."""

    kind: Kind = Kind.MAC
    hash_name: str
    key_size: int
    tag_size: int
    etm: bool


@slotted(frozen=True, kw_only=True)
class CompressionAlgorithm(Algorithm):
    """A compression method. `delayed`: it starts when authentication has succeeded."""

    kind: Kind = Kind.COMPRESSION
    delayed: bool = False
    compressor: Callable[[], Compressor] | None = None
    decompressor: Callable[[], Decompressor] | None = None


_DEFAULT, _ON_REQUEST = Status.DEFAULT, Status.ON_REQUEST
_DH_NOTE = "costs a server much and a client nothing, and is leaving the libraries"
_ECDSA_NOTE = "gives its key away where a nonce is weak"
_SK_CLAUSE = "OpenSSH PROTOCOL.u2f"
_SK_NOTE = "inside a security key"


def _ecdh(
    name: str,
    status: Status,
    hash_name: str,
    clause: str,
    factory: Callable[[], KeyExchange],
    note: str = "",
    offered_by: tuple[Role, ...] = BOTH,
) -> KexAlgorithm:
    return KexAlgorithm(
        name=name,
        status=status,
        hash_name=hash_name,
        context="ecdh",
        clause=clause,
        factory=factory,
        note=note,
        offered_by=offered_by,
    )


def _hybrid(
    name: str,
    hash_name: str,
    clause: str,
    factory: Callable[[], KeyExchange],
    note: str = "post-quantum",
    status: Status = _DEFAULT,
) -> KexAlgorithm:
    return KexAlgorithm(
        name=name, status=status, hash_name=hash_name, context="hybrid", secret="string", clause=clause,
        note=note, factory=factory,
    )  # fmt: skip


def _dh(number: int, hash_name: str) -> KexAlgorithm:
    return KexAlgorithm(
        name=f"diffie-hellman-group{number}-{hash_name}",
        status=_ON_REQUEST,
        hash_name=hash_name,
        context="dh",
        public="mpint",
        clause="RFC 8268 3",
        note=_DH_NOTE,
        factory=key_exchange.fixed_group(partial(rfc3526, number)),
    )


def _host_key(name: str, clause: str, note: str = "", offered_by: tuple[Role, ...] = BOTH) -> Algorithm:
    return Algorithm(
        name=name, kind=Kind.HOST_KEY, status=_DEFAULT, clause=clause, note=note, offered_by=offered_by
    )


def _certified(row: Algorithm) -> Algorithm:
    return _host_key(
        certified_name(row.name), "OpenSSH PROTOCOL.certkeys", "with a certificate", row.offered_by
    )


def _gcm(bits: int) -> CipherAlgorithm:
    return CipherAlgorithm(
        name=f"aes{bits}-gcm@openssh.com",
        status=_DEFAULT,
        clause="RFC 5647; OpenSSH PROTOCOL 1.6",
        note="fastest: cipher and tag in one call",
        key_size=bits // 8,
        iv_size=12,
        block_size=16,
        aead=True,
        sealer=packet_ciphers.aes_gcm_sealer,
        opener=packet_ciphers.aes_gcm_opener,
    )


def _ctr(bits: int, status: Status) -> CipherAlgorithm:
    return CipherAlgorithm(
        name=f"aes{bits}-ctr",
        status=status,
        clause="RFC 4344 4",
        key_size=bits // 8,
        iv_size=16,
        block_size=16,
        aead=False,
        sealer=packet_ciphers.aes_ctr_sealer,
        opener=packet_ciphers.aes_ctr_opener,
    )


def _mac(bits: int, *, etm: bool) -> MacAlgorithm:
    return MacAlgorithm(
        name=f"hmac-sha2-{bits}" + ("-etm@openssh.com" if etm else ""),
        status=_DEFAULT if etm else _ON_REQUEST,
        clause="RFC 6668 2; OpenSSH PROTOCOL 1.5" if etm else "RFC 6668 2",
        note="" if etm else "covers the plaintext: what is decrypted is not yet verified",
        hash_name=f"sha{bits}",
        key_size=bits // 8,
        tag_size=bits // 8,
        etm=etm,
    )


_HOST_KEYS: Final = (
    _host_key("ssh-ed25519", "RFC 8709"),
    _host_key("rsa-sha2-512", "RFC 8332 3"),
    _host_key("rsa-sha2-256", "RFC 8332 3"),
    _host_key("ecdsa-sha2-nistp256", "RFC 5656 3", _ECDSA_NOTE, CLIENT),
    _host_key("ecdsa-sha2-nistp384", "RFC 5656 3", _ECDSA_NOTE, CLIENT),
    _host_key("ecdsa-sha2-nistp521", "RFC 5656 3", _ECDSA_NOTE, CLIENT),
    _host_key("sk-ssh-ed25519@openssh.com", _SK_CLAUSE, _SK_NOTE),
    _host_key("sk-ecdsa-sha2-nistp256@openssh.com", _SK_CLAUSE, _SK_NOTE, CLIENT),
    _host_key("webauthn-sk-ecdsa-sha2-nistp256@openssh.com", _SK_CLAUSE, "of a browser", CLIENT),
)

_OLD: Final = "for devices that know nothing better: Profile legacy"

_LEGACY: Final[tuple[Algorithm, ...]] = (
    KexAlgorithm(
        name="diffie-hellman-group14-sha1", status=Status.LEGACY, hash_name="sha1", context="dh",
        public="mpint", clause="RFC 4253 8.2", note=_OLD,
        factory=key_exchange.fixed_group(partial(rfc3526, 14)),
    ),
    Algorithm(
        name="ssh-rsa", kind=Kind.HOST_KEY, status=Status.LEGACY, clause="RFC 4253 6.6", note=_OLD,
    ),
    *(CipherAlgorithm(
        name=f"aes{bits}-cbc", status=Status.LEGACY, clause="RFC 4253 6.3", note=_OLD, key_size=bits // 8,
        iv_size=16, block_size=16, aead=False, sealer=packet_ciphers.aes_cbc_sealer,
        opener=packet_ciphers.aes_cbc_opener,
    ) for bits in (256, 192, 128)),
    *(MacAlgorithm(
        name=name, status=Status.LEGACY, clause="RFC 4253 6.4", note=_OLD, hash_name="sha1", key_size=20,
        tag_size=20, etm=name != "hmac-sha1",
    ) for name in ("hmac-sha1-etm@openssh.com", "hmac-sha1")),
)  # fmt: skip
"""What nothing offers, and no list can name, without the profile that says so."""

ALGORITHMS: Final[tuple[Algorithm, ...]] = (
    _hybrid("mlkem768x25519-sha256", "sha256", "RFC 10042", key_exchange.Hybrid),
    _hybrid("sntrup761x25519-sha512", "sha512", "RFC 9941", key_exchange.sntrup761x25519,
            "post-quantum, for OpenSSH before 10"),
    _hybrid("sntrup761x25519-sha512@openssh.com", "sha512", "RFC 9941", key_exchange.sntrup761x25519,
            "the same under its first name"),
    _hybrid("mlkem768nistp256-sha256", "sha256", "RFC 10042",
            key_exchange.mlkem_nist(key_exchange.MLKEM768, ec.SECP256R1(), "sha256"),
            "post-quantum, for who must have a NIST curve", _ON_REQUEST),
    _hybrid("mlkem1024nistp384-sha384", "sha384", "RFC 10042",
            key_exchange.mlkem_nist(key_exchange.MLKEM1024, ec.SECP384R1(), "sha384"),
            "post-quantum, for who must have a NIST curve", _ON_REQUEST),
    _ecdh("curve25519-sha256", _DEFAULT, "sha256", "RFC 8731", key_exchange.curve25519),
    _ecdh("curve25519-sha256@libssh.org", _DEFAULT, "sha256", "RFC 8731", key_exchange.curve25519,
         "the same under its first name"),
    _ecdh("ecdh-sha2-nistp256", _DEFAULT, "sha256", "RFC 5656 4", key_exchange.nist(ec.SECP256R1()),
         "for servers without X25519", CLIENT),
    _ecdh("ecdh-sha2-nistp384", _DEFAULT, "sha384", "RFC 5656 4", key_exchange.nist(ec.SECP384R1()),
         "for servers without X25519", CLIENT),
    _ecdh("ecdh-sha2-nistp521", _ON_REQUEST, "sha512", "RFC 5656 4", key_exchange.nist(ec.SECP521R1())),
    _dh(16, "sha512"),
    _dh(18, "sha512"),
    _dh(14, "sha256"),
    KexAlgorithm(
        name="diffie-hellman-group-exchange-sha256", status=_ON_REQUEST, hash_name="sha256", context="gex",
        public="mpint", clause="RFC 4419", note=_DH_NOTE, factory=key_exchange.group_exchange,
    ),
    *_HOST_KEYS,
    Algorithm(
        name=COMPOSITE, kind=Kind.HOST_KEY, status=_ON_REQUEST, clause="draft-miller-sshm-mldsa44-ed25519",
        note="post-quantum, of OpenSSH 10.6 and younger than any other here",
    ),
    # OpenSSH has these first; who knows an authority puts them there, and nobody else has any use for them.
    *map(_certified, _HOST_KEYS),
    _gcm(256),
    _gcm(128),
    CipherAlgorithm(
        name="chacha20-poly1305@openssh.com", status=_DEFAULT, clause="OpenSSH PROTOCOL.chacha20poly1305",
        note="with strict key exchange only: CVE-2023-48795", key_size=64, iv_size=0, block_size=8, aead=True,
        sealer=packet_ciphers.chacha20_poly1305_sealer, opener=packet_ciphers.chacha20_poly1305_opener,
    ),
    _ctr(256, _DEFAULT),
    _ctr(128, _DEFAULT),
    _ctr(192, _ON_REQUEST),
    _mac(256, etm=True),
    _mac(512, etm=True),
    _mac(256, etm=False),
    _mac(512, etm=False),
    *_LEGACY,
    CompressionAlgorithm(name="none", status=_DEFAULT, clause="RFC 4253 6.2"),
    CompressionAlgorithm(
        name="zlib@openssh.com", status=_ON_REQUEST, clause="draft-miller-secsh-compression-delayed-00",
        note="lengths then tell about contents (CRIME)", delayed=True, compressor=Compressor,
        decompressor=Decompressor,
    ),
)  # fmt: skip

AUTHORITY_ALGORITHMS: Final = tuple(row.name for row in _HOST_KEYS if row.status is _DEFAULT)
"""By which an authority may have signed a certificate, unless told otherwise (CASignatureAlgorithms)."""

_BY_NAME: Final = {(row.kind, row.name): row for row in ALGORITHMS}


@overload
def find(kind: Literal[Kind.KEX], name: str) -> KexAlgorithm: ...
@overload
def find(kind: Literal[Kind.CIPHER], name: str) -> CipherAlgorithm: ...
@overload
def find(kind: Literal[Kind.MAC], name: str) -> MacAlgorithm: ...
@overload
def find(kind: Literal[Kind.COMPRESSION], name: str) -> CompressionAlgorithm: ...
@overload
def find(kind: Kind, name: str) -> Algorithm: ...
def find(kind: Kind, name: str) -> Algorithm:
    """The row of `name`. Raises UsageError with the known names where there is none."""
    row = _BY_NAME.get((kind, name))
    if row is None:
        raise UsageError(f"unknown {kind.value} {name!r}", hint=f"known: {', '.join(names(kind))}")
    return row


def names(kind: Kind, *statuses: Status) -> tuple[str, ...]:
    """The names of one kind in order of preference, of the given statuses or of all but LEGACY."""
    wanted = statuses or (Status.DEFAULT, Status.ON_REQUEST)
    return tuple(row.name for row in ALGORITHMS if row.kind is kind and row.status in wanted)


def defaults(kind: Kind, role: Role = "client") -> tuple[str, ...]:
    """What `role` offers without being asked, in order of preference."""
    return tuple(
        row.name
        for row in ALGORITHMS
        if row.kind is kind and row.status is Status.DEFAULT and role in row.offered_by
    )


def make_sealer(
    cipher: CipherAlgorithm, mac: MacAlgorithm | None, key: Secret, iv: Secret, mac_key: Secret
) -> Sealer:
    """The sealer of one direction; `mac` and `mac_key` are not looked at where the cipher is an AEAD.

    Raises UsageError where a cipher that needs a MAC gets none.
    """
    return cipher.sealer(key, iv, _keyed(cipher, mac, mac_key))


def make_opener(
    cipher: CipherAlgorithm, mac: MacAlgorithm | None, key: Secret, iv: Secret, mac_key: Secret
) -> Opener:
    """The opener of one direction; see `make_sealer`."""
    return cipher.opener(key, iv, _keyed(cipher, mac, mac_key))


def _keyed(cipher: CipherAlgorithm, mac: MacAlgorithm | None, key: Secret) -> Mac | None:
    return None if cipher.aead or mac is None else Mac(mac.hash_name, key, etm=mac.etm)
