"""A payload for people and for JSON: `to_dict` says everything, `facts` what matters, in one line.

Both take what a peer sent and raise nothing: what cannot be read is shown as such.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from ..errors import MalformedMessage
from ..messages import (
    GENERIC,
    SUBSYSTEMS,
    Shown,
    Struct,
    UnknownMessage,
    auth,
    code_name,
    connection,
    decode,
    describe,
    kex,
    lookup,
    message_name,
    transport,
)
from ..messages.declare import Field, Items, hidden
from ..wire import Mpint, Reader, mpint_body, visible

MAX_FACTS: Final = 160
"""Longest line of `facts`, in characters."""


def to_dict(payload: bytes, context: str = GENERIC) -> dict[str, Any]:
    """The whole message, ready for JSON: `name`, `number`, `clause` and `fields` by name.

    Byte strings and mpints are hexadecimal, a channel's data is `{"length": n}`, a secret is
    `<redacted>`, the body that a name selects is an object, repeated structures are a list of objects.
    Where the payload cannot be read to its end, `malformed` says why and the field `unparsed` holds
    the rest.
    """
    number = payload[0] if payload else 0
    found = lookup(context, number) if payload else None
    shown = describe(payload, context)
    result: dict[str, Any] = {
        "name": message_name(number, context),
        "number": number,
        "clause": found.CLAUSE if found else "",
        "fields": {each.name: _json(each) for each in (shown[1:] if found else shown)},
    }
    if not payload or (found is not None and not _ends(found, shown)):
        why = _why(payload, context)
        if why:
            result["malformed"] = why
    return result


def _ends(found: type[Struct], shown: Sequence[Shown]) -> bool:
    """Whether what is shown ends with the message's last field; one cut off between two fields does not."""
    return shown[-1].name == (found.FIELDS[-1].name if found.FIELDS else "message")


def _why(payload: bytes, context: str) -> str:
    try:
        decode(payload, context)
    except MalformedMessage as error:
        return str(error)
    return ""


def _json(shown: Shown) -> Any:
    value = shown.value
    if shown.secret:
        return "<redacted>"
    if shown.content:
        return {"length": len(value)}
    if isinstance(value, Struct):
        return {child.name: _json(child) for child in shown.children}
    if isinstance(value, tuple):
        return [_json(child) for child in shown.children] or list(value)
    if shown.type == Mpint.name:
        return mpint_body(value).hex()
    return _json_text(value) if isinstance(value, str) else value.hex() if isinstance(value, bytes) else value


def _json_text(value: str) -> str:
    """Text as it is; bytes that are not UTF-8 are escaped, for JSON has no form for them."""
    return "".join(visible(char) if "\ud800" <= char <= "\udfff" else char for char in value)


def facts(payload: bytes, context: str = GENERIC) -> str:
    """What matters about one message: a short printable line without its name, e.g. `ch=0 123 bytes`."""
    try:
        hot = HOT.get(payload[0]) if payload and context not in SUBSYSTEMS else None
        line = hot(payload) if hot else _facts(decode(payload, context))
    except MalformedMessage as error:
        line = f"malformed: {error}"
    line = visible(line)
    return line if len(line) <= MAX_FACTS else f"{line[: MAX_FACTS - 3]}..."


def _data(payload: bytes) -> str:
    """CHANNEL_DATA without making a message of it."""
    size = connection.CHANNEL_DATA_HEADER.size
    if len(payload) >= size:
        _, channel, length = connection.CHANNEL_DATA_HEADER.unpack_from(payload)
        if len(payload) == size + length:
            return f"ch={channel} {length} bytes"
    return _facts(decode(payload))


HOT: Final[dict[int, Callable[[bytes], str]]] = {connection.ChannelData.NUMBER: _data}
"""Numbers whose line is made without decoding: they come thousands a second."""

LABELS: Final = {
    "recipient_channel": "ch", "initial_window_size": "window", "maximum_packet_size": "max",
    "flags": "flags",
}  # fmt: skip
"""Short names for fields that are shown in many lines."""


