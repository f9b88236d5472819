"""The whole error tree. A class says who is guilty; its attributes say what goes on the wire.

    SSHError
    ├── UsageError             this program misused the library
    ├── PeerError              the peer broke the protocol
    │   ├── MalformedMessage       bytes that cannot be parsed
    │   ├── ProtocolViolation      a message at the wrong time, or a value out of bounds
    │   ├── IntegrityError         a MAC or tag that does not verify
    │   ├── LimitExceeded          the peer made something grow past its bound
    │   └── ServiceNotAvailable    the peer asked for a service that is not to be had
    ├── NegotiationFailed      no algorithm in common
    ├── Refused                somebody said no
    │   ├── HostKeyRefused         the host key is not trusted
    │   ├── AuthenticationFailed   no method succeeded
    │   ├── ChannelOpenFailed      the peer refused a channel
    │   └── RequestFailed          the peer refused a channel or global request
    ├── CommandFailed          a command on the other side did not end with status 0
    ├── CannotConnect          no TCP connection: name, route, port
    ├── ConnectionClosed       the connection ended
    │   ├── Disconnected           by the peer's SSH_MSG_DISCONNECT
    │   ├── SpeculationFailed      what was sent ahead did not fit: nothing was run, try again in turns
    │   └── ConnectionLost         without a word
    ├── DeadlineExceeded       a deadline of ours passed
    ├── KeyFormatError         a key, or a file of keys, that cannot be read
    │   └── PassphraseError        it is encrypted: no passphrase, or the wrong one
    ├── CryptoError            a primitive refused its input
    ├── CaptureError           a capture file that cannot be read
    └── ConfigError            a configuration file or option that cannot be understood

Only data from the peer raises a `PeerError`, and no other exception type leaves the core.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

__all__ = [
    "AuthenticationFailed", "CannotConnect", "CaptureError", "ChannelOpenFailed", "CommandFailed",
    "ConfigError", "ConnectionClosed", "ConnectionLost", "CryptoError", "DeadlineExceeded", "Disconnected",
    "HostKeyRefused", "IntegrityError", "KeyFormatError", "LimitExceeded", "MalformedMessage",
    "NegotiationFailed", "PassphraseError", "PeerError", "ProtocolViolation", "Refused", "RequestFailed",
    "SSHError", "ServiceNotAvailable", "SpeculationFailed", "UsageError", "install",
]  # fmt: skip


def install(extra: str) -> str:
    """The hint for an optional package that is not installed: which extra of glasshell brings it."""
    return f"pip install 'glasshell[{extra}]'"  # quoted: to some shells brackets are a pattern


class SSHError(Exception):
    """Base of every error of this library.

    `str(error)` is one sentence that names the guilty; `hint` is the remedy, or empty. `records` is
    the connection's stream so far, filled in by the shell that owns it. `disconnect_reason` is the
    code sent in SSH_MSG_DISCONNECT (RFC 4253 §11.1), None where nothing is sent.
    """

    disconnect_reason: ClassVar[int | None] = None
    clause: str = ""

    def __init__(self, message: str, *, hint: str = "", clause: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        if clause:
            self.clause = clause
        self.records: Sequence[Any] = ()


class UsageError(SSHError):
    """This program called the library at a wrong time or with a wrong value."""


class PeerError(SSHError):
    """The peer broke the protocol; the connection is over."""

    disconnect_reason = 2  # SSH_DISCONNECT_PROTOCOL_ERROR


class MalformedMessage(PeerError):
    """Bytes of the peer that cannot be parsed: cut short, too long, or out of range."""

    clause = "RFC 4251 5"


class ProtocolViolation(PeerError):
    """A message at a time when it may not be sent, or with a value that may not be sent."""


class IntegrityError(PeerError):
    """A packet whose MAC or authentication tag does not verify."""

    disconnect_reason = 5  # SSH_DISCONNECT_MAC_ERROR
    clause = "RFC 4253 6.4"


class LimitExceeded(PeerError):
    """The peer made something grow past its bound: lengths, counts, attempts, queues."""


class ServiceNotAvailable(PeerError):
    """The peer asked for a service that is not to be had here (RFC 4253 §10, RFC 4252 §5)."""

    disconnect_reason = 7  # SSH_DISCONNECT_SERVICE_NOT_AVAILABLE
    clause = "RFC 4253 10"


class NegotiationFailed(SSHError):
    """The two sides share no algorithm of one kind (RFC 4253 §7.1).

    `what` is the kind in OpenSSH's words ("key exchange method", "cipher", ...); `ours` and
    `theirs` are the two name-lists.
    """

    disconnect_reason = 3  # SSH_DISCONNECT_KEY_EXCHANGE_FAILED
    clause = "RFC 4253 7.1"

    def __init__(
        self, message: str, *, what: str, ours: Sequence[str], theirs: Sequence[str], hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.what = what
        self.ours = tuple(ours)
        self.theirs = tuple(theirs)


class Refused(SSHError):
    """Somebody who may say no said no."""


class HostKeyRefused(Refused):
    """The server's host key is not trusted, or its signature does not verify."""

    disconnect_reason = 9  # SSH_DISCONNECT_HOST_KEY_NOT_VERIFIABLE
    clause = "RFC 4251 4.1"


