"""OpenTelemetry: a span for the connection, each phase of it and each channel, and metrics (extra `otel`).

    connect(..., sinks=[Telemetry()])
    serve(..., sinks=lambda peer: [Telemetry(tracer_provider=..., meter_provider=...)])

Names and attributes are those of the semantic conventions (1.44) where they have some; ours begin with
`ssh.`. The times of spans are the times of the records. Names of spans have few values; user names and
commands are told only where they are asked for.

The trace goes on across the connection: `parent` is the context a client was started in, `environment()` what
it hands to the server, and a server's span of a session is a child of what the client sent as TRACEPARENT, if
that variable was accepted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from ..errors import ConfigError, install
from ..messages.connection import OpenFailure
from ..messages.transport import DisconnectReason
from ..observe.record import Record, StateRecord
from ..wire import visible
from .tally import BUCKETS, MEASURES, Tally, channel_type, method_name

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, Tracer, TracerProvider

__all__ = ["CAPTURE", "TRACE_VARIABLES", "Telemetry", "need"]

SCOPE: Final = "glasshell"
CAPTURE: Final = frozenset({"user", "command"})
"""What is told only where it is asked for."""
TRACE_VARIABLES: Final = ("TRACEPARENT", "TRACESTATE")
"""W3C Trace Context, in the environment."""

MAX_TEXT: Final = 1024
"""Most characters of one attribute."""
MAX_OPEN: Final = 256
"""Most spans of one connection that wait for their end; more are counted in `ssh.spans_dropped`."""
BY_APPLICATION: Final = DisconnectReason.BY_APPLICATION.value

INSTRUMENTS: Final = {
    "connections": ("ssh.connections", "{connection}"),
    "connections_open": ("ssh.connections.open", "{connection}"),
    "connection": ("ssh.connection.duration", "s"), "handshake": ("ssh.handshake.duration", "s"),
    "login": ("ssh.login.duration", "s"), "auth_attempts": ("ssh.auth.attempts", "{attempt}"),
    "sent": ("ssh.network.io", "By"), "received": ("ssh.network.io", "By"),
    "channels": ("ssh.channels", "{channel}"), "channels_open": ("ssh.channels.open", "{channel}"),
    "sessions": ("ssh.sessions", "{session}"), "forwards": ("ssh.forwards", "{request}"),
    "rekeys": ("ssh.rekeys", "{rekey}"), "errors": ("ssh.errors", "{error}"),
}  # fmt: skip
"""Measure -> the name and unit of its instrument."""

LABELS: Final = {
    "role": "ssh.role", "method": "ssh.auth.method", "result": "ssh.result", "kind": "ssh.kind",
    "by": "ssh.rekey.initiator", "type": "ssh.channel.type",
}  # fmt: skip
DIRECTIONS: Final = {"sent": "transmit", "received": "receive"}


def need() -> None:
    """Raises ConfigError where the packages of OpenTelemetry are not installed."""
    try:
        import opentelemetry.sdk.trace  # noqa: F401
    except ImportError:
        raise ConfigError("OpenTelemetry's SDK is not installed", hint=install("otel")) from None


@dataclass(slots=True)
class _Open:
    """A span that has begun; OpenTelemetry is told of it when it ends."""

    name: str
    start: float
    attributes: dict[str, Any] = field(default_factory=dict)
    error: tuple[str, str] | None = None
    """The value of `error.type`, and a description."""
    parent: Context | None = None
    """The context that a client sent; the connection's span is then a link."""


