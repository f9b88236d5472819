"""What is measured of connections: one table, and what each record adds to it.

Where the figures go is the backend's: OpenTelemetry (`telemetry.py`) and Prometheus (`prometheus.py`) make
their instruments from the table. Labels have few values, whatever a peer sends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias

from ..messages.connection import CHANNEL_TYPES
from ..messages.transport import DisconnectReason
from ..observe.record import Record, StateRecord

__all__ = ["MEASURES", "OTHER", "Backend", "Measure", "Tally", "channel_type", "method_name"]

Kind: TypeAlias = Literal["count", "level", "time"]


class Measure(NamedTuple):
    """One figure: `count` only grows, `level` goes up and down, `time` is a distribution of seconds."""

    kind: Kind
    unit: str
    about: str
    labels: tuple[str, ...] = ()


MEASURES: Final[dict[str, Measure]] = {
    "connections": Measure("count", "", "Connections that were begun", ("role",)),
    "connections_open": Measure("level", "", "Connections that are open", ("role",)),
    "connection": Measure("time", "seconds", "How long connections lasted", ("role",)),
    "handshake": Measure("time", "seconds", "TCP connection to the end of the first key exchange", ("role",)),
    "login": Measure("time", "seconds", "TCP connection to the end of the login", ("role",)),
    "auth_attempts": Measure("count", "", "Requests to log in", ("role", "method", "result")),
    "sent": Measure("count", "bytes", "Bytes written to sockets", ("role",)),
    "received": Measure("count", "bytes", "Bytes read from sockets", ("role",)),
    "channels": Measure("count", "", "Channels that were asked for", ("role", "type", "result")),
    "channels_open": Measure("level", "", "Channels that are open", ("role", "type")),
    "sessions": Measure("count", "", "Programs that were started for clients", ("kind",)),
    "forwards": Measure("count", "", "Requests of clients to connect or to listen", ("kind", "result")),
    "rekeys": Measure("count", "", "Key exchanges after the first", ("role", "by")),
    "errors": Measure("count", "", "Connections that an error ended", ("role", "type")),
}
"""Everything that is measured. `result` is accepted, partial or refused for a login; open or refused for a
channel; allowed, failed or refused for a forward."""

BUCKETS: Final[dict[str, tuple[float, ...]]] = {
    "handshake": (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    "login": (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0),
    "connection": (0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0, 1800.0, 3600.0, 14400.0, 86400.0),
}
"""Upper bounds of each distribution, in seconds."""

BY_APPLICATION: Final = DisconnectReason.BY_APPLICATION.value
OTHER: Final = "other"
METHODS: Final = {
    "none": "none", "publickey": "publickey", "publickey-hostbound-v00@openssh.com": "publickey",
    "password": "password", "keyboard-interactive": "keyboard-interactive", "hostbased": "hostbased",
    "gssapi-with-mic": "gssapi-with-mic",
}  # fmt: skip


def method_name(method: object) -> str:
    """An authentication method as a label: those that are known, or `other`."""
    return METHODS.get(str(method), OTHER)


def channel_type(type: object) -> str:
    """A channel's type as a label: those that are known, or `other`."""
    return str(type) if str(type) in CHANNEL_TYPES else OTHER


