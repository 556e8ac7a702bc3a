"""A real Label Studio server for the session: installed once from its lock, on a free loopback port."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "infra" / "locks" / "label-studio.txt"
HOME = ROOT / ".atelier" / "label-studio-venv"
# Nothing is sent to anyone: no error reports, no usage figures, no look for a newer version, no remote flags.
SETTINGS = {
    "COLLECT_ANALYTICS": "false",
    "FEATURE_FLAGS_OFFLINE": "true",
    "FRONTEND_SENTRY_DSN": "",
    "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
    "LATEST_VERSION_CHECK": "false",
    "SENTRY_DSN": "",
}


@dataclass(frozen=True)
class Server:
    url: str
    token: str


def install() -> Path:
    """The command of an environment that holds exactly the lock; made again where the lock has changed."""
    stamp = HOME / "lock.txt"
    if not stamp.exists() or stamp.read_bytes() != LOCK.read_bytes():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(HOME)], check=True)
        pip = [str(HOME / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*pip, "--no-deps", "-r", str(LOCK)], check=True)
        stamp.write_bytes(LOCK.read_bytes())
    return HOME / "bin" / "label-studio"


@pytest.fixture(scope="session")
def label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with one account, whose token is `token`."""
    folder = tmp_path_factory.mktemp("label-studio")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Server(f"http://127.0.0.1:{port}", secrets.token_hex(20))
    account = ["--username", "simulated@example.org", "--password", secrets.token_hex(8), "--user-token", server.token]
    address = ["--internal-host", "127.0.0.1", "--port", str(port), "--data-dir", str(folder / "data")]
    command = [str(install()), "start", "--no-browser", *address, *account]
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=os.environ | SETTINGS, stdout=output, stderr=subprocess.STDOUT)
        try:
            await_answer(server.url, process, log)
            yield server
        finally:
            process.terminate()
            process.wait(timeout=30)


def await_answer(url: str, process: subprocess.Popen[bytes], log: Path, limit: float = 240.0) -> None:
    end = time.monotonic() + limit
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.2)  # polling another process: there is nothing to wait on
    raise AssertionError(f"Label Studio did not answer at {url}; its log ends:\n{log.read_text()[-2000:]}")
