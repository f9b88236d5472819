"""RFC 4254, RFC 4335, RFC 8160 and OpenSSH's extensions: the messages of channels and requests.

What a request or a channel type carries is declared once, in `GLOBAL_REQUESTS`, `CHANNEL_TYPES` and
`CHANNEL_REQUESTS`; the bytes of a name that is not there stay bytes.
"""

import enum
from collections.abc import Mapping
from typing import Annotated, Final, TypeAlias

from ..errors import MalformedMessage, UsageError
from ..wire import Reader, uint32
from .blobs import KeyBlob, Signature
from .declare import (
    U32,
    Body,
    Bool,
    Bytes,
    Code,
    Content,
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
    hot_header,
    message,
)


class OpenFailure(enum.IntEnum):
    """RFC 4254 §5.1: why a channel was not opened, without the prefix SSH_OPEN_."""

    ADMINISTRATIVELY_PROHIBITED = 1
    CONNECT_FAILED = 2
    UNKNOWN_CHANNEL_TYPE = 3
    RESOURCE_SHORTAGE = 4


class DataType(enum.IntEnum):
    """RFC 4254 §5.2: the streams beside the ordinary one, without the prefix SSH_EXTENDED_DATA_."""

    STDERR = 1


SIGNALS: Final = (
    "ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM", "USR1", "USR2",
)  # fmt: skip
"""The signal names of RFC 4254 §6.10, without SIG."""

OpenReason: TypeAlias = Annotated[int, Code(OpenFailure)]
DataTypeCode: TypeAlias = Annotated[int, Code(DataType)]

GLOBAL_REQUESTS: Final[dict[str, type[Struct]]] = {}
"""The body of SSH_MSG_GLOBAL_REQUEST by request name."""

CHANNEL_TYPES: Final[dict[str, type[Struct]]] = {}
"""The body of SSH_MSG_CHANNEL_OPEN by channel type."""

CHANNEL_REQUESTS: Final[dict[str, type[Struct]]] = {}
"""The body of SSH_MSG_CHANNEL_REQUEST by request type."""


# Global requests


@body(GLOBAL_REQUESTS, "tcpip-forward", clause="RFC 4254 7.1")
class TcpipForward(Struct):
    """Asks the server to listen and to hand over the connections it takes."""

    address: Text = doc("address to bind; empty is all of them")
    port: U32 = doc("port to bind; 0 lets the server choose")


@body(GLOBAL_REQUESTS, "cancel-tcpip-forward", clause="RFC 4254 7.1")
class CancelTcpipForward(Struct):
    """Ends that listening."""

    address: Text = doc("address to bind, as in the request")
    port: U32 = doc("port that was bound")


@body(None, clause="RFC 4254 7.1")
class TcpipForwardReply(Struct):
    """What SSH_MSG_REQUEST_SUCCESS carries after a `tcpip-forward` of port 0."""

    port: U32 = doc("port that was bound")


@body(GLOBAL_REQUESTS, "streamlocal-forward@openssh.com", clause="OpenSSH PROTOCOL 2.4")
class StreamlocalForward(Struct):
    """Asks the server to listen on a Unix domain socket."""

    socket_path: Text


@body(GLOBAL_REQUESTS, "cancel-streamlocal-forward@openssh.com", clause="OpenSSH PROTOCOL 2.4")
class CancelStreamlocalForward(Struct):
    """Ends that listening."""

    socket_path: Text


@body(None, clause="OpenSSH PROTOCOL 2.5")
class HostKeyBlob(Struct):
    """One public host key."""

    key: KeyBlob


HostKeys: TypeAlias = Annotated[tuple[HostKeyBlob, ...], Items(HostKeyBlob, counted=False)]


@body(GLOBAL_REQUESTS, "hostkeys-00@openssh.com", clause="OpenSSH PROTOCOL 2.5")
class Hostkeys(Struct):
    """The server tells all its host keys."""

    keys: HostKeys


@body(GLOBAL_REQUESTS, "hostkeys-prove-00@openssh.com", clause="OpenSSH PROTOCOL 2.5")
class HostkeysProve(Struct):
    """The client asks for a proof that the server holds these keys."""

    keys: HostKeys


@body(None, clause="OpenSSH PROTOCOL 2.5")
class HostKeySignature(Struct):
    """One proof."""

    signature: Signature


HostKeySignatures: TypeAlias = Annotated[tuple[HostKeySignature, ...], Items(HostKeySignature, counted=False)]


