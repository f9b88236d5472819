"""RFC 4252, 4256, 4462 and OpenSSH's host-bound public keys: the messages of authentication.

The context of numbers 60 to 79 is the method that is running; `method_context` names it.
"""

from typing import Annotated, Final, TypeAlias

from .blobs import KeyBlob, Signature
from .declare import (
    U32,
    Body,
    Bool,
    Bytes,
    Items,
    Message,
    Name,
    NameList,
    SecretBytes,
    Struct,
    Text,
    body,
    by_name,
    doc,
    message,
)

HOSTBOUND: Final = "publickey-hostbound-v00@openssh.com"

AUTH_METHODS: Final[dict[str, type[Struct]]] = {}
"""The body of SSH_MSG_USERAUTH_REQUEST by method name."""


def method_context(method: str) -> str:
    """The context in which messages 60 to 79 are read while `method` runs."""
    return "publickey" if method == HOSTBOUND else method


@body(AUTH_METHODS, "none", clause="RFC 4252 5.2")
class NoneRequest(Struct):
    """Asks what methods there are, or to be let in without one."""


@body(AUTH_METHODS, "publickey", clause="RFC 4252 7")
class PublickeyRequest(Struct):
    """Offers a key (no signature), or proves that the client holds it."""

    has_signature: Bool
    algorithm: Name = doc("public key algorithm name")
    public_key: KeyBlob = doc("public key blob")
    signature: Signature | None = doc(
        "of the session identifier and this message up to here", present_if="has_signature", default=None
    )


@body(AUTH_METHODS, HOSTBOUND, clause="OpenSSH PROTOCOL 3.1")
class HostboundRequest(Struct):
    """As `publickey`, with the server's host key among what is signed."""

    has_signature: Bool
    algorithm: Name = doc("public key algorithm name")
    public_key: KeyBlob = doc("public key blob")
    host_key: KeyBlob = doc("the server's host key of the first key exchange")
    signature: Signature | None = doc(
        "of the session identifier and this message up to here", present_if="has_signature", default=None
    )


@body(AUTH_METHODS, "password", clause="RFC 4252 8")
class PasswordRequest(Struct):
    """A password, or the old one and the new one."""

    change: Bool = doc("whether the password is changed")
    password: SecretBytes = doc("in UTF-8; the old one where it is changed")
    new_password: SecretBytes | None = doc("in UTF-8", present_if="change", default=None)


@body(AUTH_METHODS, "keyboard-interactive", clause="RFC 4256 3.1")
class KeyboardInteractiveRequest(Struct):
    """Asks the server for its questions."""

    language: Text = doc("language tag; empty in practice", default="")
    submethods: Text = doc("comma-separated hints", default="")


@body(AUTH_METHODS, "hostbased", clause="RFC 4252 9")
class HostbasedRequest(Struct):
    """The client's host vouches for the user."""

    algorithm: Name = doc("public key algorithm for host key")
    host_key: KeyBlob = doc("public host key and certificates of the client's host")
    client_host_name: Text = doc("FQDN")
    client_user_name: Text = doc("user name on the client's host")
    signature: Signature = doc("of the session identifier and this message up to here")


@body(None, clause="RFC 4462 3.2")
class Mechanism(Struct):
    """One GSS-API mechanism."""

    oid: Bytes = doc("object identifier in DER")


Mechanisms: TypeAlias = Annotated[tuple[Mechanism, ...], Items(Mechanism, counted=True)]


@body(AUTH_METHODS, "gssapi-with-mic", clause="RFC 4462 3.2")
class GssapiRequest(Struct):
    """Offers GSS-API mechanisms."""

    mechanisms: Mechanisms


@message(50, "SSH_MSG_USERAUTH_REQUEST", clause="RFC 4252 5")
class UserauthRequest(Message):
    """One attempt of the client by one method."""

    user_name: Text
    service_name: Name = doc("the service to start once authenticated")
    method_name: Name
    body: Body = by_name("method_name", AUTH_METHODS, guarded=True)


