"""A collector of OpenTelemetry for tests: an OTLP server over gRPC that keeps what it is sent."""

from __future__ import annotations

import threading
from concurrent import futures
from typing import Any, Self

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as traces_grpc

PATIENCE = 20.0


class Collector(traces_grpc.TraceServiceServicer, metrics_grpc.MetricsServiceServicer):
    """Listens at a free port of the loopback interface; `endpoint` is for OTEL_EXPORTER_OTLP_ENDPOINT."""

    def __init__(self) -> None:
        self.spans: list[tuple[dict[str, Any], Any]] = []
        """(attributes of the resource, span)."""
        self.metrics: dict[str, Any] = {}
        """The newest of each name."""
        self._changed = threading.Condition()
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
        traces_grpc.add_TraceServiceServicer_to_server(self, self._server)
        metrics_grpc.add_MetricsServiceServicer_to_server(self, self._server)
        self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait(PATIENCE)

    def wait_for(self, name: str) -> Any:
        """The first span of that name, once it has come."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.named(name), PATIENCE), sorted(self.names)
            return self.named(name)[0]

    def named(self, name: str) -> list[Any]:
        return [span for _, span in self.spans if span.name == name]

    @property
    def names(self) -> set[str]:
        return {span.name for _, span in self.spans}

    # The services, under the names that OTLP gives them

    def Export(self, request: Any, context: object) -> Any:  # noqa: N802
        with self._changed:
            self._changed.notify_all()
            if isinstance(request, traces.ExportTraceServiceRequest):
                for resource in request.resource_spans:
                    about = values(resource.resource.attributes)
                    self.spans += [(about, s) for scope in resource.scope_spans for s in scope.spans]
                return traces.ExportTraceServiceResponse()
            for resource in request.resource_metrics:
                self.metrics |= {m.name: m for scope in resource.scope_metrics for m in scope.metrics}
            return metrics.ExportMetricsServiceResponse()


def values(attributes: Any) -> dict[str, Any]:
    """The attributes of a protocol buffer as a dictionary."""
    return {each.key: getattr(each.value, str(each.value.WhichOneof("value"))) for each in attributes}
