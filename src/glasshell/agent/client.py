"""The client's side of the ssh-agent protocol (RFC 9987), without I/O.

Requests come out framed, ready for the agent's socket; `take_frame` cuts the answers out of what was
read. The agent is a peer of its own: a `PeerError` from here is about it, not about the SSH server.
"""

from __future__ import annotations

from typing import Final, TypeVar

from ..errors import KeyFormatError, LimitExceeded, MalformedMessage, ProtocolViolation, RequestFailed
from ..keys.public import AnyKey, read_key
from ..messages.declare import Message
from ..values import slotted
from ..wire import Reader, string
from . import messages as m

__all__ = [
    "MAX_FRAME", "MAX_IDENTITIES", "Identity", "frame", "parse_done", "parse_extensions", "parse_identities",
    "parse_signature", "request_identities", "session_bind", "sign_request", "take_frame",
]  # fmt: skip

MAX_FRAME: Final = 256 * 1024
"""Longest message taken from an agent, or by one, in bytes: OpenSSH's own bound."""

MAX_IDENTITIES: Final = 2048
"""Most keys taken from an agent: OpenSSH's own bound."""

# An agent signs with SHA-1 for an RSA key unless one of these is set (RFC 9987 §3.6.1).
_FLAGS: Final = {"rsa-sha2-256": m.SignFlag.RSA_SHA2_256, "rsa-sha2-512": m.SignFlag.RSA_SHA2_512}

M = TypeVar("M", bound=Message)


@slotted(frozen=True)
class Identity:
    """One key the agent holds. `key`, a certificate too, is None for a kind that is not supported here."""

    blob: bytes
    comment: str
    key: AnyKey | None


def frame(message: Message) -> bytes:
    """A message with its length before it (RFC 9987 §3)."""
    return string(message.encode())


def request_identities() -> bytes:
    """SSH_AGENTC_REQUEST_IDENTITIES (RFC 9987 §3.5), framed."""
    return frame(m.RequestIdentities())


def sign_request(blob: bytes, data: bytes, algorithm: str) -> bytes:
    """SSH_AGENTC_SIGN_REQUEST (RFC 9987 §3.6), framed: sign `data` by the key `blob` with `algorithm`."""
    return frame(m.SignRequest(blob, data, int(_FLAGS.get(algorithm, 0))))


def session_bind(host_key: bytes, session_id: bytes, signature: bytes, *, forwarding: bool) -> bytes:
    """`session-bind@openssh.com` (OpenSSH PROTOCOL.agent §1), framed: where this connection leads."""
    bind = m.SessionBind(host_key, session_id, signature, forwarding)
    return frame(m.Extension("session-bind@openssh.com", bind))


def take_frame(buffer: bytearray) -> bytes | None:
    """Takes the first whole message off `buffer`; None while it is not all there.

    Raises LimitExceeded for one longer than MAX_FRAME, as soon as its length is read, and
    MalformedMessage for an empty one.
    """
    if len(buffer) < 4:
        return None
    size = int.from_bytes(buffer[:4], "big")
    if size > MAX_FRAME:
        raise LimitExceeded(f"an agent's message of {size} bytes is announced; {MAX_FRAME} are allowed")
    if size == 0:
        raise MalformedMessage("an empty message where an agent's belongs", clause="RFC 9987 3")
    if len(buffer) < 4 + size:
        return None
    message = bytes(buffer[4 : 4 + size])
    del buffer[: 4 + size]
    return message


def _open(message: bytes, wanted: type[M], request: str) -> M:
    number = Reader(message).byte()
    if number in (m.Failure.NUMBER, m.ExtensionFailure.NUMBER):
        raise RequestFailed(f"the agent refused to {request}", hint="is it locked? try: glasshell add -l")
    if number != wanted.NUMBER:
        told = f"the agent answered {number} where {wanted.NUMBER} belongs"
        raise ProtocolViolation(told, clause="RFC 9987 3")
    return wanted.decode(message)


def parse_done(message: bytes, request: str) -> None:
    """SSH_AGENT_SUCCESS; `request` says in words what was asked for.

    Raises RequestFailed where the agent refused, PeerError for any other answer.
    """
    _open(message, m.Success, request)


def parse_identities(message: bytes) -> tuple[Identity, ...]:
    """The keys in SSH_AGENT_IDENTITIES_ANSWER (RFC 9987 §3.5), in the agent's order.

    Raises RequestFailed where the agent refused, PeerError for any other answer.
    """
    count = int.from_bytes(message[1:5], "big")
    if message[:1] == bytes([m.IdentitiesAnswer.NUMBER]) and count > MAX_IDENTITIES:
        raise LimitExceeded(f"the agent announces {count} keys; {MAX_IDENTITIES} are allowed")
    answer = _open(message, m.IdentitiesAnswer, "list its keys")
    return tuple(_identity(held.key, held.comment) for held in answer.identities)


def _identity(blob: bytes, comment: str) -> Identity:
    try:
        return Identity(blob, comment, read_key(blob))
    except KeyFormatError:
        return Identity(blob, comment, None)


def parse_signature(message: bytes, algorithm: str) -> bytes:
    """The signature blob in SSH_AGENT_SIGN_RESPONSE (RFC 9987 §3.6), to be sent as it is.

    It has to be by `algorithm`: an agent that does not know the flags signs with SHA-1 instead. Raises
    RequestFailed where the agent refused, PeerError for any other answer.
    """
    signature = _open(message, m.SignResponse, "sign").signature
    inside = Reader(signature)
    name = inside.name()
    inside.string()
    if not algorithm.startswith(("sk-", "webauthn-")):  # there flags and counter follow
        inside.done()
    if name != algorithm:
        raise ProtocolViolation(f'the agent signed with "{name}" where {algorithm} was asked for')
    return signature


def parse_extensions(message: bytes) -> tuple[str, ...]:
    """The names in the answer to the extension `query` (RFC 9987 §3.8.1).

    Raises RequestFailed where the agent has none, PeerError for any other answer.
    """
    answer = _open(message, m.ExtensionResponse, "tell of its extensions")
    if answer.type != "query":
        raise ProtocolViolation(f'the agent answered about "{answer.type}" where "query" was asked')
    return tuple(each.name for each in m.ExtensionNames.decode(answer.contents).names)