@body(None, clause="OpenSSH PROTOCOL 2.5")
class HostkeysProveReply(Struct):
    """What SSH_MSG_REQUEST_SUCCESS carries after `hostkeys-prove-00@openssh.com`."""

    signatures: HostKeySignatures = doc("one for each key, in the order of the request")


@body(GLOBAL_REQUESTS, "keepalive@openssh.com", clause="OpenSSH PROTOCOL")
class Keepalive(Struct):
    """Any answer, a failure too, shows that the peer is alive."""


@body(GLOBAL_REQUESTS, "no-more-sessions@openssh.com", clause="OpenSSH PROTOCOL 2.2")
class NoMoreSessions(Struct):
    """The client promises to open no further session."""


@message(80, "SSH_MSG_GLOBAL_REQUEST", clause="RFC 4254 4")
class GlobalRequest(Message):
    """A request about the connection as a whole."""

    request_name: Name
    want_reply: Bool
    body: Body = by_name("request_name", GLOBAL_REQUESTS)


@message(81, "SSH_MSG_REQUEST_SUCCESS", clause="RFC 4254 4")
class RequestSuccess(Message):
    """The global request that is next in line was granted."""

    body: Rest = doc("depends on the request that is answered", default=b"")


@message(82, "SSH_MSG_REQUEST_FAILURE", clause="RFC 4254 4")
class RequestFailure(Message):
    """The global request that is next in line was refused, or is not known."""


# Channel types


@body(CHANNEL_TYPES, "session", clause="RFC 4254 6.1")
class SessionOpen(Struct):
    """A program is to be run."""


@body(CHANNEL_TYPES, "direct-tcpip", clause="RFC 4254 7.2")
class DirectTcpip(Struct):
    """The peer is asked to connect somewhere."""

    host: Text = doc("host to connect")
    port: U32 = doc("port to connect")
    originator_address: Text
    originator_port: U32


@body(CHANNEL_TYPES, "forwarded-tcpip", clause="RFC 4254 7.2")
class ForwardedTcpip(Struct):
    """Somebody connected where the server listens for us."""

    address: Text = doc("address that was connected, as in the tcpip-forward request")
    port: U32 = doc("port that was connected")
    originator_address: Text
    originator_port: U32


@body(CHANNEL_TYPES, "x11", clause="RFC 4254 6.3.2")
class X11Open(Struct):
    """A program wants to draw on the client's display."""

    originator_address: Text
    originator_port: U32


@body(CHANNEL_TYPES, "direct-streamlocal@openssh.com", clause="OpenSSH PROTOCOL 2.4")
class DirectStreamlocal(Struct):
    """The server is asked to connect to a Unix domain socket."""

    socket_path: Text
    reserved: Text = doc("ignored", default="")
    reserved_number: U32 = doc("ignored", default=0)


@body(CHANNEL_TYPES, "forwarded-streamlocal@openssh.com", clause="OpenSSH PROTOCOL 2.4")
class ForwardedStreamlocal(Struct):
    """Somebody connected to the socket where the server listens for us."""

    socket_path: Text
    reserved: Text = doc("ignored", default="")


@body(CHANNEL_TYPES, "auth-agent@openssh.com", clause="draft-ietf-sshm-ssh-agent")
class AgentOpen(Struct):
    """A program wants to talk to the client's agent."""


CHANNEL_TYPES["agent-connect"] = AgentOpen


# Channels


@message(90, "SSH_MSG_CHANNEL_OPEN", clause="RFC 4254 5.1")
class ChannelOpen(Message):
    """Asks for a channel."""

    channel_type: Name
    sender_channel: U32 = doc("the opener's number for the channel")
    initial_window_size: U32 = doc("bytes the opener takes before it adjusts the window")
    maximum_packet_size: U32 = doc("bytes of data the opener takes in one packet")
    body: Body = by_name("channel_type", CHANNEL_TYPES)


@message(91, "SSH_MSG_CHANNEL_OPEN_CONFIRMATION", clause="RFC 4254 5.1")
class ChannelOpenConfirmation(Message):
    """The channel is open."""

    recipient_channel: U32
    sender_channel: U32 = doc("the answerer's number for the channel")
    initial_window_size: U32 = doc("bytes the answerer takes before it adjusts the window")
    maximum_packet_size: U32 = doc("bytes of data the answerer takes in one packet")
    body: Rest = doc("depends on the channel type; no type of ours has any", default=b"")


@message(92, "SSH_MSG_CHANNEL_OPEN_FAILURE", clause="RFC 4254 5.1")
class ChannelOpenFailure(Message):
    """The channel is not opened."""

    recipient_channel: U32
    reason_code: OpenReason
    description: Text
    language: Text = doc("language tag (RFC 3066)", default="")


