"""Someone to be told of alerts: a webhook on loopback that remembers what it got, and hangs when asked to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Message = dict[str, Any]


class Webhook:
    """`messages`: those that were answered, in order; `hanging`: how many wait because `answers` is not set."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.messages: list[Message] = []
        self.answers = threading.Event()
        self.answers.set()
        self.hanging = 0

    def take(self, message: Message) -> None:
        self.hanging += 1
        self.answers.wait(60)
        self.hanging -= 1
        self.messages.append(message)

    def about(self, alert: str, status: str) -> list[Message]:
        """Messages whose group is this alert, `firing` or `resolved`."""
        return [m for m in self.messages if m["groupLabels"] == {"alertname": alert} and m["status"] == status]


@contextmanager
def webhook() -> Iterator[Webhook]:
    """Listens until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.take(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing on the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a caller that gave up while we hung
        received = Webhook(f"http://127.0.0.1:{server.server_port}/")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield received
        finally:
            received.answers.set()
            server.shutdown()