class Telemetry:
    """A sink that traces and measures one connection; it wants to hear it from its beginning.

    Without providers it takes the global ones. `capture` is a part of `CAPTURE`, `parent` the variables of
    `TRACE_VARIABLES` that a client's connection is a part of. Raises ConfigError without the packages.
    """

    hears = frozenset({"states"})

    def __init__(
        self, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None, *,
        capture: Collection[str] = (), parent: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        need()
        from opentelemetry import metrics, trace

        from .. import __version__

        provider = tracer_provider or trace.get_tracer_provider()
        self._tracer: Tracer = provider.get_tracer(SCOPE, __version__)
        self._tally = Tally(_meter(meter_provider or metrics.get_meter_provider()))
        self._capture = frozenset(capture)
        self._parent = dict(parent or {})
        self._root: Span | None = None
        self._over = False
        self._server = False
        self._wall = 0
        """Nanoseconds since 1970 at the stream's start."""
        self._now = 0.0
        self._open: dict[tuple[str, int], _Open] = {}
        self._dropped = 0
        self._error: tuple[str, str] | None = None
        self._done = False
        self._connected = False
        self._attempt_from = 0.0
        self._method = "none"

    def __call__(self, record: Record) -> None:
        """Takes one record."""
        self._tally(record)
        if not isinstance(record, StateRecord):
            return
        self._now = max(record.time, self._now)
        if record.name == "started":
            self._begin(record)
        elif self._root is not None and (act := self._ACTS.get(record.name)):
            act(self, record.facts, record.time)

    def environment(self) -> dict[str, str]:
        """The variables that tell a program on the server which trace it is a part of."""
        if self._root is None:
            return {}
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier, trace.set_span_in_context(self._root))
        return {name.upper(): value for name, value in carrier.items()}

    def close(self) -> None:
        """Ends the spans of a connection that did not tell its end."""
        self._finish(self._now)

    # The connection

    def _begin(self, record: StateRecord) -> None:
        from opentelemetry import trace

        facts = record.facts
        self._server = facts.get("role") == "server"
        self._wall = round(float(facts.get("wall_time") or 0.0) * 1e9)
        self._root = self._tracer.start_span(
            "SSH connect", _context(self._parent) if not self._server else None,
            kind=trace.SpanKind.SERVER if self._server else trace.SpanKind.CLIENT,
            start_time=self._stamp(record.time),
            attributes={
                "network.protocol.name": "ssh", "network.transport": "tcp",
                "ssh.connection.id": _text(facts.get("id", "")),
            },
        )  # fmt: skip

    def _stamp(self, time: float) -> int:
        return self._wall + round(time * 1e9)

    def _tell(self, **attributes: Any) -> None:
        if self._root is not None:
            self._root.set_attributes(_attributes(attributes))

    def _finish(self, time: float) -> None:
        if self._root is None or self._over:
            return
        from opentelemetry.trace import Status, StatusCode

        self._over = True
        for place in tuple(self._open):
            self._end(place, time, error=self._error)
        if self._dropped:
            self._tell(ssh__spans_dropped=self._dropped)
        if self._error is not None:
            self._tell(error__type=self._error[0])
            self._root.set_status(Status(StatusCode.ERROR, _text(self._error[1])))
        self._root.end(self._stamp(time))

    # Parts of it

    def _start(self, place: tuple[str, int], name: str, time: float, **attributes: Any) -> None:
        if len(self._open) >= MAX_OPEN:
            self._dropped += 1
        else:
            self._open[place] = _Open(name, time, _attributes(attributes))

    def _add(self, place: tuple[str, int], **attributes: Any) -> None:
        if span := self._open.get(place):
            span.attributes |= _attributes(attributes)

    def _end(self, place: tuple[str, int], time: float, error: tuple[str, str] | None = None) -> None:
        span = self._open.pop(place, None)
        if span is None or self._root is None:
            return
        from opentelemetry import trace

        around = trace.set_span_in_context(self._root)
        remote = place[0] == "channel"
        kinds = trace.SpanKind.SERVER if self._server else trace.SpanKind.CLIENT
        told = self._tracer.start_span(
            span.name, span.parent or around, kind=kinds if remote else trace.SpanKind.INTERNAL,
            links=[trace.Link(self._root.get_span_context())] if span.parent else (),
            start_time=self._stamp(span.start), attributes=span.attributes,
        )  # fmt: skip
        if failed := span.error or error:
            told.set_attribute("error.type", _text(failed[0]))
            told.set_status(trace.Status(trace.StatusCode.ERROR, _text(failed[1])))
        told.end(self._stamp(time))

    # What the records say: TCP

    def _resolving(self, facts: Mapping[str, Any], time: float) -> None:
        self._tell(server__address=facts.get("host"), server__port=facts.get("port"))
        if not self._connected and DIAL not in self._open:
            self._start(
                DIAL, "SSH dial", time, server__address=facts.get("host"), server__port=facts.get("port")
            )

    def _connected_(self, facts: Mapping[str, Any], time: float) -> None:
        self._connected = True
        ends = _ends(facts)
        self._tell(**ends)
        self._add(DIAL, **ends)
        self._end(DIAL, time)

    def _accepted(self, facts: Mapping[str, Any], time: float) -> None:
        self._connected = True
        self._tell(
            client__address=facts.get("address"), client__port=facts.get("port"),
            server__address=facts.get("local_address"), server__port=facts.get("local_port"), **_ends(facts),
        )  # fmt: skip

    def _identified(self, facts: Mapping[str, Any], time: float) -> None:
        self._tell(
            network__protocol__version=facts.get("protocol"), ssh__peer__software=facts.get("software")
        )

    # RFC 4253

    def _kex_started(self, facts: Mapping[str, Any], time: float) -> None:
        by = "us" if facts.get("by") == "us" else "peer"
        self._start(KEX, "SSH kex", time, ssh__kex__first=bool(facts.get("first")), ssh__kex__initiator=by)

    def _negotiated(self, facts: Mapping[str, Any], time: float) -> None:
        chosen = {
            "ssh__kex__algorithm": facts.get("kex"), "ssh__host_key__algorithm": facts.get("host_key"),
            "ssh__cipher__client_to_server": facts.get("cipher_c2s"),
            "ssh__cipher__server_to_client": facts.get("cipher_s2c"),
            "ssh__mac__client_to_server": facts.get("mac_c2s"),
            "ssh__mac__server_to_client": facts.get("mac_s2c"),
            "ssh__compression__client_to_server": facts.get("compression_c2s"),
            "ssh__compression__server_to_client": facts.get("compression_s2c"),
            "ssh__kex__strict": bool(facts.get("strict")),
        }  # fmt: skip
        self._add(KEX, **chosen)
        self._tell(**chosen)

    def _host_key(self, facts: Mapping[str, Any], time: float) -> None:
        self._add(KEX, ssh__host_key__fingerprint=facts.get("fingerprint"))

    def _kex_done(self, facts: Mapping[str, Any], time: float) -> None:
        self._end(KEX, time)
        if facts.get("first"):
            self._attempt_from = time

    # RFC 4252. A client's attempt lasts from the turn to a method, or the verdict before it, to its verdict;
    # a server's from the request, and a query with the signed request that follows it is one.

    def _auth_next(self, facts: Mapping[str, Any], time: float) -> None:
        self._method = method_name(facts.get("method"))
        self._attempt_from = time

    def _auth_offer(self, facts: Mapping[str, Any], time: float) -> None:
        self._attempt_from = time

    def _auth_request(self, facts: Mapping[str, Any], time: float) -> None:
        method = method_name(facts.get("method"))
        name = f"SSH auth {method}"
        if AUTH not in self._open or self._open[AUTH].name != name:
            self._end(AUTH, time)
            self._start(AUTH, name, time, ssh__auth__method=method)

    def _auth_verdict(self, facts: Mapping[str, Any], time: float) -> None:
        result = "partial" if facts.get("partial") else "accepted" if facts.get("accepted") else "refused"
        self._add(AUTH, ssh__auth__result=result, ssh__auth__key__type=facts.get("key_type") or None)
        self._end(AUTH, time)

    def _auth_methods(self, facts: Mapping[str, Any], time: float) -> None:
        self._attempt("partial" if facts.get("partial") else "refused", time)

    def _auth_skipped(self, facts: Mapping[str, Any], time: float) -> None:
        self._attempt_from = time

    def _attempt(self, result: str, time: float) -> None:
        name = f"SSH auth {self._method}"
        told = {"ssh__auth__method": self._method, "ssh__auth__result": result}
        self._start(AUTH, name, self._attempt_from, **told)
        self._end(AUTH, time)
        self._attempt_from = time

    def _authenticated(self, facts: Mapping[str, Any], time: float) -> None:
        self._method = method_name(facts.get("method"))
        if not self._server:
            self._attempt("accepted", time)
        self._tell(ssh__auth__method=self._method)
        if "user" in self._capture:
            self._tell(user__name=facts.get("user"))

    # RFC 4254

    def _channel_opening(self, facts: Mapping[str, Any], time: float) -> None:
        kind = channel_type(facts.get("type"))
        self._start(_channel(facts), f"SSH channel {kind}", time, ssh__channel__type=kind,
                    ssh__channel__id=facts.get("channel"))  # fmt: skip

    def _channel_open(self, facts: Mapping[str, Any], time: float) -> None:
        if _channel(facts) not in self._open:
            self._channel_opening(facts, time)

    def _channel_refused(self, facts: Mapping[str, Any], time: float) -> None:
        try:
            reason = OpenFailure(facts.get("reason", 0)).name.lower()
        except ValueError:
            reason = "other"
        self._end(_channel(facts), time, error=(reason, str(facts.get("description", ""))))

    def _variable(self, facts: Mapping[str, Any], time: float) -> None:
        span = self._open.get(_channel(facts))
        if span is not None and facts.get("accepted") and facts.get("name") == "TRACEPARENT":
            span.parent = self._sampled_as_ours(_context({"TRACEPARENT": str(facts.get("value"))}))

    def _sampled_as_ours(self, theirs: Context | None) -> Context | None:
        """The client's context, sampled as we are: what a server records is not the client's to say."""
        from opentelemetry import trace

        if theirs is None or self._root is None:
            return None
        named = trace.get_current_span(theirs).get_span_context()
        flags = self._root.get_span_context().trace_flags
        ours = trace.SpanContext(named.trace_id, named.span_id, is_remote=True, trace_flags=flags)
        return trace.set_span_in_context(trace.NonRecordingSpan(ours))

    def _session_started(self, facts: Mapping[str, Any], time: float) -> None:
        self._add(_channel(facts), ssh__session__kind=facts.get("kind"))
        if "command" in self._capture:
            self._add(_channel(facts), ssh__session__command=facts.get("command"))

    def _exit(self, facts: Mapping[str, Any], time: float) -> None:
        status, signal = facts.get("status"), facts.get("signal") or None
        self._add(_channel(facts), ssh__exit__status=status, ssh__exit__signal=signal)

    def _channel_closed(self, facts: Mapping[str, Any], time: float) -> None:
        sizes = {"ssh__channel__sent": facts.get("sent"), "ssh__channel__received": facts.get("received")}
        self._add(_channel(facts), **sizes)
        self._end(_channel(facts), time)

    # The end

    def _disconnect(self, facts: Mapping[str, Any], time: float) -> None:
        self._done = facts.get("reason") == BY_APPLICATION
        self._tell(ssh__disconnect__reason_code=facts.get("reason"))

    def _error_(self, facts: Mapping[str, Any], time: float) -> None:
        if not self._done:
            self._error = str(facts.get("type")), str(facts.get("text"))
        if not self._connected:  # nothing was begun that could tell its end
            self._finish(time)

    def _closed(self, facts: Mapping[str, Any], time: float) -> None:
        sizes = {
            "ssh__bytes__sent": facts.get("sent_bytes"),
            "ssh__bytes__received": facts.get("received_bytes"),
        }
        self._tell(**sizes)
        self._finish(time)

    _ACTS: Final = {
        "resolving": _resolving, "connecting": _resolving, "connected": _connected_, "accepted": _accepted,
        "identification_received": _identified, "kex_started": _kex_started, "negotiated": _negotiated,
        "host_key": _host_key, "kex_done": _kex_done, "auth_next": _auth_next, "auth_offer": _auth_offer,
        "auth_request": _auth_request, "auth_verdict": _auth_verdict, "auth_methods": _auth_methods,
        "auth_skipped": _auth_skipped, "authenticated": _authenticated, "channel_opening": _channel_opening,
        "channel_open": _channel_open, "channel_refused": _channel_refused, "variable": _variable,
        "session_started": _session_started, "session_ended": _exit, "exit_status": _exit,
        "channel_closed": _channel_closed, "disconnect": _disconnect, "error": _error_, "closed": _closed,
    }  # fmt: skip


