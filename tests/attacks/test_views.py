"""What a peer says, and what is secret, in every view there is (docs/attacks.md, C7)."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from glasshell.messages import connection as c
from glasshell.messages import transport as t
from glasshell.observe.record import MessageRecord, StateRecord
from glasshell.observe.seen import Seen
from glasshell.views.auditlog import AuditLog
from glasshell.views.connections import Connections
from glasshell.views.fields import Rows, show, values_of
from glasshell.views.fieldtable import FIELDS
from glasshell.views.logs import Logs
from glasshell.views.pcapng import Pcapng
from glasshell.views.perfetto import Perfetto
from glasshell.views.recording import open_recording
from glasshell.views.tree import seen_object, tree_lines
from glasshell.views.waterfall import Waterfall
from tests.views.connection import SECRETS, TYPED, client_connection, server_connection
from tests.views.tape import Tape
from tests.views.test_secrets import VIEWS as FIRST
from tests.views.test_secrets import forms

HOSTILE = (
    "\x1b]0;owned\x07\x9b31m\u202e\u200b\r\nAccepted password for root from ::1"
    "</script><b>[red]{}%s\x00\udcff"
)
HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\udc80-\udcff]")


TEXTS = (
    "text", "user", "method", "command", "kind", "description", "why", "error", "type", "hint", "clause",
    "name", "value", "hash", "algorithms", "what", "evidence", "host", "address", "how", "signal", "sink",
    "key_type", "fingerprint", "language",
)  # fmt: skip
OTHERS = {"level": "info", "channel": 0, "port": 22, "accepted": True, "sent": False, "reason": 2,
          "tty": True, "epoch": 1, "status": 1, "valid": True, "partial": False,
          "always_display": True}  # fmt: skip


def seen(tape: Tape) -> list[Seen]:
    """The tape as a capture tells it."""
    return [Seen(each, 0, each.sent if isinstance(each, MessageRecord) else None) for each in tape.records]


def waterfall(tape: Tape, folder: Path) -> str:
    page = Waterfall((folder / "page").open("w", encoding="utf-8"), HOSTILE)
    tape.play(page)
    page.close()
    return (folder / "page").read_text("utf-8")


def perfetto(tape: Tape, folder: Path) -> str:
    view = Perfetto((folder / "trace").open("w", encoding="utf-8"))
    tape.play(view)
    view.close()
    return (folder / "trace").read_text("utf-8")


def pcapng(tape: Tape, folder: Path) -> str:
    """Its comments: what is text in it."""
    view = Pcapng(folder / "x.pcapng")
    tape.play(view)
    view.close()
    data = (folder / "x.pcapng").read_bytes()
    return "\n".join(found.decode() for found in re.findall(rb"phase [ -~\xc2-\xf4\x80-\xbf\x1b\x07]+", data))


def audit(tape: Tape, folder: Path) -> str:
    log = AuditLog(folder / "audit", str)
    tape.play(log.sink())
    log.close()
    return (folder / "audit").read_text()


def logs(tape: Tape, _: Path) -> str:
    out = io.StringIO()
    logger = logging.Logger("test", logging.DEBUG)
    handler = logging.StreamHandler(out)
    handler.setFormatter(logging.Formatter("%(message)s %(facts)s"))
    logger.addHandler(handler)
    tape.play(Logs(logger, packets=True))
    return out.getvalue()


def cast(tape: Tape, folder: Path) -> str:
    """The header: what a terminal showed is data."""
    view = open_recording(folder / "x.v3.cast")
    tape.play(view)
    view.close()
    file = folder / "x.v3.cast"
    return "\n".join(file.read_text().splitlines()[:2]) if file.exists() else ""


def inspected(tape: Tape, _: Path) -> str:
    out = io.StringIO()
    view, rows = Connections(out, 200), Rows()
    for each in seen(tape):
        view(each)
        out.writelines(line + "\n" for line in tree_lines(each, None, show_secrets=False))
        out.write(json.dumps(seen_object(each, None), ensure_ascii=False) + "\n")
        if row := rows.take(each):
            found = values_of(row, FIELDS, show_secrets=False)
            out.writelines(show(FIELDS[name], value) + "\n" for name in found for value in found[name])
    view.close()
    return out.getvalue()


def otel(tape: Tape, _: Path) -> str:
    telemetry = pytest.importorskip("glasshell.views.telemetry")
    trace = pytest.importorskip("opentelemetry.sdk.trace")
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    kept, provider = InMemorySpanExporter(), trace.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    view = telemetry.Telemetry(provider)
    tape.play(view)
    view.close()
    return "\n".join(json.dumps(json.loads(span.to_json()), ensure_ascii=False)
                     for span in kept.get_finished_spans())  # fmt: skip


VIEWS = (waterfall, perfetto, pcapng, audit, logs, cast, inspected, otel, *FIRST)


def drawn(view: Callable[..., str], tape: Tape, folder: Path) -> str:
    return view(tape) if view in FIRST else view(tape, folder)


def hostile(tape: Tape) -> Tape:
    """Every text of a state, and every text that a message may hold, is hostile."""
    for at, record in enumerate(tape.records):
        # The names of algorithms are checked where they are read (RFC 4251 §6).
        if isinstance(record, StateRecord) and record.name != "negotiated":
            facts = {name: HOSTILE if isinstance(value, str) and name != "role" else value
                     for name, value in record.facts.items()}  # fmt: skip
            tape.records[at] = StateRecord(record.time, record.name, facts)
    closed = tape.records.pop()
    tape.received(
        t.Debug(True, HOSTILE, HOSTILE), c.ChannelOpenFailure(0, 1, HOSTILE, HOSTILE),
        c.ChannelRequest(0, "exit-signal", False, c.ExitSignal("TERM", False, HOSTILE, HOSTILE)),
    )  # fmt: skip
    tape.sent(
        c.ChannelRequest(7, "env", False, c.Env(HOSTILE, HOSTILE)),
        c.ChannelRequest(7, "exec", True, c.Exec(HOSTILE)), t.Disconnect(11, HOSTILE, HOSTILE),
    )  # fmt: skip
    for name in ("preface_line", "note", "error", "session_started", "session_ended", "forward_request",
                 "auth_verdict", "banner", "debug", "disconnect", "connect_failed", "not_decrypted",
                 "extension", "inferred", "hassh", "ended", "sink_dropped"):  # fmt: skip
        tape.records.append(StateRecord(tape.now, name, dict.fromkeys(TEXTS, HOSTILE) | OTHERS))
    tape.records.append(closed)
    return tape


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("connection", [client_connection, server_connection])
def test_c7_no_control_character_of_a_peer(
    view: Callable[..., str], connection: Callable[[], Tape], tmp_path: Path
) -> None:
    text = drawn(view, hostile(connection()), tmp_path)
    text = re.sub("\x1b\\[[0-9;]*m", "", text) if view in FIRST or view is inspected else text
    text = text.replace("\r\n", "\n") if view in FIRST else text
    found = HARMFUL.search(text.replace("\x1e", "") if view in FIRST else text)
    assert found is None, text[max(found.start() - 60, 0) : found.end() + 60]
    assert "\nAccepted password for root" not in text
    if view is waterfall:
        assert text.count("</script>") == 2  # its data's and its program's


@pytest.mark.parametrize("view", VIEWS)
def test_c7_no_secret_in_any_view(view: Callable[..., str], tmp_path: Path) -> None:
    text = drawn(view, client_connection(), tmp_path)
    # Who asks for a capture's ssh.payload by name gets the data of channels; secrets are zeros there.
    looked_for = set(SECRETS) - ({TYPED} if view is inspected else set())
    assert not [secret for secret in looked_for if any(form in text for form in forms(secret))]


@pytest.mark.parametrize("flags", ["00", "01"])
def test_c7_a_client_has_no_say_in_what_a_server_records(flags: str) -> None:
    telemetry = pytest.importorskip("glasshell.views.telemetry")
    trace = pytest.importorskip("opentelemetry.sdk.trace")
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased

    for root, spans in ((ALWAYS_ON, {"SSH connect", "session"}), (ALWAYS_OFF, set())):
        kept, provider = InMemorySpanExporter(), trace.TracerProvider(sampler=ParentBased(root))
        provider.add_span_processor(SimpleSpanProcessor(kept))
        tape, view = Tape(), telemetry.Telemetry(provider)
        parent = f"00-{'ab' * 16}-{'cd' * 8}-{flags}"
        tape.state("started", role="server", wall_time=0.0, id="1")
        tape.state("accepted", address="192.0.2.1", port=1, local_address="192.0.2.2", local_port=22)
        tape.state("authenticated", user="ada", method="publickey")
        tape.state("channel_open", channel=0, type="session")
        facts = {"channel": 0, "name": "TRACEPARENT", "value": parent, "accepted": True}
        tape.records.append(StateRecord(0.0, "variable", facts))
        tape.state("channel_closed", channel=0, type="session", sent=1, received=1)
        tape.state("closed", sent_bytes=1, received_bytes=1)
        tape.play(view)
        names = [span.name for span in kept.get_finished_spans()]
        assert all(any(wanted in name for name in names) for wanted in spans)
        assert bool(names) == bool(spans)
