"""Spans and metrics against the records they are drawn from, with the SDK's own in-memory exporters."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from glasshell.observe.record import Record, StateRecord
from glasshell.views.telemetry import MAX_OPEN, Telemetry
from tests.aio.kit import connecting, run, serving
from tests.views.tape import AGREED, Tape

WALL = 1_795_345_200.5
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Memory:
    """Providers that keep what they are given."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)

    def sink(self, **more: Any) -> Telemetry:
        return Telemetry(self.tracers, self.meters, **more)

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def span(self, name: str) -> ReadableSpan:
        (found,) = self.spans(name)
        return found

    def points(self, name: str) -> dict[tuple[tuple[str, Any], ...], Any]:
        """The value of each combination of attributes; of a histogram (count, sum)."""
        data = self.reader.get_metrics_data()
        assert data is not None
        found: dict[tuple[tuple[str, Any], ...], Any] = {}
        for resource in data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == name:
                        for point in metric.data.data_points:
                            key = tuple(sorted((point.attributes or {}).items()))
                            value = getattr(point, "value", None)
                            found[key] = (point.count, point.sum) if value is None else value  # type: ignore[union-attr]
        return found


def when(seconds: float) -> int:
    return round(WALL * 1e9) + round(seconds * 1e9)


def lasted(span: ReadableSpan) -> tuple[int | None, int | None]:
    return span.start_time, span.end_time