DIAL: Final = ("dial", 0)
KEX: Final = ("kex", 0)
AUTH: Final = ("auth", 0)


def _channel(facts: Mapping[str, Any]) -> tuple[str, int]:
    return "channel", int(facts.get("channel", -1))


def _attributes(told: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes under their dotted names; what nothing is known of is left out."""
    return {
        name.replace("__", "."): value if isinstance(value, (bool, int, float)) else _text(value)
        for name, value in told.items()
        if value is not None
    }


def _text(value: Any) -> str:
    """Text that a collector takes, whoever said it: one lone surrogate would lose a whole batch of spans."""
    return visible(str(value)[:MAX_TEXT])


def _ends(facts: Mapping[str, Any]) -> dict[str, Any]:
    address = str(facts.get("address", ""))
    if facts.get("port") == 65535 and address == "UNKNOWN":  # no TCP socket
        return {}
    return {
        "network__peer__address": address, "network__peer__port": facts.get("port"),
        "network__local__address": facts.get("local_address"),
        "network__local__port": facts.get("local_port"),
        "network__type": "ipv6" if ":" in address else "ipv4",
    }  # fmt: skip


def _context(variables: Mapping[str, str]) -> Context | None:
    """The context that TRACEPARENT names, None without one or for one that is not well formed."""
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = {name.lower(): value for name, value in variables.items() if name in TRACE_VARIABLES}
    found = TraceContextTextMapPropagator().extract(carrier)
    return found if trace.get_current_span(found).get_span_context().is_valid else None


# ---- metrics


class _Meter:
    """The instruments of one provider, out of the table of measures."""

    def __init__(self, provider: MeterProvider) -> None:
        meter = provider.get_meter(SCOPE)
        self._instruments: dict[str, Any] = {}
        for measure, (name, unit) in INSTRUMENTS.items():
            kind, about = MEASURES[measure].kind, MEASURES[measure].about
            if kind == "time":
                made: Any = meter.create_histogram(
                    name, unit, about, explicit_bucket_boundaries_advisory=BUCKETS[measure]
                )
            elif kind == "level":
                made = meter.create_up_down_counter(name, unit, about)
            elif measure == "received":
                made = self._instruments["sent"]
            else:
                made = meter.create_counter(name, unit, "Bytes on sockets" if measure == "sent" else about)
            self._instruments[measure] = made

    def add(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        attributes = {LABELS[label]: text for label, text in labels.items()}
        if name in DIRECTIONS:
            attributes["network.io.direction"] = DIRECTIONS[name]
        if name == "errors":
            attributes["error.type"] = attributes.pop(LABELS["type"])
        instrument = self._instruments[name]
        if MEASURES[name].kind == "time":
            instrument.record(value, attributes)
        else:
            instrument.add(value, attributes)


@lru_cache(maxsize=8)
def _meter(provider: MeterProvider) -> _Meter:
    """One set of instruments for all connections of a provider."""
    return _Meter(provider)
