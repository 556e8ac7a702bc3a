"""`atelier serve`: which command each program becomes, with which environment, and what it refuses."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from components.config import load
from components.endpoint_keys import key_of
from components.stage import StageError
from flows import environment, program_environment, serve, stack
from tests.components.events.examples import DEPLOYMENT


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty `.atelier`, and an environment that is put back afterwards."""
    monkeypatch.setattr(serve, "STATE", tmp_path)
    monkeypatch.setattr(stack, "STATE", tmp_path)
    (tmp_path / "deployed").mkdir()
    with mock.patch.dict(os.environ):
        for name in [name for name in os.environ if name.startswith("ATELIER_")]:
            del os.environ[name]
        yield tmp_path


@pytest.mark.parametrize("program", ["text", "text-b"])
def test_a_model_bento_is_told_its_deployment_and_its_programs_port(state: Path, program: str) -> None:
    stack.place(program, DEPLOYMENT)
    command = serve.PROGRAMS[program](load())
    assert command[1:4] == ["-m", "_bentoml_impl.worker.service", DEPLOYMENT.bento]
    with socket.socket(fileno=int(command[command.index("--fd") + 1])) as bound:
        assert bound.getsockname() == (load().serving.host, environment.ports(load())[program])
    assert os.environ["ATELIER_DEPLOYMENT"] == DEPLOYMENT.deployment


@pytest.mark.parametrize(("bento", "key"), [("atelier-endpoint:1", "new"), ("atelier-text:1", "")])
def test_the_newest_key_of_an_endpoint_reaches_the_bento_that_asks_it_alone(
    state: Path, monkeypatch: pytest.MonkeyPatch, bento: str, key: str
) -> None:
    """Whatever the supervisor, and so its programs, had in the environment when it was started."""
    monkeypatch.setattr(environment, "STATE", state)
    params = load()
    text = params.base.text.model_copy(update={"endpoint": "https://api.example.com/v1"})
    params = params.model_copy(update={"base": params.base.model_copy(update={"text": text})})
    for given in ("old", "new", ""):
        os.environ["ATELIER_ENDPOINT_KEY"] = given
        environment.keep_endpoint_key(params)
    os.environ["ATELIER_ENDPOINT_KEY"] = "of the supervisor"
    stack.place("text", DEPLOYMENT.model_copy(update={"bento": bento}))
    command = serve.PROGRAMS["text"](load())
    os.close(int(command[command.index("--fd") + 1]))
    seen = program_environment.environment_of("text")
    assert "ATELIER_ENDPOINT_KEY" not in seen
    with mock.patch.dict(os.environ, seen, clear=True):  # as the Bento's process has it
        assert key_of("https://api.example.com/v1") == key
        assert key_of("https://api.example.org/v1") == ""  # another provider's
    (kept,) = (state / "endpoint-keys").iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_a_gateway_is_told_where_the_models_answer_and_nothing_it_does_not_read(state: Path) -> None:
    (state / "deployed" / "gateway.txt").write_text("atelier-gateway:abc\n")
    command = serve.gateway(load())
    os.close(int(command[command.index("--fd") + 1]))
    assert command[3] == "atelier-gateway:abc"
    urls = environment.service_urls(load())
    assert {name: value for name, value in os.environ.items() if name.startswith("ATELIER_")} == {
        "ATELIER_TEXT_URL": f"{urls['text']},{urls['text-b']}",
        "ATELIER_IMAGE_URL": f"{urls['image']},{urls['image-b']}",
        "ATELIER_API_KEYS_FILE": str(state / environment.ACCEPTED_KEYS),
        "ATELIER_EVENTS_URL": f"sqlite:///{environment.ROOT / '.atelier' / 'events.db'}",
    }


def test_30_a_gateway_that_is_started_by_a_release_alone_accepts_the_keys_of_its_environment(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "STATE", state)
    monkeypatch.setenv("ATELIER_API_KEYS", "default:mine")
    (state / "deployed" / "gateway.txt").write_text("atelier-gateway:abc")
    command = serve.gateway(load())
    os.close(int(command[command.index("--fd") + 1]))
    assert Path(program_environment.environment_of("gateway")["ATELIER_API_KEYS_FILE"]).read_text() == "default:mine"


@pytest.mark.parametrize("program", ["text", "image-b", "gateway"])
def test_what_was_never_released_is_refused_with_the_command_that_helps(state: Path, program: str) -> None:
    with pytest.raises(StageError, match=f"no {program} .*is deployed yet; run `atelier release start`"):
        serve.PROGRAMS[program](load())


def test_only_relative_sqlite_files_become_absolute() -> None:
    assert serve.absolute("sqlite:///a/b.db") == f"sqlite:///{environment.ROOT}/a/b.db"
    for url in ("sqlite:////a/b.db", "postgresql://me:word@host/events", "sqlite://", "sqlite:///:memory:"):
        assert serve.absolute(url) == url


def test_the_process_becomes_the_program() -> None:
    code = """
import os, sys
from components.config import load
from flows import serve
tell = "import os; print(os.getpid(), os.environ['PREFECT_API_URL'])"
serve.PROGRAMS["echo"] = lambda params: [sys.executable, "-c", tell]
print(os.getpid(), flush=True)
serve.serve("echo", load())
"""
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, cwd=environment.ROOT, capture_output=True, text=True, check=True)
    before, after, url = ended.stdout.split()
    assert before == after  # supervisor's signals reach the program itself
    assert url == environment.service_urls(load())["prefect"] + "/api"