def _facts(message: Struct | UnknownMessage) -> str:
    if isinstance(message, UnknownMessage):
        return f"{len(message.payload)} bytes"
    special = SPECIAL.get(type(message))
    return special(message) if special else _plain(message)


def _plain(message: Struct) -> str:
    """The line of a message that has none of its own: its fields; a single one needs no name."""
    shown = [(f, getattr(message, f.name)) for f in message.FIELDS]
    told = [(f, value) for f, value in shown if value is not None and f.name != "language"]
    bare = len(told) == 1 and told[0][0].name not in LABELS
    return _join(
        _value(f, v) if bare or f.choice or isinstance(v, Struct) else f"{_label(f)}={_value(f, v)}"
        for f, v in told
    )


def _label(field: Field) -> str:
    return LABELS.get(field.name, field.name)


def _value(field: Field, value: Any) -> str:
    if hidden(field, value):
        return "<redacted>"
    if isinstance(value, Struct):
        return _facts(value)
    if isinstance(field.type, Items):
        return _join(_facts(item) for item in value)
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return f"{value.bit_length()} bits" if isinstance(field.type, Mpint) else field.type.show(value)


def _join(words: Any) -> str:
    return " ".join(word for word in words if word)


def _named(word: str, told: bool) -> str:
    return word if told else ""


def _body(message: Struct) -> str:
    """The line of the structure that a name selected."""
    field = next(f for f in message.FIELDS if f.choice)
    return _value(field, getattr(message, field.name))


def _blob_name(blob: bytes) -> str:
    """The algorithm name a key or signature blob begins with (RFC 4253 §6.6), or its length."""
    try:
        return Reader(blob).name() or f"{len(blob)} bytes"
    except MalformedMessage:
        return f"{len(blob)} bytes"


def _both(c2s: Sequence[str], s2c: Sequence[str]) -> str:
    """The first name of each direction; one word where they agree."""
    first, second = (names[0] if names else "-" for names in (c2s, s2c))
    return first if first == second else f"{first}|{second}"


def _kexinit(m: transport.KexInit) -> str:
    return _join((
        f"kex={_both(m.kex_algorithms, m.kex_algorithms)}",
        f"hostkey={_both(m.server_host_key_algorithms, m.server_host_key_algorithms)}",
        f"cipher={_both(m.encryption_algorithms_client_to_server, m.encryption_algorithms_server_to_client)}",
        f"mac={_both(m.mac_algorithms_client_to_server, m.mac_algorithms_server_to_client)}",
        "compression="
        + _both(m.compression_algorithms_client_to_server, m.compression_algorithms_server_to_client),
        _named("guess_follows", m.first_kex_packet_follows),
    ))  # fmt: skip


def _kex_reply(m: kex.KexEcdhReply | kex.KexHybridReply | kex.KexDhReply | kex.KexDhGexReply) -> str:
    public = f"f={m.f.bit_length()} bits" if hasattr(m, "f") else f"q_s={len(m.q_s)} bytes"
    return f"host_key={_blob_name(m.host_key)} {public} signature={_blob_name(m.signature)}"


def _publickey(m: auth.PublickeyRequest | auth.HostboundRequest) -> str:
    return f"{m.algorithm} {'signed' if m.has_signature else 'probe'}"


def _auth_request(m: auth.UserauthRequest) -> str:
    method = "publickey-hostbound" if m.method_name == auth.HOSTBOUND else m.method_name
    told = isinstance(m.body, auth.PublickeyRequest | auth.HostboundRequest | auth.HostbasedRequest)
    changed = isinstance(m.body, auth.PasswordRequest) and m.body.change
    return _join((m.user_name, method, _body(m) if told else _named("change", changed)))


def _count(items: Sequence[object], word: str) -> str:
    return f"{len(items)} {word}{'' if len(items) == 1 else 's'}"


def _request(name: str, m: connection.GlobalRequest | connection.ChannelRequest) -> str:
    return _join((name, _body(m), _named("want_reply", m.want_reply)))


