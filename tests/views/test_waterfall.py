"""The waterfall page as data: what is in it, what is not, and how large it grows."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.cli.watching import close_views, open_views
from glasshell.messages import connection as c
from glasshell.messages import transport as t
from glasshell.observe.record import StateRecord, SubsystemRecord
from glasshell.observe.seen import Seen
from glasshell.sftp import messages as sftp
from glasshell.views.waterfall import DETAILS, MOST_CONNECTIONS, MOST_ROWS, Waterfall

from .connection import SECRETS, client_connection, server_connection
from .tape import Tape

HOSTILE = "</script><img src=x onerror=alert(2)><script>alert(1)</script><!-- & \u2028 \x1b[2J \x00"


def page(*tapes: Tape, title: str = "glasshell") -> str:
    waterfall = Waterfall(title=title)
    for stream, tape in enumerate(tapes):
        for record in tape.records:
            waterfall(record, stream)
    out = io.StringIO()
    waterfall.render(out)
    return out.getvalue()


class Parts(HTMLParser):
    """The elements of a page, and what its scripts and styles hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self._within = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._within = tag if tag in self.inside else ""
        if self._within:
            self.inside[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within:
            self.inside[self._within][-1] += data


def data(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Parts(text).inside["script"][0])
    return found


def only(tape: Tape) -> dict[str, Any]:
    (connection,) = data(page(tape))["connections"]
    assert isinstance(connection, dict)
    return connection


def test_one_page_that_fetches_nothing() -> None:
    parts = Parts(page(client_connection()))
    assert len(parts.inside["script"]) == 2
    for tag, attributes in parts.tags:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form")
        assert "src" not in attributes
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
    assert "@import" not in parts.inside["style"][0]
    assert "url(http" not in parts.inside["style"][0]


def test_the_policy_allows_the_pages_own_parts_alone() -> None:
    parts = Parts(page(client_connection()))
    (policy,) = [a["content"] for tag, a in parts.tags if a.get("http-equiv") == "Content-Security-Policy"]
    hashes = {
        kind: base64.b64encode(hashlib.sha256(parts.inside[kind][-1].encode()).digest()).decode()
        for kind in ("script", "style")
    }
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{hashes['style']}'; script-src 'sha256-{hashes['script']}';"
        " base-uri 'none'; form-action 'none'"
    )


def test_rows_phases_trips_and_stalls() -> None:
    tape = client_connection(data=0)
    shown = only(tape)
    assert [phase["title"][0] for phase in shown["phases"]] == list("0123456")
    assert shown["depth"] == len(shown["trips"]) == 11
    names = [row[5] for row in shown["rows"]]
    assert names[:4] == ["connect begun", "connect done", "identification", "SSH_MSG_KEXINIT"]
    assert shown["sentence"].startswith(f"{round(tape.now * 1000)} ms, 11 round trips: ")
    spans = shown["spans"]
    assert sum(ended - began for began, ended, _ in spans) == pytest.approx(shown["took"], abs=0.1)
    assert {kind for _, _, kind in spans} == {"peer", "own"}


def test_a_message_opens_to_its_fields_with_their_bytes() -> None:
    (row,) = [row for row in only(client_connection())["rows"] if row[5] == "SSH_MSG_SERVICE_REQUEST"]
    detail = row[13]
    assert detail["clause"] == "RFC 4253 10"
    assert bytes.fromhex(detail["hex"]) == t.ServiceRequest("ssh-userauth").encode()
    assert [field[:6] for field in detail["fields"]] == [
        [0, "message", "byte", "SSH_MSG_SERVICE_REQUEST", 0, 1],
        [0, "service_name", "string", "ssh-userauth", 1, 17],
    ]  # fmt: skip
    assert (detail["seq"], detail["epoch"], detail["length"]) == (3, 1, 17)