def told(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def story() -> Tape:
    """A client's login with two keys and a password, a rekey and a channel that is refused."""
    tape = Tape()
    tape.state("started", role="client", wall_time=WALL, software="glasshell", version="1", id="c0ffee")
    for at, name, facts in [
        (0.5, "resolving", {"host": "example.org", "port": 22}),
        (0.75, "connecting", {"host": "example.org", "address": "2001:db8::7", "port": 22, "user": "u"}),
        (1.0, "connected", {"address": "2001:db8::7", "port": 22, "local_address": "::1", "local_port": 4}),
        (1.0, "kex_started", {"first": True, "by": "us", "reason": ""}),
        (1.1, "identification_received", {"line": "", "protocol": "2.0", "software": "Peer_1", "length": 16}),
        (1.25, "negotiated", AGREED),
        (1.5, "kex_done", {"first": True}),
        (1.75, "auth_methods", {"methods": ("publickey", "password"), "partial": False}),
        (2.0, "auth_next", {"method": "publickey", "remaining": ()}),
        (2.0, "auth_offer", {"key_type": "ED25519"}),
        (2.25, "auth_methods", {"methods": (), "partial": False}),
        (2.5, "auth_offer", {"key_type": "RSA"}),
        (2.75, "auth_methods", {"methods": (), "partial": True}),
        (3.0, "auth_next", {"method": "password", "remaining": ()}),
        (3.5, "auth_methods", {"methods": (), "partial": False}),
        (4.0, "authenticated", {"user": "ada", "method": "password"}),
        (4.25, "channel_opening", {"channel": 0, "type": "session", "by": "us"}),
        (4.25, "channel_opening", {"channel": 1, "type": "direct-tcpip", "by": "us"}),
        (4.5, "channel_refused", {"channel": 1, "type": "direct-tcpip", "reason": 1, "description": "no"}),
        (4.5, "channel_open", {"channel": 0, "type": "session"}),
        (5.0, "kex_started", {"first": False, "by": "peer", "reason": ""}),
        (5.25, "kex_done", {"first": False}),
        (5.5, "exit_status", {"channel": 0, "status": 7, "signal": ""}),
        (5.75, "channel_closed", {"channel": 0, "type": "session", "sent": 10, "received": 20}),
        (6.0, "disconnect", {"sent": True, "reason": 11, "description": "disconnected by user"}),
        (6.0, "closed", {"sent_bytes": 1000, "received_bytes": 2000}),
    ]:  # fmt: skip
        tape.now = at  # type: ignore[assignment]
        tape.state(str(name), **facts)  # type: ignore[arg-type]
    return tape


def test_spans_have_the_times_of_the_records() -> None:
    memory = Memory()
    story().play(memory.sink())
    assert lasted(memory.span("SSH connect")) == (when(0), when(6))
    assert lasted(memory.span("SSH dial")) == (when(0.5), when(1))
    assert [lasted(span) for span in memory.spans("SSH kex")] == [
        (when(1), when(1.5)), (when(5), when(5.25)),
    ]  # fmt: skip
    assert lasted(memory.span("SSH auth none")) == (when(1.5), when(1.75))
    assert [lasted(span) for span in memory.spans("SSH auth publickey")] == [
        (when(2), when(2.25)), (when(2.5), when(2.75)),
    ]  # fmt: skip
    assert [lasted(span) for span in memory.spans("SSH auth password")] == [
        (when(3), when(3.5)), (when(3.5), when(4)),
    ]  # fmt: skip
    assert lasted(memory.span("SSH channel session")) == (when(4.25), when(5.75))
    assert lasted(memory.span("SSH channel direct-tcpip")) == (when(4.25), when(4.5))
    assert len(memory.exporter.get_finished_spans()) == 11


def test_what_spans_say() -> None:
    memory = Memory()
    story().play(memory.sink())
    root = memory.span("SSH connect")
    assert root.kind is SpanKind.CLIENT
    assert root.status.status_code is StatusCode.UNSET
    facts = told(root)
    assert {name: facts[name] for name in (
        "network.protocol.name", "network.protocol.version", "network.transport", "network.type",
        "network.peer.address", "network.peer.port", "server.address", "server.port", "ssh.connection.id",
        "ssh.kex.algorithm", "ssh.auth.method", "ssh.disconnect.reason_code",
    )} == {
        "network.protocol.name": "ssh", "network.protocol.version": "2.0", "network.transport": "tcp",
        "network.type": "ipv6", "network.peer.address": "2001:db8::7", "network.peer.port": 22,
        "server.address": "example.org", "server.port": 22, "ssh.connection.id": "c0ffee",
        "ssh.kex.algorithm": "sntrup761x25519-sha512", "ssh.auth.method": "password",
        "ssh.disconnect.reason_code": 11,
    }  # fmt: skip
    assert "user.name" not in facts
    results = [told(span)["ssh.auth.result"] for span in memory.spans("SSH auth publickey")]
    assert results == ["refused", "partial"]
    refused = memory.span("SSH channel direct-tcpip")
    assert refused.status.status_code is StatusCode.ERROR
    assert told(refused)["error.type"] == "administratively_prohibited"
    assert told(memory.span("SSH channel session"))["ssh.exit.status"] == 7
    for span in memory.exporter.get_finished_spans():
        assert span is root or (span.parent and span.parent.span_id == root.context.span_id)


def test_users_and_commands_where_they_are_asked_for() -> None:
    memory = Memory()
    story().play(memory.sink(capture=["user"]))
    assert told(memory.span("SSH connect"))["user.name"] == "ada"


def test_metrics() -> None:
    memory = Memory()
    story().play(memory.sink())
    client = (("ssh.role", "client"),)
    assert memory.points("ssh.handshake.duration") == {client: (1, 0.5)}
    assert memory.points("ssh.login.duration") == {client: (1, 3.0)}
    assert memory.points("ssh.connections.open") == {client: 0}
    assert memory.points("ssh.network.io") == {
        (("network.io.direction", "transmit"), *client): 1000,
        (("network.io.direction", "receive"), *client): 2000,
    }  # fmt: skip
    attempts = {(dict(key)["ssh.auth.method"], dict(key)["ssh.result"]): value
                for key, value in memory.points("ssh.auth.attempts").items()}  # fmt: skip
    assert attempts == {
        ("none", "refused"): 1, ("publickey", "refused"): 1, ("publickey", "partial"): 1,
        ("password", "refused"): 1, ("password", "accepted"): 1,
    }  # fmt: skip
    assert memory.points("ssh.rekeys") == {(("ssh.rekey.initiator", "peer"), *client): 1}
    assert memory.points("ssh.channels.open") == {(("ssh.channel.type", "session"), *client): 0}
    assert memory.points("ssh.errors") == {}


def test_an_error_ends_what_is_open() -> None:
    memory = Memory()
    sink = memory.sink(parent={"TRACEPARENT": PARENT})
    for record in story().records[:9]:
        sink(record)
    sink(StateRecord(2.125, "error", {"type": "ConnectionLost", "text": "gone", "hint": "", "clause": ""}))
    sink(StateRecord(2.125, "closed", {"sent_bytes": 1, "received_bytes": 2}))
    root = memory.span("SSH connect")
    assert root.status.status_code is StatusCode.ERROR
    assert told(root)["error.type"] == "ConnectionLost"
    assert f"{root.context.trace_id:032x}" == PARENT.split("-")[1]
    assert root.parent is not None
    assert f"{root.parent.span_id:016x}" == PARENT.split("-")[2]
    ((attributes, value),) = memory.points("ssh.errors").items()
    assert (dict(attributes)["error.type"], value) == ("ConnectionLost", 1)


@pytest.mark.parametrize("parent", ["", "nonsense", "00-0-0-0", PARENT.replace("b7ad6b7169203331", "0" * 16)])
def test_a_parent_that_is_none(parent: str) -> None:
    memory = Memory()
    story().play(memory.sink(parent={"TRACEPARENT": parent}))
    assert memory.span("SSH connect").parent is None


def test_names_have_few_values_whatever_the_peer_sends() -> None:
    memory = Memory()
    tape = Tape()
    tape.state("started", role="server", wall_time=WALL, software="", version="", id="1")
    tape.state("accepted", address="192.0.2.1", port=1, local_address="192.0.2.2", local_port=22)
    for i in range(10):
        tape.state("auth_request", user="u", service="s", method=f"m{i}", attempt=i, failures=0)
        tape.state("auth_verdict", user="u", method=f"m{i}", accepted=False, partial=False)
        tape.state("channel_opening", channel=i, type=f"t{i}", by="peer")
    tape.state("closed", sent_bytes=0, received_bytes=0)
    tape.play(memory.sink())
    assert {span.name for span in memory.exporter.get_finished_spans()} == {
        "SSH connect", "SSH auth other", "SSH channel other",
    }  # fmt: skip


def test_what_is_open_is_bounded() -> None:
    memory = Memory()
    tape = Tape()
    tape.state("started", role="server", wall_time=WALL, software="", version="", id="1")
    for i in range(MAX_OPEN + 10):
        tape.state("channel_opening", channel=i, type="session", by="peer")
    tape.state("closed", sent_bytes=0, received_bytes=0)
    tape.play(memory.sink())
    assert len(memory.spans("SSH channel session")) == MAX_OPEN
    assert told(memory.span("SSH connect"))["ssh.spans_dropped"] == 10


def test_both_ends_of_a_connection() -> None:
    client, server = Memory(), Memory()
    heard: list[Record] = []

    async def main() -> None:
        sinks = lambda peer: [server.sink()]  # noqa: E731
        async with (
            serving(sinks=sinks) as running,
            connecting(running.port, sinks=[client.sink(), heard.append]) as connection,
        ):
            await connection.run("exit 4")

    run(main())
    ours, theirs = client.span("SSH connect"), server.span("SSH connect")
    assert (ours.kind, theirs.kind) == (SpanKind.CLIENT, SpanKind.SERVER)
    assert told(ours)["network.local.port"] == told(theirs)["client.port"]
    started = next(r.facts for r in heard if isinstance(r, StateRecord) and r.name == "started")
    times = {r.name: r.time for r in heard if isinstance(r, StateRecord)}
    base = round(started["wall_time"] * 1e9)
    assert ours.end_time == base + round(times["closed"] * 1e9)
    assert client.span("SSH kex").end_time == base + round(times["kex_done"] * 1e9)
    assert {span.name for span in server.exporter.get_finished_spans()} == {
        "SSH connect", "SSH kex", "SSH auth none", "SSH auth publickey", "SSH channel session",
    }  # fmt: skip
    assert told(server.span("SSH channel session"))["ssh.exit.status"] == 4


def test_a_host_that_cannot_be_connected_ends_the_span() -> None:
    memory = Memory()

    async def main() -> None:
        with pytest.raises(Exception, match="connect to host"):
            await connecting(1, sinks=[memory.sink()])

    run(main())
    assert told(memory.span("SSH connect"))["error.type"] == "CannotConnect"
    assert told(memory.span("SSH dial"))["error.type"] == "CannotConnect"