def _window(m: connection.ChannelOpen | connection.ChannelOpenConfirmation) -> str:
    return f"window={m.initial_window_size} max={m.maximum_packet_size}"


def _from(m: connection.DirectTcpip | connection.ForwardedTcpip | connection.X11Open) -> str:
    return f"from {m.originator_address}:{m.originator_port}"


def _size(m: connection.PtyReq | connection.WindowChange) -> str:
    return f"{m.columns}x{m.rows}"


SPECIAL: Final[dict[type[Struct], Callable[[Any], str]]] = {
    transport.Disconnect: lambda m: (
        f"{code_name(transport.DisconnectReason, m.reason_code)}: {m.description}"
    ),
    transport.Unimplemented: lambda m: f"seq={m.sequence_number}",
    transport.Debug: lambda m: m.message,
    transport.Extension: lambda m: f"{m.name}={visible(m.value)}",
    transport.KexInit: _kexinit,
    kex.KexDhReply: _kex_reply,
    kex.KexDhGexReply: _kex_reply,
    kex.KexEcdhReply: _kex_reply,
    kex.KexHybridReply: _kex_reply,
    auth.UserauthRequest: _auth_request,
    auth.PublickeyRequest: _publickey,
    auth.HostboundRequest: _publickey,
    auth.HostbasedRequest: lambda m: f"{m.algorithm} {m.client_user_name}@{m.client_host_name}",
    auth.UserauthFailure: lambda m: _join((",".join(m.methods), _named("partial", m.partial_success))),
    auth.UserauthPkOk: lambda m: m.algorithm,
    auth.UserauthInfoRequest: lambda m: _join((m.name, _count(m.prompts, "prompt"))),
    auth.UserauthInfoResponse: lambda m: _count(m.responses, "response"),
    connection.GlobalRequest: lambda m: _request(m.request_name, m),
    connection.RequestSuccess: lambda m: f"{len(m.body)} bytes" if m.body else "",
    connection.TcpipForward: lambda m: f"{m.address}:{m.port}",
    connection.CancelTcpipForward: lambda m: f"{m.address}:{m.port}",
    connection.HostKeyBlob: lambda m: _blob_name(m.key),
    connection.ChannelOpen: lambda m: _join((m.channel_type, f"ch={m.sender_channel}", _window(m), _body(m))),
    connection.DirectTcpip: lambda m: f"{m.host}:{m.port} {_from(m)}",
    connection.ForwardedTcpip: lambda m: f"{m.address}:{m.port} {_from(m)}",
    connection.X11Open: _from,
    connection.DirectStreamlocal: lambda m: m.socket_path,
    connection.ForwardedStreamlocal: lambda m: m.socket_path,
    connection.ChannelOpenConfirmation: lambda m: (
        f"ch={m.recipient_channel} sender={m.sender_channel} {_window(m)}"
    ),
    connection.ChannelOpenFailure: lambda m: (
        f"ch={m.recipient_channel} {code_name(connection.OpenFailure, m.reason_code)}: {m.description}"
    ),
    connection.ChannelWindowAdjust: lambda m: f"ch={m.recipient_channel} +{m.bytes_to_add}",
    connection.ChannelExtendedData: lambda m: (
        f"ch={m.recipient_channel} {code_name(connection.DataType, m.data_type_code).lower()}"
        f" {len(m.data)} bytes"
    ),
    connection.ChannelRequest: lambda m: f"ch={m.recipient_channel} {_request(m.request_type, m)}",
    connection.PtyReq: lambda m: f"{m.term} {_size(m)}",
    connection.WindowChange: _size,
    connection.Env: lambda m: f"{m.name}={m.value}",
    connection.X11Req: lambda m: f"{m.protocol} screen={m.screen}",
    connection.Break: lambda m: f"{m.length} ms",
    connection.ExitSignal: lambda m: _join((m.signal_name, _named("core_dumped", m.core_dumped), m.message)),
}
"""Messages and bodies whose line is not simply their fields."""
