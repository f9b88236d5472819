"""RFC 4253, RFC 8308 and OpenSSH's ping: the messages of the transport layer.

Those of the key exchange methods themselves (30 to 49) are in `kex`.
"""

import enum
from typing import Annotated, TypeAlias

from .. import wire
from .declare import (
    U32,
    Bool,
    Bytes,
    Code,
    Items,
    Message,
    Name,
    NameList,
    Struct,
    Text,
    body,
    doc,
    message,
)


class DisconnectReason(enum.IntEnum):
    """RFC 4253 §11.1: why a connection is ended, without the prefix SSH_DISCONNECT_."""

    HOST_NOT_ALLOWED_TO_CONNECT = 1
    PROTOCOL_ERROR = 2
    KEY_EXCHANGE_FAILED = 3
    RESERVED = 4
    MAC_ERROR = 5
    COMPRESSION_ERROR = 6
    SERVICE_NOT_AVAILABLE = 7
    PROTOCOL_VERSION_NOT_SUPPORTED = 8
    HOST_KEY_NOT_VERIFIABLE = 9
    CONNECTION_LOST = 10
    BY_APPLICATION = 11
    TOO_MANY_CONNECTIONS = 12
    AUTH_CANCELLED_BY_USER = 13
    NO_MORE_AUTH_METHODS_AVAILABLE = 14
    ILLEGAL_USER_NAME = 15


Reason: TypeAlias = Annotated[int, Code(DisconnectReason)]
Cookie: TypeAlias = Annotated[bytes, wire.Raw(16)]


@message(1, "SSH_MSG_DISCONNECT", clause="RFC 4253 11.1")
class Disconnect(Message):
    """The sender ends the connection, now."""

    reason_code: Reason
    description: Text
    language: Text = doc("language tag (RFC 3066)", default="")


@message(2, "SSH_MSG_IGNORE", clause="RFC 4253 11.2")
class Ignore(Message):
    """Padding against traffic analysis; the receiver does nothing."""

    data: Bytes


@message(3, "SSH_MSG_UNIMPLEMENTED", clause="RFC 4253 11.4")
class Unimplemented(Message):
    """The answer to a message whose number is not known."""

    sequence_number: U32 = doc("packet sequence number of the message that was not known")


@message(4, "SSH_MSG_DEBUG", clause="RFC 4253 11.3")
class Debug(Message):
    """A word from the peer's programmer to ours."""

    always_display: Bool
    message: Text
    language: Text = doc("language tag (RFC 3066)", default="")


@message(5, "SSH_MSG_SERVICE_REQUEST", clause="RFC 4253 10")
class ServiceRequest(Message):
    """The client asks for `ssh-userauth` or `ssh-connection`."""

    service_name: Name


@message(6, "SSH_MSG_SERVICE_ACCEPT", clause="RFC 4253 10")
class ServiceAccept(Message):
    """The server grants the service."""

    service_name: Name


@body(None, clause="RFC 8308 2.3")
class Extension(Struct):
    """One extension: what it is called, and what it says in a form of its own."""

    name: Text
    value: Bytes


Extensions: TypeAlias = Annotated[tuple[Extension, ...], Items(Extension, counted=True)]


@message(7, "SSH_MSG_EXT_INFO", clause="RFC 8308 2.3")
class ExtInfo(Message):
    """What else the sender supports: `server-sig-algs` and its like."""

    extensions: Extensions


@message(8, "SSH_MSG_NEWCOMPRESS", clause="RFC 8308 3.2")
class NewCompress(Message):
    """From the next packet on, the sender compresses (the extension delay-compression)."""


@message(20, "SSH_MSG_KEXINIT", clause="RFC 4253 7.1")
class KexInit(Message):
    """The algorithms one side takes, most wanted first."""

    cookie: Cookie = doc("random, so that neither side determines the keys alone")
    kex_algorithms: NameList
    server_host_key_algorithms: NameList
    encryption_algorithms_client_to_server: NameList
    encryption_algorithms_server_to_client: NameList
    mac_algorithms_client_to_server: NameList
    mac_algorithms_server_to_client: NameList
    compression_algorithms_client_to_server: NameList
    compression_algorithms_server_to_client: NameList
    languages_client_to_server: NameList = doc("language tags; empty in practice", default=())
    languages_server_to_client: NameList = doc("language tags; empty in practice", default=())
    first_kex_packet_follows: Bool = doc("a guessed key exchange packet comes next", default=False)
    reserved: U32 = doc("zero, for a future extension", default=0)


@message(21, "SSH_MSG_NEWKEYS", clause="RFC 4253 7.3")
class NewKeys(Message):
    """From the next packet on, the sender uses the new keys."""


@message(192, "SSH_MSG_PING", clause="OpenSSH PROTOCOL, ping")
class Ping(Message):
    """Asks the transport of the peer for a sign of life."""

    data: Bytes


@message(193, "SSH_MSG_PONG", clause="OpenSSH PROTOCOL, ping")
class Pong(Message):
    """The sign of life, with the data of the ping."""

    data: Bytes