@message(51, "SSH_MSG_USERAUTH_FAILURE", clause="RFC 4252 5.1")
class UserauthFailure(Message):
    """The attempt failed, or it was one of several that are needed."""

    methods: NameList = doc("authentications that can continue")
    partial_success: Bool = doc("the attempt succeeded, and another method is needed too")


@message(52, "SSH_MSG_USERAUTH_SUCCESS", clause="RFC 4252 5.1")
class UserauthSuccess(Message):
    """The user is authenticated and the service starts."""


@message(53, "SSH_MSG_USERAUTH_BANNER", clause="RFC 4252 5.4")
class UserauthBanner(Message):
    """A text the user is to see before logging in."""

    message: Text
    language: Text = doc("language tag (RFC 3066)", default="")


@message(60, "SSH_MSG_USERAUTH_PK_OK", clause="RFC 4252 7", context="publickey")
class UserauthPkOk(Message):
    """The key that was offered would do."""

    algorithm: Name = doc("public key algorithm name from the request")
    public_key: KeyBlob = doc("public key blob from the request")


@message(60, "SSH_MSG_USERAUTH_PASSWD_CHANGEREQ", clause="RFC 4252 8", context="password")
class UserauthPasswdChangereq(Message):
    """The password has expired and must be changed."""

    prompt: Text
    language: Text = doc("language tag (RFC 3066)", default="")


@body(None, clause="RFC 4256 3.2")
class Prompt(Struct):
    """One question, and whether the answer is shown as it is typed."""

    prompt: Text
    echo: Bool


Prompts: TypeAlias = Annotated[tuple[Prompt, ...], Items(Prompt, counted=True)]


@message(60, "SSH_MSG_USERAUTH_INFO_REQUEST", clause="RFC 4256 3.2", context="keyboard-interactive")
class UserauthInfoRequest(Message):
    """The server's questions; there may be none."""

    name: Text
    instruction: Text
    language: Text = doc("language tag; empty in practice")
    prompts: Prompts


@body(None, clause="RFC 4256 3.4")
class Response(Struct):
    """One answer."""

    response: SecretBytes = doc("in UTF-8")


Responses: TypeAlias = Annotated[tuple[Response, ...], Items(Response, counted=True)]


@message(61, "SSH_MSG_USERAUTH_INFO_RESPONSE", clause="RFC 4256 3.4", context="keyboard-interactive")
class UserauthInfoResponse(Message):
    """The user's answers, as many as there were prompts."""

    responses: Responses


@message(60, "SSH_MSG_USERAUTH_GSSAPI_RESPONSE", clause="RFC 4462 3.3", context="gssapi-with-mic")
class UserauthGssapiResponse(Message):
    """The mechanism the server chose."""

    oid: Bytes = doc("object identifier in DER")


@message(61, "SSH_MSG_USERAUTH_GSSAPI_TOKEN", clause="RFC 4462 3.4", context="gssapi-with-mic")
class UserauthGssapiToken(Message):
    """One token of the mechanism's own conversation."""

    token: SecretBytes


@message(63, "SSH_MSG_USERAUTH_GSSAPI_EXCHANGE_COMPLETE", clause="RFC 4462 3.6", context="gssapi-with-mic")
class UserauthGssapiExchangeComplete(Message):
    """The client is done, without a MIC: the mechanism has no integrity protection."""


@message(64, "SSH_MSG_USERAUTH_GSSAPI_ERROR", clause="RFC 4462 3.8", context="gssapi-with-mic")
class UserauthGssapiError(Message):
    """What the server's GSS-API library said went wrong."""

    major_status: U32
    minor_status: U32
    message: Text
    language: Text = doc("language tag (RFC 3066)", default="")


@message(65, "SSH_MSG_USERAUTH_GSSAPI_ERRTOK", clause="RFC 4462 3.9", context="gssapi-with-mic")
class UserauthGssapiErrtok(Message):
    """A token that tells the peer's mechanism of an error."""

    token: SecretBytes


@message(66, "SSH_MSG_USERAUTH_GSSAPI_MIC", clause="RFC 4462 3.5", context="gssapi-with-mic")
class UserauthGssapiMic(Message):
    """The proof over the session identifier and the request that ends the method."""

    mic: SecretBytes
