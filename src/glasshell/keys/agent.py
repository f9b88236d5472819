"""The client's side of the ssh-agent protocol (RFC 9987), without I/O.

Requests come out framed, ready for the agent's socket; `take_frame` cuts the answers out of what was
read. Only what a client needs: list the keys, let one of them sign. The agent is a peer of its own:
a `PeerError` from here is about it, not about the SSH server.
"""

from __future__ import annotations

from typing import Final

from ..crypto.signatures import PublicKey
from ..errors import KeyFormatError, LimitExceeded, MalformedMessage, ProtocolViolation, RequestFailed
from ..values import slotted
from ..wire import Reader, string, uint32

__all__ = [
    "MAX_FRAME", "MAX_IDENTITIES", "Identity", "parse_identities", "parse_signature", "request_identities",
    "sign_request", "take_frame",
]  # fmt: skip

MAX_FRAME: Final = 256 * 1024
"""Longest message taken from an agent, in bytes: OpenSSH's own bound."""

MAX_IDENTITIES: Final = 2048
"""Most keys taken from an agent: OpenSSH's own bound."""

_FAILURE: Final = 5
_REQUEST_IDENTITIES: Final = 11
_IDENTITIES_ANSWER: Final = 12
_SIGN_REQUEST: Final = 13
_SIGN_RESPONSE: Final = 14
_EXTENSION_FAILURE: Final = 28

# An agent signs with SHA-1 for an RSA key unless one of these is set (RFC 9987 §3.6.1).
_FLAGS: Final = {"rsa-sha2-256": 2, "rsa-sha2-512": 4}


@slotted(frozen=True)
class Identity:
    """One key the agent holds. `key` is None for a kind that is not supported here: a certificate, say."""

    blob: bytes
    comment: str
    key: PublicKey | None


def _frame(number: int, body: bytes = b"") -> bytes:
    return string(bytes([number]) + body)


def request_identities() -> bytes:
    """SSH_AGENTC_REQUEST_IDENTITIES (RFC 9987 §3.5), framed."""
    return _frame(_REQUEST_IDENTITIES)


def sign_request(blob: bytes, data: bytes, algorithm: str) -> bytes:
    """SSH_AGENTC_SIGN_REQUEST (RFC 9987 §3.6), framed: sign `data` by the key `blob` with `algorithm`."""
    return _frame(_SIGN_REQUEST, string(blob) + string(data) + uint32(_FLAGS.get(algorithm, 0)))


def take_frame(buffer: bytearray) -> bytes | None:
    """Takes the first whole message off `buffer`; None while it is not all there.

    Raises LimitExceeded for one longer than MAX_FRAME, as soon as its length is read, and
    MalformedMessage for an empty one.
    """
    if len(buffer) < 4:
        return None
    size = int.from_bytes(buffer[:4], "big")
    if size > MAX_FRAME:
        raise LimitExceeded(f"the agent announces a message of {size} bytes; {MAX_FRAME} are allowed")
    if size == 0:
        raise MalformedMessage("the agent sent an empty message", clause="RFC 9987 3")
    if len(buffer) < 4 + size:
        return None
    message = bytes(buffer[4 : 4 + size])
    del buffer[: 4 + size]
    return message


def _open(message: bytes, wanted: int, request: str) -> Reader:
    reader = Reader(message)
    number = reader.byte()
    if number in (_FAILURE, _EXTENSION_FAILURE):
        raise RequestFailed(f"the agent refused to {request}", hint="is it locked? try: ssh-add -l")
    if number != wanted:
        raise ProtocolViolation(f"the agent answered {number} where {wanted} belongs", clause="RFC 9987 3")
    return reader


def parse_identities(message: bytes) -> tuple[Identity, ...]:
    """The keys in SSH_AGENT_IDENTITIES_ANSWER (RFC 9987 §3.5), in the agent's order.

    Raises RequestFailed where the agent refused, PeerError for any other answer.
    """
    reader = _open(message, _IDENTITIES_ANSWER, "list its keys")
    count = reader.uint32()
    if count > MAX_IDENTITIES:
        raise LimitExceeded(f"the agent announces {count} keys; {MAX_IDENTITIES} are allowed")
    identities = tuple(_identity(reader.string(), reader.text()) for _ in range(count))
    reader.done()
    return identities


def _identity(blob: bytes, comment: str) -> Identity:
    try:
        return Identity(blob, comment, PublicKey.from_blob(blob))
    except KeyFormatError:
        return Identity(blob, comment, None)


def parse_signature(message: bytes, algorithm: str) -> bytes:
    """The signature blob in SSH_AGENT_SIGN_RESPONSE (RFC 9987 §3.6), to be sent as it is.

    It has to be by `algorithm`: an agent that does not know the flags signs with SHA-1 instead. Raises
    RequestFailed where the agent refused, PeerError for any other answer.
    """
    reader = _open(message, _SIGN_RESPONSE, "sign")
    signature = reader.string()
    reader.done()
    inside = Reader(signature)
    name = inside.name()
    inside.string()
    inside.done()
    if name != algorithm:
        raise ProtocolViolation(f'the agent signed with "{name}" where {algorithm} was asked for')
    return signature