@message(93, "SSH_MSG_CHANNEL_WINDOW_ADJUST", clause="RFC 4254 5.2")
class ChannelWindowAdjust(Message):
    """The sender of this takes so many bytes more."""

    recipient_channel: U32
    bytes_to_add: U32


@message(94, "SSH_MSG_CHANNEL_DATA", clause="RFC 4254 5.2")
class ChannelData(Message):
    """Bytes of the channel."""

    recipient_channel: U32
    data: Content


@message(95, "SSH_MSG_CHANNEL_EXTENDED_DATA", clause="RFC 4254 5.2")
class ChannelExtendedData(Message):
    """Bytes of another stream of the channel."""

    recipient_channel: U32
    data_type_code: DataTypeCode
    data: Content


@message(96, "SSH_MSG_CHANNEL_EOF", clause="RFC 4254 5.3")
class ChannelEof(Message):
    """The sender sends no more data on the channel."""

    recipient_channel: U32


@message(97, "SSH_MSG_CHANNEL_CLOSE", clause="RFC 4254 5.3")
class ChannelClose(Message):
    """The sender is done with the channel; the receiver answers with the same."""

    recipient_channel: U32


# Channel requests


@body(CHANNEL_REQUESTS, "pty-req", clause="RFC 4254 6.2")
class PtyReq(Struct):
    """Asks for a pseudo-terminal."""

    term: Text = doc("TERM, e.g. vt100")
    columns: U32 = doc("width in characters")
    rows: U32 = doc("height in characters")
    width: U32 = doc("width in pixels")
    height: U32 = doc("height in pixels")
    modes: Bytes = doc("encoded terminal modes; see `decode_modes`")


@body(CHANNEL_REQUESTS, "x11-req", clause="RFC 4254 6.3.1")
class X11Req(Struct):
    """Asks for X11 forwarding."""

    single_connection: Bool
    protocol: Text = doc("X11 authentication protocol")
    cookie: SecretBytes = doc("X11 authentication cookie, in hexadecimal")
    screen: U32 = doc("X11 screen number")


@body(CHANNEL_REQUESTS, "env", clause="RFC 4254 6.4")
class Env(Struct):
    """Sets one variable of the program's environment."""

    name: Text
    value: Text


@body(CHANNEL_REQUESTS, "shell", clause="RFC 4254 6.5")
class Shell(Struct):
    """Starts the user's shell."""


@body(CHANNEL_REQUESTS, "exec", clause="RFC 4254 6.5")
class Exec(Struct):
    """Starts a command."""

    command: Text


@body(CHANNEL_REQUESTS, "subsystem", clause="RFC 4254 6.5")
class Subsystem(Struct):
    """Starts a subsystem, e.g. sftp."""

    name: Text


@body(CHANNEL_REQUESTS, "window-change", clause="RFC 4254 6.7")
class WindowChange(Struct):
    """The client's terminal has a new size."""

    columns: U32 = doc("width in characters")
    rows: U32 = doc("height in characters")
    width: U32 = doc("width in pixels")
    height: U32 = doc("height in pixels")


@body(CHANNEL_REQUESTS, "xon-xoff", clause="RFC 4254 6.8")
class XonXoff(Struct):
    """Whether the client may do flow control by itself."""

    client_can_do: Bool


@body(CHANNEL_REQUESTS, "signal", clause="RFC 4254 6.9")
class Signal(Struct):
    """Delivers a signal to the program."""

    signal_name: Name = doc("without SIG")


@body(CHANNEL_REQUESTS, "break", clause="RFC 4335 3")
class Break(Struct):
    """Asks for a BREAK on the line."""

    length: U32 = doc("milliseconds")


@body(CHANNEL_REQUESTS, "exit-status", clause="RFC 4254 6.10")
class ExitStatus(Struct):
    """The program ended by itself."""

    status: U32


@body(CHANNEL_REQUESTS, "exit-signal", clause="RFC 4254 6.10")
class ExitSignal(Struct):
    """The program was ended by a signal."""

    signal_name: Name = doc("without SIG")
    core_dumped: Bool
    message: Text = doc("error message", default="")
    language: Text = doc("language tag (RFC 3066)", default="")


@body(CHANNEL_REQUESTS, "auth-agent-req@openssh.com", clause="draft-ietf-sshm-ssh-agent")
class AgentReq(Struct):
    """Asks for the agent to be forwarded."""


