"""Answers of real servers on loopback, good and bad ones."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from monitoring.probes import look
from tests.bentos.processes import free_port

ANSWERS = {
    "/info": (200, b'{"line": "text", "deployment": "text-1"}'),
    "/readyz": (503, b'{"error": {"message": "no text model"}}'),
    "/-/ready": (200, b"ready"),
    "/api/v2/alerts": (200, b"<html>this is not Alertmanager</html>"),
    "/api/v1/query": (200, b'{"status": "error"}'),
    "/moved": (302, b""),
}


@pytest.fixture
def server() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = ANSWERS[self.path.partition("?")[0]]
            self.send_response(status)
            self.send_header("content-type", "application/json")
            if status == 302:
                self.send_header("location", "http://127.0.0.1:1/elsewhere")
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing on the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.handle_error = lambda *_: None  # type: ignore[method-assign]  # of four questions one was enough
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()


def test_each_service_s_answer_is_told_in_words(server: str) -> None:
    names = ("gateway", "text", "prefect", "prometheus", "alertmanager")
    paths = {"prefect": "/-/ready"}
    seen = look({name: server + paths.get(name, "/readyz") for name in names})
    assert seen["gateway"].problem == "answers with status 503"
    assert (seen["text"].problem, seen["text"].answer) == ("", "text-1")
    assert (seen["prefect"].problem, seen["prefect"].url) == ("", f"{server}/")
    assert seen["prometheus"].problem == "its answer is not understood (KeyError: 'data')"
    assert seen["alertmanager"].problem.startswith("its answer is not understood (JSONDecodeError")


@pytest.mark.parametrize("url", ["http://127.0.0.1:{}/", "no address", "http://127.0.0.1:99999/"])
def test_what_cannot_be_reached_is_an_answer_too(url: str) -> None:
    assert look({"mlflow": url.format(free_port())})["mlflow"].problem
