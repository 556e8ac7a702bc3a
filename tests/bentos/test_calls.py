"""What is logged and traced of a request, by the real gateway in front of a real text Bento; the collector is ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from components.events.read import finished, request
from tests.bentos.collector import Receiver, attributes, receiving
from tests.bentos.gateway.conftest import KEY, Running, serve_gateway, standin
from tests.bentos.processes import bento_command, free_port, running, workspace

SECRET = "a-very-private-boat"
patiently = retry(
    stop=stop_after_delay(10), wait=wait_fixed(0.05), retry=retry_if_exception_type(AssertionError), reraise=True
)


@dataclass(frozen=True)
class Traced:
    """A gateway and a text Bento that export their spans, and the logs of both."""

    gateway: Running
    receiver: Receiver
    folder: Path

    @patiently
    def line(self, process: str, request_id: str) -> dict[str, Any]:
        """The one line on a request, which is written after the last byte of its answer."""
        logged = (self.folder / process / "server.log").read_text().splitlines()
        found = [json.loads(line) for line in logged if line.startswith("{")]
        lines = [line for line in found if line["request_id"] == request_id]
        assert len(lines) == 1
        return lines[0]


@pytest.fixture(scope="module")
def traced(standin: str, tiny_export: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    folder, port = tmp_path_factory.mktemp("traced"), free_port()
    url = f"http://127.0.0.1:{port}"
    with receiving() as receiver:
        exported = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        environment = {"ATELIER_TEXT_ARTIFACT": str(tiny_export), "ATELIER_DEPLOYMENT": "text-7"} | exported
        command = bento_command("bentos.text.service:TextBento", port)
        with (
            running(command, workspace(folder / "text"), f"{url}/readyz", environment),
            serve_gateway(folder / "gateway", standin, url, f"{standin}/image", variables=exported) as gateway,
        ):
            yield Traced(gateway, receiver, folder)


def ask(traced: Traced, **more: object) -> tuple[str, str]:
    """The id and the trace of a request for a short answer."""
    body = {"model": "atelier-text", "messages": [{"role": "user", "content": SECRET}], "max_tokens": 4, "user": "Eve"}
    answer = traced.gateway.post("/v1/chat/completions", json=body | more)
    assert answer.status_code == 200, answer.text
    request_id = answer.headers["x-request-id"]
    return request_id, traced.line("gateway", request_id)["trace_id"]


@pytest.mark.parametrize("stream", [False, True])
def test_one_id_from_the_client_to_the_model_process_and_the_events(traced: Traced, stream: bool) -> None:
    request_id, trace = ask(traced, stream=stream)
    gateway, text = traced.line("gateway", request_id), traced.line("text", request_id)
    event, end = request(traced.gateway.events, request_id), finished(traced.gateway.events, request_id)
    assert event and end
    assert (gateway["route"], text["route"]) == ("/v1/chat/completions", "/stream" if stream else "/generate")
    assert gateway["trace_id"] == text["trace_id"] == trace
    assert gateway["deployment"] == text["deployment"] == event["deployment"] == "text-7"
    assert gateway["variant"] == event["variant"] != ""
    assert (gateway["status"], gateway["outcome"]) == (end["status"], end["outcome"]) == (200, "ok")
    assert gateway["batch_size"] == text["batch_size"] == end["batch_size"] == 1
    assert gateway["latency_s"] >= text["latency_s"] > 0


def test_one_trace_through_both_processes(traced: Traced) -> None:
    request_id, trace = ask(traced)
    expected = {
        "atelier-gateway: POST /v1/chat/completions": "",
        "atelier-gateway: admission": "atelier-gateway: POST /v1/chat/completions",
        "atelier-gateway: upstream text generate": "atelier-gateway: POST /v1/chat/completions",
        "atelier-text: POST /generate": "atelier-gateway: upstream text generate",
        "atelier-text: generation": "atelier-text: POST /generate",
    }

    @patiently
    def arrived() -> dict[str, Span]:
        spans = traced.receiver.of_trace(trace)
        assert spans.keys() == expected.keys()
        return spans

    spans = arrived()
    assert {name: span.parent_span_id for name, span in spans.items()} == {
        name: spans[parent].span_id if parent else b"" for name, parent in expected.items()
    }
    assert {attributes(span).get("atelier.request_id", request_id) for span in spans.values()} == {request_id}
    root = attributes(spans["atelier-gateway: POST /v1/chat/completions"])
    assert root["atelier.deployment"] == "text-7"
    assert root["atelier.variant"] and root["atelier.batch_size"] == 1
    assert SECRET not in str(traced.receiver.spans) and KEY not in str(traced.receiver.spans)


def test_neither_prompt_nor_key_nor_user_is_logged(traced: Traced) -> None:
    ask(traced)
    for process in ("gateway", "text"):
        logged = (traced.folder / process / "server.log").read_text()
        assert not [word for word in (SECRET, KEY, "Eve") if word in logged]


def test_a_refusal_is_logged_under_the_id_that_its_sender_sees(traced: Traced) -> None:
    answer = traced.gateway.post("/v1/feedback", key="wrong", json={}, params={"x": SECRET})
    line = traced.line("gateway", answer.headers["x-request-id"])
    assert (line["route"], line["status"], line["outcome"]) == ("/v1/feedback", 401, "error")
    answer = traced.gateway.post(f"/{SECRET}")
    line = traced.line("gateway", answer.headers["x-request-id"])
    assert (line["route"], line["status"]) == ("other", 404)


def test_polls_are_neither_logged_nor_traced(traced: Traced) -> None:
    ask(traced)
    routes = {span.name for _, span in traced.receiver.spans}
    assert not [name for name in routes if "info" in name or "metrics" in name or "readyz" in name]


__all__ = ["standin"]
