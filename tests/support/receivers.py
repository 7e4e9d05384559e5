"""Receivers of signals on loopback: a statsd socket, an OpenTelemetry collector over HTTP, a file of lineage events."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Sample:
    """One number that a metrics backend was sent."""

    name: str
    tags: dict[str, str]
    value: float
    kind: str


class Statsd:
    """A UDP socket that keeps what it is sent, in the format of Influx: `name,tag=value:1|c`."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._socket.settimeout(0.2)

    @property
    def port(self) -> int:
        return self._socket.getsockname()[1]

    @property
    def environment(self) -> dict[str, str]:
        """What Airflow is told to send here."""
        return {
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__STATSD_PORT": str(self.port),
            "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
        }

    def read(self) -> list[Sample]:
        """Everything that has arrived."""
        samples = []
        while True:
            try:
                samples += [sample_of(line) for line in self._socket.recv(65536).decode().splitlines()]
            except TimeoutError:
                return samples

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def sample_of(line: str) -> Sample:
    stat, _, rest = line.partition(":")
    value, kind = rest.split("|")[:2]
    name, *tags = stat.split(",")
    return Sample(name.removeprefix("airflow."), dict(tag.split("=", 1) for tag in tags), float(value), kind)


@dataclass(frozen=True)
class SentSpan:
    """One span that a collector was sent."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    seconds: float


@dataclass
class Collector:
    """An OpenTelemetry collector that keeps what it is sent; `refusals` counts what it answered with an error."""

    is_broken: bool = False
    spans: list[SentSpan] = field(default_factory=list)
    metrics: list[Sample] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """Where OpenTelemetry sends to."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self._server.server_port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_TRACES_EXPORTER": "otlp_proto_http",
        }

    def span(self, name: str) -> SentSpan:
        """The one span of this name."""
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def take(self, path: str, body: bytes) -> None:
        self.bodies.append(body)
        if path.endswith("/traces"):
            self.spans += spans_of(body)
        else:
            self.metrics += metrics_of(body)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                if collector.is_broken:
                    collector.refusals[self.path] += 1
                else:
                    collector.take(self.path, body)
                self.send_response(400 if collector.is_broken else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Tests read what arrived."""

        return Handler


def spans_of(body: bytes) -> list[SentSpan]:
    sent = ExportTraceServiceRequest.FromString(body)
    return [
        SentSpan(
            name=span.name,
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex(),
            attributes=attributes_of(span.attributes),
            seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
        )
        for resource in sent.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def metrics_of(body: bytes) -> list[Sample]:
    sent = ExportMetricsServiceRequest.FromString(body)
    return [
        Sample(metric.name, attributes_of(point.attributes), point.as_int or point.as_double, kind)
        for resource in sent.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for kind in ("sum", "gauge")
        for point in getattr(metric, kind).data_points
    ]


def attributes_of(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


def lineage_events(path: Path) -> list[dict[str, Any]]:
    """The events of OpenLineage's file transport, oldest first."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
