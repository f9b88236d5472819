"""What holds for every message of the catalogue, whatever its fields."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glasshell.errors import MalformedMessage
from glasshell.messages import (
    CATALOGUE,
    SUBSYSTEMS,
    Message,
    Shown,
    Struct,
    UnknownMessage,
    auth,
    connection,
    decode,
    describe,
)
from glasshell.sftp import messages as sftp
from glasshell.testing.strategies import message_strategy

CLASSES = sorted(
    [*CATALOGUE.values(), *SUBSYSTEMS["sftp"].values()],
    key=lambda cls: (cls.CONTEXT == "sftp", cls.NUMBER, cls.CONTEXT),
)
CONTEXTS = sorted({cls.CONTEXT for cls in CLASSES})
BODIES: dict[str, type[Struct]] = {
    **auth.AUTH_METHODS, **connection.GLOBAL_REQUESTS,
    **connection.CHANNEL_TYPES, **connection.CHANNEL_REQUESTS, **sftp.EXTENDED_REQUESTS,
    **{f"reply to {name}": cls for name, cls in sftp.EXTENDED_REPLIES.items()},
    "reply to tcpip-forward": connection.TcpipForwardReply,
    "reply to hostkeys-prove": connection.HostkeysProveReply,
}  # fmt: skip

OPEN_ENDED: dict[type[Struct], str] = {
    connection.RequestSuccess: "its data depend on the request that is answered (RFC 4254 4)",
    connection.ChannelOpenConfirmation: "its data depend on the channel type (RFC 4254 5.1)",
    connection.Hostkeys: "string[] until the end of the message (OpenSSH PROTOCOL 2.5)",
    connection.HostkeysProve: "string[] until the end of the message (OpenSSH PROTOCOL 2.5)",
    connection.HostkeysProveReply: "string[] until the end of the message (OpenSSH PROTOCOL 2.5)",
    sftp.Init: "extensions until the end of the packet (draft-ietf-secsh-filexfer-02 4)",
    sftp.Version: "extensions until the end of the packet (draft-ietf-secsh-filexfer-02 4)",
    sftp.ExtendedReply: "its data depend on the request that is answered (draft-ietf-secsh-filexfer-02 8)",
}
"""What may legally be shorter or longer: where it is cut or padded it may still be read."""

few = settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])


def by_class(cls: type[Message]) -> str:
    return cls.__name__


@pytest.mark.parametrize("cls", CLASSES, ids=by_class)
@few
@given(data=st.data())
def test_a_message_survives_the_wire(cls: type[Message], data: st.DataObject) -> None:
    message = data.draw(message_strategy(cls))
    payload = message.encode()
    assert payload[0] == cls.NUMBER
    again = decode(payload, cls.CONTEXT)
    assert isinstance(again, Message)
    assert again == message
    assert again.encode() == payload


@pytest.mark.parametrize("name", BODIES)
@few
@given(data=st.data())
def test_a_body_survives_the_wire_and_nothing_else_is_one(name: str, data: st.DataObject) -> None:
    cls = BODIES[name]
    body = data.draw(message_strategy(cls))
    raw = body.encode()
    assert cls.decode(raw) == body
    if cls not in OPEN_ENDED:
        must_be_malformed(cls, raw, shortest=0)


@pytest.mark.parametrize("cls", [c for c in CLASSES if c not in OPEN_ENDED], ids=by_class)
@few
@given(data=st.data())
def test_cut_or_padded_is_malformed(cls: type[Message], data: st.DataObject) -> None:
    message = data.draw(message_strategy(cls, unknown_bodies=False))
    if type(getattr(message, "body", None)) not in OPEN_ENDED:
        must_be_malformed(cls, message.encode(), shortest=1)


def must_be_malformed(cls: type[Struct], raw: bytes, shortest: int) -> None:
    lengths = (
        range(shortest, len(raw)) if len(raw) < 300 else (shortest, 2, 5, 9, len(raw) // 2, len(raw) - 1)
    )
    for wrong in [*(raw[:end] for end in lengths), raw + b"\0"]:
        with pytest.raises(MalformedMessage):
            cls.decode(wrong)


@given(payload=st.binary(max_size=128), context=st.sampled_from(CONTEXTS))
@settings(max_examples=500)
def test_whatever_comes_is_read_or_malformed(payload: bytes, context: str) -> None:
    try:
        message = decode(payload, context)
    except MalformedMessage:
        return
    assert isinstance(message, UnknownMessage) or payload[0] == message.NUMBER


@pytest.mark.parametrize("cls", CLASSES, ids=by_class)
@few
@given(data=st.data())
def test_the_description_covers_each_byte_once(cls: type[Message], data: st.DataObject) -> None:
    payload = data.draw(message_strategy(cls)).encode()
    cut = data.draw(st.integers(0, len(payload)))
    for described in (payload, payload[:cut], payload + b"\xff"):
        shown = describe(described, cls.CONTEXT)
        assert covered(shown, 0) == len(described)
    assert shown[-1].name == "unparsed" or shown[-1].type in (
        "byte[]",
        "Extension[]",
        "Hostkeys",
        "HostkeysProve",
    )


def covered(fields: Iterable[Shown], start: int) -> int:
    for field in fields:
        assert field.start == start
        if field.children and field.type == "string":  # its length stands before what it holds
            assert covered(field.children, field.start + 4) == field.end
        elif field.children and not field.type.endswith("[]"):
            assert covered(field.children, start) == field.end
        elif field.children:  # a count may stand before the first
            assert covered(field.children, field.children[0].start) == field.end
            assert field.children[0].start - start in (0, 4)
        start = field.end
    return start
