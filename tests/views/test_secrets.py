"""No secret is seen in any view, whatever its width, form or level."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable

import pytest

from glasshell.messages import auth as a
from glasshell.views.jsonl import JsonLines
from glasshell.views.log import LogView
from glasshell.views.qlog import QlogView
from glasshell.views.timeline import Timeline
from glasshell.wire import Secret

from .connection import ANSWER, COOKIE, NEW_PASSWORD, PASSWORD, SECRETS, client_connection
from .tape import Tape


def log(tape: Tape) -> str:
    out: list[str] = []
    for role in ("client", "server"):
        tape.play(LogView(out.append, 3, role))  # type: ignore[arg-type]
    return "".join(out)


def jsonl(tape: Tape) -> str:
    out: list[str] = []
    tape.play(JsonLines(out.append))
    return "".join(out)


def qlog(tape: Tape) -> str:
    out: list[str] = []
    tape.play(QlogView(out.append))
    return "".join(out)


def timeline(tape: Tape) -> str:
    view, out = Timeline(), io.StringIO()
    tape.play(view)
    for width in (80, 200):
        view.render(width, True, out)
    return out.getvalue() + view.to_svg(200) + repr(view.summary())


VIEWS = (log, jsonl, qlog, timeline)


def forms(secret: bytes) -> set[str]:
    """A secret as text, in hexadecimal and in base64 at each of its three alignments."""
    shifted = {base64.b64encode(bytes(i) + secret)[4:-4].decode() for i in range(3)}
    return {secret.decode(), secret.hex(), secret.hex().upper()} | {s for s in shifted if len(s) > 8}


@pytest.mark.parametrize("view", VIEWS)
def test_no_secret_is_seen(view: Callable[[Tape], str]) -> None:
    shown = view(client_connection())
    assert len(shown) > 1000
    for secret in SECRETS:
        for form in forms(secret):
            assert form not in shown


def test_this_test_can_fail() -> None:
    """Without the hub's wiping, the records do hold the secrets, at these lengths and places."""
    body = a.PasswordRequest(True, Secret(PASSWORD), Secret(NEW_PASSWORD))
    raw = a.UserauthRequest("tester", "ssh-connection", "password", body).encode()
    assert PASSWORD in raw
    kept = b"".join(r.payload for r in client_connection().records if hasattr(r, "payload"))
    for secret in (PASSWORD, NEW_PASSWORD, ANSWER, COOKIE):
        assert secret not in kept
        assert bytes(len(secret)) in kept


@pytest.mark.parametrize("view", VIEWS)
def test_unknown_method_shows_nothing_of_its_body(view: Callable[[Tape], str]) -> None:
    tape = Tape()
    body = b"\0\0\0\x10secret-in-there!"
    tape.sent(a.UserauthRequest("tester", "ssh-connection", "token@example.org", body))  # type: ignore[arg-type]
    shown = view(tape)
    for form in (b"secret-in-there!".decode(), body.hex(), b"secret".hex()):
        assert form not in shown


@pytest.mark.parametrize("view", VIEWS)
def test_facts_that_are_secrets_by_type(view: Callable[[Tape], str]) -> None:
    tape = Tape()
    tape.state("note", level="debug1", text=Secret("pa55phrase"))
    tape.state("error", type="X", text=Secret("pa55phrase"), hint=Secret("pa55phrase"))
    tape.state("auth_skipped", what=Secret("pa55phrase"), reason=Secret("pa55phrase"))
    assert "pa55phrase" not in view(tape)
