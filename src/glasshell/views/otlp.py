"""`--otel`: telemetry set up by the environment variables of OpenTelemetry, sent by OTLP over gRPC.

Known are OTEL_TRACES_EXPORTER and OTEL_METRICS_EXPORTER (otlp, console, none), everything the SDK and its
exporter read by themselves (OTEL_EXPORTER_OTLP_ENDPOINT, _HEADERS, _CERTIFICATE, OTEL_RESOURCE_ATTRIBUTES,
OTEL_TRACES_SAMPLER, OTEL_BSP_..., OTEL_METRIC_EXPORT_INTERVAL, OTEL_SDK_DISABLED), and of our own
GLASSHELL_OTEL_CAPTURE: which of `user` and `command` may be told.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from ..errors import ConfigError, install
from ..wire import visible
from .telemetry import CAPTURE, TRACE_VARIABLES, Telemetry, need

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider

__all__ = ["check_environment", "open_telemetry"]

SERVICE: Final = "glasshell"
TIMEOUT: Final = 2.0
"""Seconds that one export may take: a collector that is away shall not keep a client from its end."""
EXPORTERS: Final = ("otlp", "console", "none")


def open_telemetry(warn: Callable[[str], object]) -> Telemetry:
    """A sink for one connection; the exporters are those of the process. `warn` hears what they complain of.

    Raises ConfigError without the packages, and for an exporter that there is not.
    """
    capture = check_environment()
    tracer_provider, meter_provider = _providers(warn)
    parent = {name: os.environ[name] for name in TRACE_VARIABLES if name in os.environ}
    return Telemetry(tracer_provider, meter_provider, capture=capture, parent=parent)


def check_environment() -> frozenset[str]:
    """What may be told beside the rest. Raises ConfigError as `open_telemetry` would."""
    need()
    for signal in ("TRACES", "METRICS"):
        _wanted(signal)
    capture = frozenset(os.environ.get("GLASSHELL_OTEL_CAPTURE", "").replace(" ", "").split(",")) - {""}
    if unknown := capture - CAPTURE:
        raise ConfigError(
            f"GLASSHELL_OTEL_CAPTURE names {visible(', '.join(sorted(unknown)))}; "
            f"there are {', '.join(sorted(CAPTURE))}"
        )
    return capture


@lru_cache(maxsize=1)
def _providers(warn: Callable[[str], object]) -> tuple[TracerProvider, MeterProvider]:
    """The process's own, ended with it: what is left is sent then."""
    # A server starts programs: gRPC's own handlers of fork(2) would be in their way.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    traces, metrics = _wanted("TRACES"), _wanted("METRICS")
    _listen(warn)
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    resource = Resource.create(_service(os.environ))
    tracer_provider = TracerProvider(resource=resource)
    for name in traces:
        tracer_provider.add_span_processor(_span_processor(name))
    readers = [_metric_reader(name) for name in metrics]
    return tracer_provider, MeterProvider(readers, resource=resource)


def _service(environment: Mapping[str, str]) -> dict[str, Any]:
    named = "OTEL_SERVICE_NAME" in environment
    named = named or "service.name=" in environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return {} if named else {"service.name": SERVICE}


def _wanted(signal: str) -> list[str]:
    """The exporters of one signal. Raises ConfigError."""
    names = [each.strip() for each in os.environ.get(f"OTEL_{signal}_EXPORTER", "otlp").split(",")]
    for name in names:
        if name not in EXPORTERS:
            raise ConfigError(
                f"OTEL_{signal}_EXPORTER names {visible(name)!r}; there are {', '.join(EXPORTERS)}"
            )
    general = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    protocol = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", general)
    if "otlp" in names and protocol not in (None, "", "grpc"):
        raise ConfigError(
            f"OTLP by {visible(protocol)} is not there", hint="OTEL_EXPORTER_OTLP_PROTOCOL=grpc, port 4317"
        )
    return [name for name in names if name != "none"]


def _timeout(signal: str) -> float | None:
    """None: the exporter reads it from the environment."""
    names = ("OTEL_EXPORTER_OTLP_TIMEOUT", f"OTEL_EXPORTER_OTLP_{signal}_TIMEOUT")
    return None if any(name in os.environ for name in names) else TIMEOUT


def _span_processor(name: str) -> Any:
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SimpleSpanProcessor

    if name == "console":
        return SimpleSpanProcessor(ConsoleSpanExporter(out=sys.stderr))
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    except ImportError:
        raise _no_exporter() from None
    return BatchSpanProcessor(OTLPSpanExporter(timeout=_timeout("TRACES")))


def _metric_reader(name: str) -> Any:
    from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader

    if name == "console":
        return PeriodicExportingMetricReader(ConsoleMetricExporter(out=sys.stderr))
    try:
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    except ImportError:
        raise _no_exporter() from None
    return PeriodicExportingMetricReader(OTLPMetricExporter(timeout=_timeout("METRICS")))


def _no_exporter() -> ConfigError:
    return ConfigError("the OTLP exporter is not installed", hint=install("otel"))


class _Complaints(logging.Handler):
    """Passes the first complaint of the exporters on: at the end where it would spoil a terminal."""

    def __init__(self, warn: Callable[[str], object]) -> None:
        super().__init__(logging.WARNING)
        self._warn = warn
        self._first = ""

    def emit(self, record: logging.LogRecord) -> None:
        if not self._first:
            self._first = f"--otel: {visible(record.getMessage())}"
            if not sys.stderr.isatty():
                self._warn(self._first)

    def at_exit(self) -> None:
        if self._first and sys.stderr.isatty():
            self._warn(self._first)


def _listen(warn: Callable[[str], object]) -> None:
    logger = logging.getLogger("opentelemetry")
    complaints = _Complaints(warn)
    logger.addHandler(complaints)
    logger.propagate = False
    atexit.register(complaints.at_exit)  # before the providers register their own: after them at the end
