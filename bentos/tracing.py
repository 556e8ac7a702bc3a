"""Traces by OpenTelemetry, off unless OTEL_EXPORTER_OTLP_ENDPOINT (or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) is set.

All else is OpenTelemetry's own, by its standard variables: OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG,
OTEL_RESOURCE_ATTRIBUTES, OTEL_SDK_DISABLED. BentoML's own tracing is not used: it reads none of them, and makes a span
of every chunk of a stream and of every poll.
"""

from __future__ import annotations

import os

from opentelemetry import trace

# Makes spans that cost and do nothing until `start` has found somewhere to send them.
tracer = trace.get_tracer("atelier")


def start(service: str) -> None:
    """Export this process's spans over OTLP/HTTP as those of `service`; to be called once, in the serving process."""
    if not any(os.environ.get(f"OTEL_EXPORTER_OTLP_{kind}ENDPOINT") for kind in ("", "TRACES_")):
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def stop() -> None:
    """Send what waits; to be called at shutdown, as uvicorn ends by a signal, which runs no `atexit`."""
    shutdown = getattr(trace.get_tracer_provider(), "shutdown", None)
    if shutdown is not None:
        shutdown()
