"""A stand-in for a model hub, on loopback: the repository `owner/name` at one commit, from a folder.

It speaks as much of the protocol as huggingface_hub asks for: what a repository is, and its files, whole or from a byte
on. `mode` makes it another: see `MODES`.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

NAME, COMMIT = "owner/name", "0123456789abcdef0123456789abcdef01234567"
# "gated": asks for its licence to be accepted; "missing": no such repository; "broken": an error of its own; "slow": no
# answer for as long as somebody waits; "cut": connections break in the middle of `spoilt`; "altered": so does a byte.
MODES = ("ok", "gated", "missing", "broken", "slow", "cut", "altered")


@dataclass
class Hub:
    folder: Path
    url: str = ""
    mode: str = "ok"
    spoilt: str = "model.safetensors"
    astray: tuple[str, ...] = ()  # names of files that are not there
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)  # method, path, headers
    ended: threading.Event = field(default_factory=threading.Event)

    def asked(self, path: str) -> list[dict[str, str]]:
        """The headers of each time that a file was asked for."""
        return [headers for method, asked, headers in self.seen if method == "GET" and asked.endswith(f"/{path}")]


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.hub.seen.append((self.command, path, {name.lower(): value for name, value in self.headers.items()}))
        if self.hub.mode == "slow":
            self.hub.ended.wait()
            return
        if self.hub.mode == "broken":
            return self._refuse(500, "")
        if self.hub.mode == "missing" or not path.removeprefix("/api/models").startswith(f"/{NAME}"):
            return self._refuse(404, "RepoNotFound")
        if path.startswith("/api/models/"):
            return self._describe(path)
        if self.hub.mode == "gated":
            return self._refuse(403, "GatedRepo")
        self._give(path.removeprefix(f"/{NAME}/resolve/{COMMIT}/"))

    def _describe(self, path: str) -> None:
        if path.rpartition("/revision/")[2] not in (path, COMMIT, "main"):
            return self._refuse(404, "RevisionNotFound")
        files = [file.relative_to(self.hub.folder).as_posix() for file in self.hub.folder.rglob("*") if file.is_file()]
        named = [*sorted(files), *self.hub.astray]
        answer = {"id": NAME, "sha": COMMIT, "siblings": [{"rfilename": name} for name in named]}
        self._answer(200, json.dumps(answer).encode(), {"content-type": "application/json"})

    def _give(self, name: str) -> None:
        whole = (self.hub.folder / name).read_bytes()
        start, end = 0, len(whole)
        if asked := self.headers.get("range", ""):
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last) + 1 if last else end, end)
        headers = {"etag": f'"{hashlib.sha256(whole).hexdigest()}"', "x-repo-commit": COMMIT, "accept-ranges": "bytes"}
        if asked:
            headers["content-range"] = f"bytes {start}-{end - 1}/{len(whole)}"
        mode = self.hub.mode if name == self.hub.spoilt else "ok"
        body = whole[start:end] if mode != "altered" else bytes(end - start)
        self._answer(206 if asked else 200, body, headers, cut=mode == "cut")

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, b"", {"x-error-code": code, "x-error-message": f"no: {status}"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str], *, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        return None


@contextmanager
def hub_standin(folder: Path) -> Iterator[Hub]:
    """The stand-in, on threads of this process until the block ends."""
    hub = Hub(folder)
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.ended.set()
            server.shutdown()
