"""No secret reaches a sink: of the right message, of a broken one, of one nobody knows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from glasshell.messages import CATALOGUE, Message, auth, connection, decode, describe
from glasshell.observe.dissect import facts, to_dict
from glasshell.observe.redact import redact
from glasshell.testing.strategies import message_strategy
from glasshell.wire import Secret

SECRETS = st.lists(st.integers(0x80, 0xFF), min_size=8, max_size=40).map(bytes)
"""No byte of it occurs in a name, a number or a length of the messages below."""


def password(secret: bytes, new: bytes | None = None) -> Message:
    body = auth.PasswordRequest(new is not None, Secret(secret), Secret(new) if new is not None else None)
    return auth.UserauthRequest("bob", "ssh-connection", "password", body)


def carriers(secret: bytes) -> list[tuple[str, Message]]:
    responses = (auth.Response(Secret(b"x")), auth.Response(Secret(secret)))
    unknown: Any = secret
    return [
        ("", password(secret)),
        ("password", password(secret, b"the new one")),
        ("", password(b"the old one", secret)),
        ("keyboard-interactive", auth.UserauthInfoResponse(responses)),
        ("", auth.UserauthRequest("bob", "s", "otp@example.com", unknown)),
        (
            "",
            connection.ChannelRequest(0, "x11-req", True, connection.X11Req(True, "MIT", Secret(secret), 0)),
        ),
        ("gssapi-with-mic", auth.UserauthGssapiToken(Secret(secret))),
    ]


@given(secret=SECRETS, data=st.data())
@settings(max_examples=150)
def test_secret_bytes_never_come_out(secret: bytes, data: st.DataObject) -> None:
    context, message = data.draw(st.sampled_from(carriers(secret)))
    payload = message.encode()
    cut = data.draw(st.integers(1, len(payload)))
    tail = data.draw(st.binary(max_size=3))
    for heard in (payload, payload[:cut], payload + tail, payload[:cut] + tail):
        wiped = redact(heard, context)
        assert len(wiped) == len(heard)
        assert wiped[:1] == heard[:1]
        assert not any(secret[at : at + 4] in wiped for at in range(len(secret) - 3))
        shown = json.dumps(to_dict(heard, context)) + facts(heard, context) + repr(describe(heard, context))
        assert secret.hex()[:8] not in shown
        assert repr(secret)[2:-1] not in shown


@given(secret=SECRETS)
def test_only_the_secret_is_wiped(secret: bytes) -> None:
    assert redact(password(secret).encode()) == password(bytes(len(secret))).encode()
    both = redact(password(secret, b"another").encode())
    assert both == password(bytes(len(secret)), bytes(7)).encode()


def test_what_cannot_be_parsed_to_its_end_keeps_its_number_only() -> None:
    payload = password(b"hunter2").encode()
    for broken in (payload + b"x", payload[:-1], b"\x32\xff\xff\xff\xffhunter2"):
        assert redact(broken) == b"\x32" + bytes(len(broken) - 1)


def test_a_password_behind_another_method_is_wiped() -> None:
    payload = auth.UserauthRequest("bob", "s", "none", auth.NoneRequest()).encode() + b"hunter2"
    assert redact(payload) == b"\x32" + bytes(len(payload) - 1)


def test_the_body_of_an_unknown_method_is_wiped_and_the_rest_stays() -> None:
    unknown: Any = b"hunter2"
    head = auth.UserauthRequest("bob", "s", "otp", b"").encode()
    payload = auth.UserauthRequest("bob", "s", "otp", unknown).encode()
    assert redact(payload) == head + bytes(7)
    assert "hunter2" not in repr(decode(payload))


@pytest.mark.parametrize("number", [54, 59, 60, 61, 70, 79])
def test_messages_of_an_unknown_method_are_wiped(number: int) -> None:
    payload = bytes([number]) + b"hunter2"
    assert redact(payload, "otp@example.com") == bytes([number]) + bytes(7)
    assert redact(payload) == bytes([number]) + bytes(7)
    assert to_dict(payload)["fields"] == {"unparsed": "<redacted>"}
    assert "hunter2" not in repr(decode(payload))


def test_61_while_passwords_are_asked_for_is_wiped() -> None:
    payload = auth.UserauthInfoResponse((auth.Response(Secret("hunter2")),)).encode()
    assert b"hunter2" not in redact(payload, "password")


def test_an_empty_payload_is_left_alone() -> None:
    assert redact(b"") == b""


HARMLESS = sorted((cls for cls in CATALOGUE.values() if not cls.SECRET), key=lambda cls: cls.__name__)


@pytest.mark.parametrize("cls", HARMLESS, ids=lambda cls: cls.__name__)
@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_what_holds_no_secret_is_the_same_object(cls: type[Message], data: st.DataObject) -> None:
    payload = data.draw(message_strategy(cls)).encode()
    assert redact(payload, cls.CONTEXT) is payload


def test_which_messages_may_hold_a_secret() -> None:
    """A new declaration does not join or leave this list unseen."""
    names = {cls.__name__ for cls in CATALOGUE.values() if cls.SECRET}
    assert names == {
        "UserauthRequest", "UserauthInfoResponse", "UserauthGssapiToken", "UserauthGssapiErrtok",
        "UserauthGssapiMic", "ChannelRequest",
    }  # fmt: skip


@given(
    payload=st.binary(max_size=80), context=st.sampled_from(["", "password", "keyboard-interactive", "ecdh"])
)
@settings(max_examples=500)
def test_any_bytes_are_redacted_to_the_same_length(payload: bytes, context: str) -> None:
    wiped = redact(payload, context)
    assert len(wiped) == len(payload)
    assert redact(wiped, context) == wiped


@given(data=st.data())
@settings(max_examples=100)
def test_what_is_readable_stays_readable(data: st.DataObject) -> None:
    cls = data.draw(
        st.sampled_from(sorted((c for c in CATALOGUE.values() if c.SECRET), key=lambda c: c.__name__))
    )
    message = data.draw(message_strategy(cls))
    payload = message.encode()
    again = decode(redact(payload, cls.CONTEXT), cls.CONTEXT)
    assume(isinstance(again, Message))
    assert facts(again.encode(), cls.CONTEXT) == facts(payload, cls.CONTEXT)  # type: ignore[union-attr]
