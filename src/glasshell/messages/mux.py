"""What passes between ssh programs that share a connection, over the socket of ControlPath.

OpenSSH PROTOCOL.mux, version 4. Each message is a uint32, its length, a uint32, its type, and a body; what
that document calls a bool travels as a uint32. File descriptors follow a request that needs them, each beside
one byte that means nothing.
"""

from typing import Annotated, Final, TypeAlias

from ..errors import ProtocolViolation
from .declare import U32, Bytes, Items, Struct, Text, body, doc

VERSION: Final = 4
PROTOCOL_MUX: Final = "OpenSSH PROTOCOL.mux"

NO_ESCAPE: Final = 0xFFFFFFFF
"""No escape character."""

PATH: Final = 0xFFFFFFFE
"""In the place of a port: the host beside it is the path of a Unix domain socket."""

LOCAL, REMOTE, DYNAMIC = 1, 2, 3
"""Kinds of forwardings."""

MUX: Final[dict[str, type[Struct]]] = {}
"""Bodies by the name of their message."""

NUMBERS: Final[dict[str, int]] = {
    "MUX_MSG_HELLO": 0x00000001,
    "MUX_C_NEW_SESSION": 0x10000002,
    "MUX_C_ALIVE_CHECK": 0x10000004,
    "MUX_C_TERMINATE": 0x10000005,
    "MUX_C_OPEN_FWD": 0x10000006,
    "MUX_C_CLOSE_FWD": 0x10000007,
    "MUX_C_NEW_STDIO_FWD": 0x10000008,
    "MUX_C_STOP_LISTENING": 0x10000009,
    "MUX_C_PROXY": 0x1000000F,
    "MUX_S_OK": 0x80000001,
    "MUX_S_PERMISSION_DENIED": 0x80000002,
    "MUX_S_FAILURE": 0x80000003,
    "MUX_S_EXIT_MESSAGE": 0x80000004,
    "MUX_S_ALIVE": 0x80000005,
    "MUX_S_SESSION_OPENED": 0x80000006,
    "MUX_S_REMOTE_PORT": 0x80000007,
    "MUX_S_TTY_ALLOC_FAIL": 0x80000008,
}
"""Types of messages by their names."""


@body(None, clause=PROTOCOL_MUX)
class MuxExtension(Struct):
    """Something beyond the protocol; none is defined."""

    name: Text
    value: Bytes


@body(None, clause=PROTOCOL_MUX)
class MuxVariable(Struct):
    """One variable of the environment."""

    text: Text = doc("NAME=value")


MuxExtensions: TypeAlias = Annotated[tuple[MuxExtension, ...], Items(MuxExtension, counted=False)]
MuxVariables: TypeAlias = Annotated[tuple[MuxVariable, ...], Items(MuxVariable, counted=False)]


@body(MUX, "MUX_MSG_HELLO", clause=PROTOCOL_MUX)
class MuxHello(Struct):
    """The first message of each side."""

    version: U32
    extensions: MuxExtensions = ()


# --- requests


@body(MUX, "MUX_C_NEW_SESSION", clause=PROTOCOL_MUX)
class MuxNewSession(Struct):
    """Asks for a session; standard input, output and error follow."""

    request: U32
    reserved: Text
    tty: U32
    x11: U32
    agent: U32
    subsystem: U32
    escape: U32
    term: Text
    command: Text
    environment: MuxVariables = ()


@body(MUX, "MUX_C_ALIVE_CHECK", clause=PROTOCOL_MUX)
class MuxAliveCheck(Struct):
    """Asks whether the master is there."""

    request: U32


@body(MUX, "MUX_C_TERMINATE", clause=PROTOCOL_MUX)
class MuxTerminate(Struct):
    """Asks the master to end, and the connection with it."""

    request: U32


@body(MUX, "MUX_C_OPEN_FWD", clause=PROTOCOL_MUX)
class MuxOpenForward(Struct):
    """Asks for a forwarding."""

    request: U32
    kind: U32
    listen_host: Text
    listen_port: U32
    connect_host: Text
    connect_port: U32


@body(MUX, "MUX_C_CLOSE_FWD", clause=PROTOCOL_MUX)
class MuxCloseForward(Struct):
    """Asks for the end of a forwarding."""

    request: U32
    kind: U32
    listen_host: Text
    listen_port: U32
    connect_host: Text
    connect_port: U32


@body(MUX, "MUX_C_NEW_STDIO_FWD", clause=PROTOCOL_MUX)
class MuxStdioForward(Struct):
    """Asks for a connection from the server (-W); standard input and output follow."""

    request: U32
    reserved: Text
    host: Text
    port: U32


@body(MUX, "MUX_C_STOP_LISTENING", clause=PROTOCOL_MUX)
class MuxStopListening(Struct):
    """Asks the master to take no more requests."""

    request: U32


@body(MUX, "MUX_C_PROXY", clause=PROTOCOL_MUX)
class MuxProxy(Struct):
    """Asks for the proxy mode."""

    request: U32


# --- answers


@body(MUX, "MUX_S_OK", clause=PROTOCOL_MUX)
class MuxOk(Struct):
    """It was done."""

    request: U32


@body(MUX, "MUX_S_PERMISSION_DENIED", clause=PROTOCOL_MUX)
class MuxPermissionDenied(Struct):
    """The master's user said no."""

    request: U32
    reason: Text


@body(MUX, "MUX_S_FAILURE", clause=PROTOCOL_MUX)
class MuxFailure(Struct):
    """It could not be done."""

    request: U32
    reason: Text


@body(MUX, "MUX_S_EXIT_MESSAGE", clause=PROTOCOL_MUX)
class MuxExitMessage(Struct):
    """How the program on the server ended."""

    session: U32
    status: U32


@body(MUX, "MUX_S_ALIVE", clause=PROTOCOL_MUX)
class MuxAlive(Struct):
    """The master is there."""

    request: U32
    pid: U32


@body(MUX, "MUX_S_SESSION_OPENED", clause=PROTOCOL_MUX)
class MuxSessionOpened(Struct):
    """The session runs."""

    request: U32
    session: U32


@body(MUX, "MUX_S_REMOTE_PORT", clause=PROTOCOL_MUX)
class MuxRemotePort(Struct):
    """The server listens; at which port, it has chosen."""

    request: U32
    port: U32


@body(MUX, "MUX_S_TTY_ALLOC_FAIL", clause=PROTOCOL_MUX)
class MuxTtyAllocFail(Struct):
    """The server gave the session no terminal."""

    session: U32


_BODIES: Final = {NUMBERS[name]: body for name, body in MUX.items()}
_TYPES: Final = {body: number for number, body in _BODIES.items()}


def encode(message: Struct) -> bytes:
    """A message with its length and type. Raises KeyError for a structure that is none of these."""
    data = _TYPES[type(message)].to_bytes(4, "big") + message.encode()
    return len(data).to_bytes(4, "big") + data


def decode(data: bytes) -> Struct:
    """The message in `data`, which begins with its type. Raises MalformedMessage, ProtocolViolation."""
    number = int.from_bytes(data[:4], "big")
    body = _BODIES.get(number)
    if body is None:
        raise ProtocolViolation(f"a message of the unknown type 0x{number:08x}", clause=PROTOCOL_MUX)
    return body.decode(data[4:])