@body(CHANNEL_REQUESTS, "eow@openssh.com", clause="OpenSSH PROTOCOL 2.1")
class Eow(Struct):
    """The sender takes no more data on the channel: end of write."""


CHANNEL_REQUESTS["agent-req"] = AgentReq
CHANNEL_REQUESTS["keepalive@openssh.com"] = Keepalive


@message(98, "SSH_MSG_CHANNEL_REQUEST", clause="RFC 4254 5.4")
class ChannelRequest(Message):
    """A request about one channel."""

    recipient_channel: U32
    request_type: Name
    want_reply: Bool
    body: Body = by_name("request_type", CHANNEL_REQUESTS)


@message(99, "SSH_MSG_CHANNEL_SUCCESS", clause="RFC 4254 5.4")
class ChannelSuccess(Message):
    """The channel's request that is next in line was granted."""

    recipient_channel: U32


@message(100, "SSH_MSG_CHANNEL_FAILURE", clause="RFC 4254 5.4")
class ChannelFailure(Message):
    """The channel's request that is next in line was refused, or is not known."""

    recipient_channel: U32


CHANNEL_DATA_HEADER: Final = hot_header(ChannelData)
"""Message number, recipient channel, length of the data."""

EXTENDED_DATA_HEADER: Final = hot_header(ChannelExtendedData)
"""Message number, recipient channel, data type code, length of the data."""

WINDOW_ADJUST_HEADER: Final = hot_header(ChannelWindowAdjust)
"""Message number, recipient channel, bytes to add."""


# Terminal modes


class Mode(enum.IntEnum):
    """RFC 4254 §8 and RFC 8160 §2.2: the opcodes of the encoded terminal modes."""

    TTY_OP_END = 0
    VINTR = 1
    VQUIT = 2
    VERASE = 3
    VKILL = 4
    VEOF = 5
    VEOL = 6
    VEOL2 = 7
    VSTART = 8
    VSTOP = 9
    VSUSP = 10
    VDSUSP = 11
    VREPRINT = 12
    VWERASE = 13
    VLNEXT = 14
    VFLUSH = 15
    VSWTCH = 16
    VSTATUS = 17
    VDISCARD = 18
    IGNPAR = 30
    PARMRK = 31
    INPCK = 32
    ISTRIP = 33
    INLCR = 34
    IGNCR = 35
    ICRNL = 36
    IUCLC = 37
    IXON = 38
    IXANY = 39
    IXOFF = 40
    IMAXBEL = 41
    IUTF8 = 42
    ISIG = 50
    ICANON = 51
    XCASE = 52
    ECHO = 53
    ECHOE = 54
    ECHOK = 55
    ECHONL = 56
    NOFLSH = 57
    TOSTOP = 58
    IEXTEN = 59
    ECHOCTL = 60
    ECHOKE = 61
    PENDIN = 62
    OPOST = 70
    OLCUC = 71
    ONLCR = 72
    OCRNL = 73
    ONOCR = 74
    ONLRET = 75
    CS7 = 90
    CS8 = 91
    PARENB = 92
    PARODD = 93
    TTY_OP_ISPEED = 128
    TTY_OP_OSPEED = 129


LAST_MODE: Final = 159
"""Opcodes 1 to 159 have a uint32 argument; the rest end the list (RFC 4254 §8)."""


def encode_modes(modes: Mapping[int, int]) -> bytes:
    """Terminal modes as `pty-req` carries them. Raises UsageError for what cannot be written."""
    out = bytearray()
    for opcode, value in modes.items():
        if not 1 <= opcode <= LAST_MODE or not 0 <= value < 1 << 32:
            raise UsageError(f"terminal mode {opcode}={value} cannot be encoded", clause="RFC 4254 8")
        out.append(opcode)
        out += uint32(value)
    out.append(Mode.TTY_OP_END)
    return bytes(out)


def decode_modes(data: bytes) -> dict[int, int]:
    """Terminal modes by opcode; opcodes without a name are kept.

    Reading stops at TTY_OP_END, at an opcode of 160 or more, and at the end of the bytes. Raises
    MalformedMessage where an argument is cut short or the list has more entries than there are opcodes.
    """
    reader = Reader(data)
    modes: dict[int, int] = {}
    for _ in range(LAST_MODE + 1):
        opcode = reader.byte() if reader.left() else Mode.TTY_OP_END
        if not 1 <= opcode <= LAST_MODE:
            return modes
        modes[opcode] = reader.uint32()
    raise MalformedMessage("more terminal modes than there are opcodes", clause="RFC 4254 8")