class AuthenticationFailed(Refused):
    """No authentication method succeeded.

    `attempts` is the ordered list of what was tried (each says method, identity and the server's
    answer); `methods` is what the server would still take.
    """

    disconnect_reason = 14  # SSH_DISCONNECT_NO_MORE_AUTH_METHODS_AVAILABLE
    clause = "RFC 4252 5.1"

    def __init__(
        self, message: str, *, attempts: Sequence[Any] = (), methods: Sequence[str] = (), hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.attempts = tuple(attempts)
        self.methods = tuple(methods)


class ChannelOpenFailed(Refused):
    """The peer refused to open a channel; `reason` is the code of RFC 4254 §5.1."""

    clause = "RFC 4254 5.1"

    def __init__(self, message: str, *, reason: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class RequestFailed(Refused):
    """The peer answered a channel or global request with FAILURE."""

    clause = "RFC 4254 4"


class CommandFailed(SSHError):
    """A command did not end with status 0; `completed` is all that came of it."""

    def __init__(self, message: str, *, completed: Any, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.completed = completed


class CannotConnect(SSHError):
    """No TCP connection: the name does not resolve, no route, or nobody listens.

    `failures` are the addresses that were tried, in order, each with its OSError.
    """

    failures: Sequence[tuple[str, OSError]] = ()


class ConnectionClosed(SSHError):
    """The connection ended before the call was done."""


class Disconnected(ConnectionClosed):
    """The peer ended the connection with SSH_MSG_DISCONNECT (RFC 4253 §11.1)."""

    clause = "RFC 4253 11.1"

    def __init__(self, message: str, *, reason: int, description: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason
        self.description = description


class SpeculationFailed(ConnectionClosed):
    """What was sent before its time did not fit this server. Nothing was run: connect again, in turns."""


class ConnectionLost(ConnectionClosed):
    """The connection ended without SSH_MSG_DISCONNECT: EOF or a socket error."""


class DeadlineExceeded(SSHError, TimeoutError):
    """A deadline of ours passed; the message names the operation and the seconds."""


class KeyFormatError(SSHError, ValueError):
    """A key or a file of keys that cannot be read, or one that is refused as unsafe."""


class PassphraseError(KeyFormatError):
    """A private key is encrypted; `reason` is "needed" where no passphrase was given, or "wrong"."""

    def __init__(self, message: str, *, reason: Literal["needed", "wrong"], hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class CryptoError(SSHError):
    """A primitive refused its input, or a signature could not be made."""


class CaptureError(SSHError, ValueError):
    """A file that should hold a capture and cannot be read as one."""


class ConfigError(SSHError, ValueError):
    """A configuration file or option that cannot be understood; names the file and line."""

    def __init__(self, message: str, *, hint: str = "", line: str = "", more: Sequence[str] = ()) -> None:
        super().__init__(message, hint=hint)
        self.line = line
        """The line itself, as it was written."""
        self.more = tuple(more)
        """What else is wrong with the file, in whole sentences."""
