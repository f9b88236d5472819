"""The messages of the key exchange methods: numbers 30 to 49, which each method uses in its own way.

The context is the family of the method: `dh` (RFC 4253, RFC 8268), `gex` (RFC 4419), `ecdh` (RFC 5656,
RFC 8731) or `hybrid` (RFC 9941, RFC 10042).
"""

from .blobs import KeyBlob, Signature
from .declare import U32, Bytes, Message, MPInt, doc, message


@message(30, "SSH_MSG_KEXDH_INIT", clause="RFC 4253 8", context="dh")
class KexDhInit(Message):
    """The client's public value."""

    e: MPInt = doc("g^x mod p")


@message(31, "SSH_MSG_KEXDH_REPLY", clause="RFC 4253 8", context="dh")
class KexDhReply(Message):
    """The server's public value, its host key, and the proof that it holds that key."""

    host_key: KeyBlob = doc("K_S, the server's public host key and certificates")
    f: MPInt = doc("g^y mod p")
    signature: Signature = doc("of the exchange hash H")


@message(30, "SSH_MSG_KEX_DH_GEX_REQUEST_OLD", clause="RFC 4419 5", context="gex")
class KexDhGexRequestOld(Message):
    """The client asks for a group of `n` bits: the form of old clients."""

    n: U32 = doc("preferred size of the group, in bits")


@message(31, "SSH_MSG_KEX_DH_GEX_GROUP", clause="RFC 4419 3", context="gex")
class KexDhGexGroup(Message):
    """The group the server chose."""

    p: MPInt = doc("safe prime")
    g: MPInt = doc("generator of the subgroup")


@message(32, "SSH_MSG_KEX_DH_GEX_INIT", clause="RFC 4419 3", context="gex")
class KexDhGexInit(Message):
    """The client's public value in that group."""

    e: MPInt = doc("g^x mod p")


@message(33, "SSH_MSG_KEX_DH_GEX_REPLY", clause="RFC 4419 3", context="gex")
class KexDhGexReply(Message):
    """The server's public value, its host key, and the proof that it holds that key."""

    host_key: KeyBlob = doc("K_S, the server's public host key and certificates")
    f: MPInt = doc("g^y mod p")
    signature: Signature = doc("of the exchange hash H")


@message(34, "SSH_MSG_KEX_DH_GEX_REQUEST", clause="RFC 4419 3", context="gex")
class KexDhGexRequest(Message):
    """The client asks for a group between two sizes."""

    min: U32 = doc("smallest size it takes, in bits")
    n: U32 = doc("preferred size, in bits")
    max: U32 = doc("largest size it takes, in bits")


@message(30, "SSH_MSG_KEX_ECDH_INIT", clause="RFC 5656 4", context="ecdh")
class KexEcdhInit(Message):
    """The client's ephemeral public key."""

    q_c: Bytes = doc("Q_C, as an octet string")


@message(31, "SSH_MSG_KEX_ECDH_REPLY", clause="RFC 5656 4", context="ecdh")
class KexEcdhReply(Message):
    """The server's ephemeral public key, its host key, and the proof that it holds that key."""

    host_key: KeyBlob = doc("K_S, the server's public host key")
    q_s: Bytes = doc("Q_S, as an octet string")
    signature: Signature = doc("of the exchange hash H")


@message(30, "SSH_MSG_KEX_HYBRID_INIT", clause="RFC 10042 2", context="hybrid")
class KexHybridInit(Message):
    """The client's two ephemeral public keys: the post-quantum one, then the elliptic one."""

    q_c: Bytes = doc("C_INIT, the two keys put together")


@message(31, "SSH_MSG_KEX_HYBRID_REPLY", clause="RFC 10042 2", context="hybrid")
class KexHybridReply(Message):
    """The ciphertext and the elliptic key of the server, its host key and the proof."""

    host_key: KeyBlob = doc("K_S, the server's public host key")
    q_s: Bytes = doc("S_REPLY, ciphertext and key put together")
    signature: Signature = doc("of the exchange hash H")
