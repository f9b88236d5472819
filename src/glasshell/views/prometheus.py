"""Metrics for Prometheus: what `tally.MEASURES` names, in a registry of one's own (extra `prometheus`).

    metrics = Metrics()
    serving = glasshell.serve(..., sinks=lambda peer: [metrics.sink()])

Names have base units, counters end in `_total`, and no label bears a user, an address or anything else of
which there may be many. Bytes of connections that are open are read where they are counted anyway, when
somebody scrapes: see `Metrics.live`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..errors import ConfigError, install
from .tally import BUCKETS, MEASURES, Measure, Tally

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import CounterMetricFamily

__all__ = ["Live", "Metrics"]

PREFIX: Final = "glasshell"
BYTES: Final = ("sent", "received")
"""The measures that grow while a connection is open, without a record for each step."""


class Live(NamedTuple):
    """What is read at a scrape: bytes of the open connections, and connections shut before they began."""

    sent: int = 0
    received: int = 0
    dropped: int = 0


class Metrics:
    """The figures of any number of connections, as Prometheus wants them.

    `live` gives what only the server knows; without it the bytes of a connection are counted when it is
    over. Raises ConfigError without the package prometheus_client.
    """

    def __init__(self, live: Callable[[], Live] = Live) -> None:
        try:
            from prometheus_client import CollectorRegistry
        except ImportError:
            raise ConfigError("prometheus_client is not installed", hint=install("prometheus")) from None
        self.registry: CollectorRegistry = CollectorRegistry()
        self.live = live
        self._ended: dict[tuple[str, str], float] = {}
        self._instruments = {
            name: _instrument(name, measure, self.registry)
            for name, measure in MEASURES.items()
            if name not in BYTES
        }
        self.registry.register(_AtScrape(self._bytes))

    def sink(self) -> Tally:
        """A sink for one connection."""
        return Tally(self)

    def add(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """For `Tally`: counts, moves or observes."""
        if name in BYTES:
            key = name, labels["role"]
            self._ended[key] = self._ended.get(key, 0) + value
            return
        instrument = self._instruments[name].labels(**labels)
        if MEASURES[name].kind == "time":
            instrument.observe(value)
        else:
            instrument.inc(value)

    def page(self, accept: str = "") -> tuple[str, bytes]:
        """The answer to a scrape that accepts `accept`: its content type, and the text."""
        from prometheus_client.exposition import choose_encoder

        try:
            encode, content_type = choose_encoder(accept)
        except Exception:  # whatever its parser raises on what anybody may ask for
            encode, content_type = choose_encoder("")
        return content_type, encode(self.registry)

    def _bytes(self) -> Iterator[CounterMetricFamily]:
        from prometheus_client.core import CounterMetricFamily

        live = self.live()
        for name in BYTES:
            measure = MEASURES[name]
            family = CounterMetricFamily(_name(name, measure), measure.about, labels=["role"])
            roles = {role for each, role in self._ended if each == name} | {"server"}
            for role in sorted(roles):
                running = getattr(live, name) if role == "server" else 0
                family.add_metric([role], self._ended.get((name, role), 0) + running)
            yield family
        about = "Connections shut at once because too many were waiting to log in"
        dropped = CounterMetricFamily(f"{PREFIX}_connections_dropped", about)
        dropped.add_metric([], live.dropped)
        yield dropped


class _AtScrape:
    """A collector of the registry that asks when it is asked."""

    def __init__(self, collect: Callable[[], Iterable[Any]]) -> None:
        self.collect = collect


def _name(name: str, measure: Measure) -> str:
    return "_".join(filter(None, (PREFIX, name, measure.unit)))


def _instrument(name: str, measure: Measure, registry: CollectorRegistry) -> Any:
    from prometheus_client import Counter, Gauge, Histogram

    called = _name(name, measure)
    if measure.kind == "time":
        buckets = BUCKETS[name]
        return Histogram(called, measure.about, measure.labels, registry=registry, buckets=buckets)
    kind = Counter if measure.kind == "count" else Gauge
    return kind(called, measure.about, measure.labels, registry=registry)
