"""Our own Label Studio: on loopback, in an environment of its own, with secrets that no process list shows."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from components.annotation.label_studio_client import TOKEN
from components.config import Params, load
from flows import environment, labelling, serve


def at(url: str) -> Params:
    params = load()
    return params.model_copy(update={"annotation": params.annotation.model_copy(update={"url": url})})


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Secrets of its own, an environment that is put back, and no installation."""
    monkeypatch.setattr(labelling, "TOKEN_FILE", tmp_path / "token")
    monkeypatch.setattr(labelling, "PASSWORD_FILE", tmp_path / "password")
    monkeypatch.setattr(labelling, "install", lambda: Path("label-studio"))
    monkeypatch.setattr(os, "environ", {name: value for name, value in os.environ.items() if name != TOKEN})
    return tmp_path


def test_the_program_listens_on_loopback_at_the_configured_port_and_shows_no_secret(state: Path) -> None:
    params = at("http://127.0.0.1:8099")
    command = serve.PROGRAMS["label-studio"](params)
    assert environment.ports(params)["label-studio"] == 8099
    assert environment.service_urls(params)["label-studio"] == "http://127.0.0.1:8099"
    assert ("--internal-host 127.0.0.1 --port 8099") in " ".join(command)
    token, password = ((state / name).read_text() for name in ("token", "password"))
    assert not {token, password} & set(command)
    assert (os.environ["LABEL_STUDIO_USER_TOKEN"], os.environ["LABEL_STUDIO_PASSWORD"]) == (token, password)
    assert os.environ["COLLECT_ANALYTICS"] == "false"
    assert stat.S_IMODE((state / "token").stat().st_mode) == 0o600


def test_our_own_servers_token_is_handed_over_and_nobody_elses_replaced(state: Path) -> None:
    labelling.provide_token(at("http://127.0.0.1:8080"))
    assert TOKEN not in os.environ  # nobody has started it yet
    (state / "token").write_text("ours")
    labelling.provide_token(at("https://labels.example.org"))
    assert TOKEN not in os.environ
    labelling.provide_token(at("http://localhost:8080"))
    assert os.environ[TOKEN] == "ours"
    os.environ[TOKEN] = "given"
    labelling.provide_token(at("http://127.0.0.1:8080"))
    assert os.environ[TOKEN] == "given"
    assert (
        labelling.begin(at("http://127.0.0.1:8080"))
        == f"the server at http://127.0.0.1:8080, with the token in {TOKEN}"
    )