def test_nothing_secret_and_no_data_of_a_channel() -> None:
    text = page(client_connection(data=3), server_connection())
    for secret in SECRETS:
        assert secret.decode() not in text
        assert secret.hex() not in text
    rows = [row for row in only(client_connection(data=3))["rows"] if row[5] == "SSH_MSG_CHANNEL_DATA"]
    assert [len(row[13]["hex"]) // 2 for row in rows] == [9] * len(rows)  # number, channel, length


def test_what_a_peer_says_is_text() -> None:
    tape = client_connection(data=0)
    tape.received(t.Debug(True, HOSTILE), t.Disconnect(2, HOSTILE))
    tape.state("preface_line", text=HOSTILE)
    tape.state("error", type="X", text=HOSTILE, hint=HOSTILE)
    tape.state("identification_received", line=HOSTILE, software=HOSTILE, length=3)
    text = page(tape, title=HOSTILE)
    assert len(Parts(text).inside["script"]) == 2
    raw = Parts(text).inside["script"][0]
    assert raw.isascii()
    assert not set("<>&") & set(raw)
    assert "\x1b" not in text
    assert "\u2028" not in text
    assert not any(ch in json.dumps(data(text), ensure_ascii=False) for ch in "\x1b\x00\u2028")


@given(st.text(), st.binary(max_size=200))
def test_any_text_and_any_bytes(text: str, raw: bytes) -> None:
    tape = Tape()
    tape.state("identification_received", line=text, software=text, length=3)
    tape.received(t.Debug(True, text.encode("utf-8", "replace").decode()))
    tape.records[-1].payload = raw  # type: ignore[union-attr]
    tape.records[-1].number = raw[0] if raw else 0  # type: ignore[union-attr]
    data(page(tape))


def test_twenty_thousand_messages_of_data_are_a_few_lines() -> None:
    tape = client_connection(data=0)
    for _ in range(10_000):
        tape.sent(c.ChannelData(7, b"x"))
        tape.received(c.ChannelData(0, b"y" * 1000))
    text = page(tape)
    assert len(text) < 400_000
    (run,) = [row for row in data(text)["connections"][0]["rows"] if row[9] == 10_000 and not row[6]]
    assert run[10] == 10_000_000
    assert 100 <= len(run[12]) <= 200  # as many of it are drawn
    assert run[12][0] == run[0]


def test_twenty_thousand_other_messages_stay_bounded() -> None:
    tape = client_connection(data=0)
    names = [f"v{n}" for n in range(100)]
    for n in range(20_000):
        tape.received(c.ChannelRequest(0, "env", False, c.Env(names[n % 100], "x" * 500)))
    text = page(tape)
    assert len(text) < 10_000_000
    shown = data(text)["connections"][0]
    assert len(shown["rows"]) == MOST_ROWS
    assert shown["dropped"] > 14_000
    assert shown["messages"]["received"] > 20_000
    spent = sum(len(row[13].get("hex", "")) for row in shown["rows"])
    assert spent < DETAILS


def test_many_connections_stay_bounded() -> None:
    tape = client_connection(data=0)
    text = page(*[tape] * (MOST_CONNECTIONS + 7))
    shown = data(text)
    assert len(shown["connections"]) == MOST_CONNECTIONS
    assert shown["left_out"] == 7
    assert len(text) < 10_000_000


def test_a_capture_tells_frames_verdicts_and_sftp() -> None:
    waterfall = Waterfall()
    for record in client_connection(data=0).records:
        waterfall(Seen(record, 4, None, (7, 9), True))
    opening = sftp.Open(1, "name", 1, sftp.Attrs(0)) if hasattr(sftp, "Open") else None
    payload = opening.encode() if opening else bytes((3, 0, 0, 0, 1, 0, 0, 0, 1, 65))
    waterfall(Seen(SubsystemRecord(1.0, True, 0, "sftp", payload[0], payload), 4, True, (10, 10), None))
    out = io.StringIO()
    waterfall.render(out)
    (shown,) = data(out.getvalue())["connections"]
    assert shown["stream"] == 4
    assert shown["rows"][0][13]["frames"] == [7, 9]
    assert shown["rows"][0][13]["verified"] is True
    assert shown["rows"][-1][4] == "sftp"
    assert shown["rows"][-1][5].startswith("SSH_FXP_")


def test_a_page_of_nothing() -> None:
    assert data(page())["connections"] == []
    assert only_state("started")["rows"] == []


def only_state(name: str) -> dict[str, Any]:
    tape = Tape()
    tape.state(name, role="client", wall_time=float("nan"))
    return only(tape)


def test_the_flag_writes_the_page_when_the_connection_is_over(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    opened = open_views([("--html", str(path))])
    assert path.stat().st_mode & 0o777 == 0o600
    for record in client_connection().records:
        opened[0](record)
    close_views(opened)
    close_views(opened)
    assert only_of(path.read_text("utf-8"))["depth"] == 11
    opened[0](StateRecord(1.0, "eof", {}))  # too late, and no error


def only_of(text: str) -> dict[str, Any]:
    (connection,) = data(text)["connections"]
    assert isinstance(connection, dict)
    return connection


def test_the_title_is_html_too() -> None:
    assert re.search(r"<title>a &lt;b&gt; &amp; c</title>", page(title="a <b> & c"))
