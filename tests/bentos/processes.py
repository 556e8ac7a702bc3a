"""Real server processes for tests: on free ports, with an environment of their own, awaited, and ended by PID."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from components.config.document import read_yaml, write_yaml

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 90


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def workspace(folder: Path, experiment: Mapping[str, Any] | None = None, **serving: Any) -> Path:
    """A folder to serve from: the project's params.yaml with these parameters of serving and its experiment changed.

    Prompts may be as long as the tiny model's context.
    """
    document = read_yaml(ROOT / "params.yaml")
    document["serving"] |= {"text_max_prompt_tokens": None} | serving
    document["experiments"][0] |= experiment or {}
    folder.mkdir(parents=True, exist_ok=True)
    write_yaml(folder / "params.yaml", document)
    return folder


@contextmanager
def running(
    command: list[str], cwd: Path, url: str, environment: Mapping[str, str], *, stops: bool = True
) -> Iterator[str]:
    """Run `command` until the block ends; enters once `url` answers 200. Its output goes to `<cwd>/server.log`.

    A server that does not stop when it is told to is killed, and is an error where one expects it to stop (`stops`).
    """
    home = {"BENTOML_HOME": str(cwd / "bentoml"), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    log = cwd / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=os.environ | home | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        await_answer(process, url, log)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if stops:
                raise AssertionError(f"the server did not stop:\n{log.read_text()[-4000:]}") from error


def await_answer(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    for attempt in Retrying(
        stop=stop_after_delay(START_SECONDS),
        wait=wait_fixed(0.1),
        retry=retry_if_exception_type(httpx.HTTPError),
        reraise=True,
    ):
        with attempt:
            assert process.poll() is None, f"the server ended:\n{log.read_text()[-4000:]}"
            httpx.get(url, timeout=5).raise_for_status()


def answering(url: str) -> int:
    """The id of the process that answers there, whatever stands over it."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port or 80), timeout=20) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
        connection.recv(65_536)  # so that it was accepted
        ours = connection.getsockname()
        others = psutil.net_connections("tcp")
        return next(other.pid for other in others if other.pid and other.raddr and tuple(other.raddr) == ours)


# As the stack starts it (`flows/serve.py`): `python -m bentos` would import the service once more, to check first.
BECOME = """
import os, sys
from bentos.process import bind, command
worker = command(sys.argv[1], bind("127.0.0.1", int(sys.argv[2])))
os.execv(worker[0], worker)
"""


def bento_command(service: str, port: int) -> list[str]:
    """A Bento under BentoML's own master, as its image runs it."""
    return [sys.executable, "-m", "bentoml", "serve", service, "--host", "127.0.0.1", "--port", str(port)]


def process_command(service: str, port: int) -> list[str]:
    """The same Bento as one process, which is how the stack runs it."""
    return [sys.executable, "-c", BECOME, service, str(port)]
