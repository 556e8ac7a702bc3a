from __future__ import annotations

import pytest
from opentelemetry import trace
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from bentos import tracing
from bentos.calls import Calls, current, outgoing

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def told(_: Request) -> JSONResponse:
    """What a model Bento would be told, and the id of the request."""
    call = current()
    assert call is not None
    with outgoing("upstream") as headers:
        return JSONResponse(headers | {"id": call.id})


def client(public: bool) -> TestClient:
    return TestClient(Calls(Starlette(routes=[Route("/generate", told)]), ["/generate"], public))


def test_without_an_endpoint_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("", "TRACES_"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{kind}ENDPOINT", raising=False)
    before = trace.get_tracer_provider()
    tracing.start("atelier-test")
    assert trace.get_tracer_provider() is before
    assert not tracing.tracer.start_span("nothing").is_recording()
    tracing.stop()


def test_a_callers_trace_is_passed_on_even_when_nothing_is_exported() -> None:
    assert client(public=True).get("/generate", headers={"traceparent": PARENT}).json()["traceparent"] == PARENT


def test_a_model_bento_takes_the_gateways_id_and_the_gateway_takes_nobodys() -> None:
    headers = {"x-request-id": "chatcmpl-7"}
    assert client(public=False).get("/generate", headers=headers).json()["id"] == "chatcmpl-7"
    assert client(public=True).get("/generate", headers=headers).json()["id"].startswith("req-")


@pytest.mark.parametrize("bad", ["", "nonsense", "00-0-0-00", "x" * 10_000])
def test_a_bad_traceparent_harms_nothing(bad: str) -> None:
    assert client(public=True).get("/generate", headers={"traceparent": bad}).status_code == 200
