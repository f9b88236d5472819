"""What passes between an agent and its clients (RFC 9987): the messages of the context `agent`.

Each stands behind a uint32, its length. What only adds keys is in `adding`, which a login has no use for.
"""

import enum
from typing import Annotated, Final, TypeAlias

from ..messages.blobs import KeyBlob, Signature
from ..messages.declare import (
    U32,
    Body,
    Bool,
    Bytes,
    Items,
    Message,
    Name,
    Rest,
    SecretBytes,
    Struct,
    Text,
    body,
    by_name,
    doc,
    message,
)

CONTEXT: Final = "agent"
OPENSSH: Final = "OpenSSH PROTOCOL.agent"


class SignFlag(enum.IntFlag):
    """RFC 9987 §3.6.1: how an RSA key is to sign, without the prefix SSH_AGENT_."""

    RSA_SHA2_256 = 2
    RSA_SHA2_512 = 4


EXTENSIONS: Final[dict[str, type[Struct]]] = {}
"""What an extension request carries, by its name."""


# --- answers


@message(5, "SSH_AGENT_FAILURE", clause="RFC 9987 3.1", context=CONTEXT)
class Failure(Message):
    """The request failed, or is not known."""


@message(6, "SSH_AGENT_SUCCESS", clause="RFC 9987 3.1", context=CONTEXT)
class Success(Message):
    """The request was done."""


@body(None, clause="RFC 9987 3.5")
class HeldKey(Struct):
    """One key of an agent."""

    key: KeyBlob
    comment: Text


HeldKeys: TypeAlias = Annotated[tuple[HeldKey, ...], Items(HeldKey, counted=True)]


@message(12, "SSH_AGENT_IDENTITIES_ANSWER", clause="RFC 9987 3.5", context=CONTEXT)
class IdentitiesAnswer(Message):
    """The keys that the agent holds, as far as the client may see them."""

    identities: HeldKeys


@message(14, "SSH_AGENT_SIGN_RESPONSE", clause="RFC 9987 3.6", context=CONTEXT)
class SignResponse(Message):
    """The signature that was asked for."""

    signature: Signature


@message(28, "SSH_AGENT_EXTENSION_FAILURE", clause="RFC 9987 3.8", context=CONTEXT)
class ExtensionFailure(Message):
    """The extension is known, and failed."""


@message(29, "SSH_AGENT_EXTENSION_RESPONSE", clause="RFC 9987 3.8", context=CONTEXT)
class ExtensionResponse(Message):
    """What an extension answers beyond success."""

    type: Name
    contents: Rest


# --- requests


@message(11, "SSH_AGENTC_REQUEST_IDENTITIES", clause="RFC 9987 3.5", context=CONTEXT)
class RequestIdentities(Message):
    """Asks for the keys."""


@message(13, "SSH_AGENTC_SIGN_REQUEST", clause="RFC 9987 3.6", context=CONTEXT)
class SignRequest(Message):
    """Asks for a signature."""

    key: KeyBlob
    data: Bytes
    flags: U32 = doc("SignFlag: 2 rsa-sha2-256, 4 rsa-sha2-512; without them an RSA key signs with SHA-1")


@message(18, "SSH_AGENTC_REMOVE_IDENTITY", clause="RFC 9987 3.4", context=CONTEXT)
class RemoveIdentity(Message):
    """Takes one key out of the agent."""

    key: KeyBlob


@message(19, "SSH_AGENTC_REMOVE_ALL_IDENTITIES", clause="RFC 9987 3.4", context=CONTEXT)
class RemoveAllIdentities(Message):
    """Takes all keys out of the agent."""


@message(9, "SSH_AGENTC_REMOVE_ALL_RSA_IDENTITIES", clause="RFC 9987 6.1", context=CONTEXT)
class RemoveAllRsaIdentities(Message):
    """The same, of the protocol before the second; ssh-add still says it."""


@message(22, "SSH_AGENTC_LOCK", clause="RFC 9987 3.7", context=CONTEXT)
class Lock(Message):
    """Locks the agent."""

    passphrase: SecretBytes


@message(23, "SSH_AGENTC_UNLOCK", clause="RFC 9987 3.7", context=CONTEXT)
class Unlock(Message):
    """Opens a locked agent."""

    passphrase: SecretBytes


@message(27, "SSH_AGENTC_EXTENSION", clause="RFC 9987 3.8", context=CONTEXT)
class Extension(Message):
    """Something that the protocol itself does not have."""

    type: Name
    contents: Body = by_name("type", EXTENSIONS)


@body(EXTENSIONS, "query", clause="RFC 9987 3.8.1")
class Query(Struct):
    """Asks which extensions there are."""


@body(EXTENSIONS, "session-bind@openssh.com", clause=OPENSSH)
class SessionBind(Struct):
    """Says where this connection to the agent leads, so that keys can be held to their destinations."""

    host_key: KeyBlob = doc("the server's, of the first key exchange")
    session_id: Bytes
    signature: Signature = doc("the server's, of the session identifier")
    forwarding: Bool = doc("whether the agent is forwarded there, and not only used to log in")


@body(None, clause="RFC 9987 3.8.1")
class ExtensionName(Struct):
    """The name of one extension."""

    name: Name


@body(None, clause="RFC 9987 3.8.1")
class ExtensionNames(Struct):
    """What the answer to `query` holds."""

    names: Annotated[tuple[ExtensionName, ...], Items(ExtensionName, counted=False)]