class Backend(Protocol):
    """Where the figures go."""

    def add(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """Counts `value` more, moves a level by it, or observes it: as the measure's kind is."""
        ...


class Tally:
    """A sink that measures one connection. Bytes are those that the connection tells when it is over."""

    hears = frozenset({"states"})

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._role = "client"
        self._start: float | None = None
        self._open = False
        self._done = False
        """Whether one side has said that it needs the connection no more: what ends it then is no error."""
        self._method = "none"
        self._channels: dict[int, str] = {}

    def __call__(self, record: Record) -> None:
        """Takes one record."""
        if isinstance(record, StateRecord) and (act := self._ACTS.get(record.name)):
            act(self, record.facts, record.time)

    def _add(self, name: str, value: float = 1, /, **labels: str) -> None:
        if "role" in MEASURES[name].labels:
            labels["role"] = self._role
        self._backend.add(name, value, labels)

    def _started(self, facts: Mapping[str, Any], time: float) -> None:
        self._role = "server" if facts.get("role") == "server" else "client"

    def _connected(self, facts: Mapping[str, Any], time: float) -> None:
        self._start, self._open = time, True
        self._add("connections")
        self._add("connections_open")

    def _kex_started(self, facts: Mapping[str, Any], time: float) -> None:
        if not facts.get("first"):
            self._add("rekeys", by="us" if facts.get("by") == "us" else "peer")

    def _kex_done(self, facts: Mapping[str, Any], time: float) -> None:
        if facts.get("first"):
            self._since_start("handshake", time)

    def _since_start(self, name: str, time: float) -> None:
        if self._start is not None:
            self._add(name, time - self._start)

    # A client learns the verdict on the method it is at, a server tells its own.

    def _auth_next(self, facts: Mapping[str, Any], time: float) -> None:
        self._method = method_name(facts.get("method"))

    def _auth_methods(self, facts: Mapping[str, Any], time: float) -> None:
        self._attempt(self._method, "partial" if facts.get("partial") else "refused")

    def _auth_verdict(self, facts: Mapping[str, Any], time: float) -> None:
        result = "partial" if facts.get("partial") else "accepted" if facts.get("accepted") else "refused"
        self._attempt(method_name(facts.get("method")), result)

    def _authenticated(self, facts: Mapping[str, Any], time: float) -> None:
        if self._role == "client":
            self._attempt(method_name(facts.get("method")), "accepted")
        self._since_start("login", time)

    def _attempt(self, method: str, result: str) -> None:
        self._add("auth_attempts", method=method, result=result)

    def _channel_open(self, facts: Mapping[str, Any], time: float) -> None:
        kind = self._channels[facts.get("channel", -1)] = channel_type(facts.get("type"))
        self._add("channels", type=kind, result="open")
        self._add("channels_open", type=kind)

    def _channel_refused(self, facts: Mapping[str, Any], time: float) -> None:
        self._add("channels", type=channel_type(facts.get("type")), result="refused")

    def _channel_closed(self, facts: Mapping[str, Any], time: float) -> None:
        kind = self._channels.pop(facts.get("channel", -1), None)
        if kind is not None:
            self._add("channels_open", -1, type=kind)

    def _session_started(self, facts: Mapping[str, Any], time: float) -> None:
        self._add("sessions", kind=str(facts.get("kind")))

    def _forward_request(self, facts: Mapping[str, Any], time: float) -> None:
        result = "refused" if not facts.get("allowed") else "failed" if facts.get("reason") else "allowed"
        self._add("forwards", kind=str(facts.get("kind")), result=result)

    def _disconnect(self, facts: Mapping[str, Any], time: float) -> None:
        self._done = facts.get("reason") == BY_APPLICATION

    def _error(self, facts: Mapping[str, Any], time: float) -> None:
        if not self._done:
            self._add("errors", type=str(facts.get("type")))

    def _closed(self, facts: Mapping[str, Any], time: float) -> None:
        if not self._open:
            return
        self._open = False
        self._add("sent", facts.get("sent_bytes", 0))
        self._add("received", facts.get("received_bytes", 0))
        for kind in self._channels.values():
            self._add("channels_open", -1, type=kind)
        self._channels.clear()
        self._add("connections_open", -1)
        self._since_start("connection", time)

    _ACTS: Final = {
        "started": _started, "connected": _connected, "accepted": _connected, "kex_started": _kex_started,
        "kex_done": _kex_done, "auth_next": _auth_next, "auth_methods": _auth_methods,
        "auth_verdict": _auth_verdict, "authenticated": _authenticated, "channel_open": _channel_open,
        "channel_refused": _channel_refused, "channel_closed": _channel_closed,
        "session_started": _session_started, "forward_request": _forward_request, "disconnect": _disconnect,
        "error": _error, "closed": _closed,
    }  # fmt: skip
