"""Our own Label Studio: on loopback, in an environment of its own, with secrets that no process list shows."""

from __future__ import annotations

import os
import secrets
import socket
import stat
from pathlib import Path

import httpx
import pytest
from label_studio_sdk import LabelStudio

from components.annotation.label_studio import TOKEN
from components.config import Params, load
from flows import environment, labelling_server, serve
from tests.components.annotation.simulated import sign_up
from tests.label_studio_server import Server

CONFIG = '<View><Text name="text" value="$text"/></View>'


def at(url: str) -> Params:
    params = load()
    return params.model_copy(update={"annotation": params.annotation.model_copy(update={"url": url})})


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Secrets of its own, an environment that is put back, and no installation."""
    monkeypatch.setattr(labelling_server, "TOKEN_FILE", tmp_path / "token")
    monkeypatch.setattr(labelling_server, "PASSWORD_FILE", tmp_path / "password")
    monkeypatch.setattr(labelling_server, "install", lambda: Path("label-studio"))
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
    labelling_server.provide_token(at("http://127.0.0.1:8080"))
    assert TOKEN not in os.environ  # nobody has started it yet
    (state / "token").write_text("ours")
    labelling_server.provide_token(at("https://labels.example.org"))
    assert TOKEN not in os.environ
    labelling_server.provide_token(at("http://localhost:8080"))
    assert os.environ[TOKEN] == "ours"
    os.environ[TOKEN] = "given"
    labelling_server.provide_token(at("http://127.0.0.1:8080"))
    assert os.environ[TOKEN] == "given"
    assert (
        labelling_server.start(at("http://127.0.0.1:8080"))
        == f"the server at http://127.0.0.1:8080, with the token in {TOKEN}"
    )


def test_35_nobody_signs_up_without_the_link_that_the_command_tells(
    label_studio: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, label_studio.token)
    link = labelling_server.invitation(label_studio.url)
    with httpx.Client(base_url=label_studio.url) as stranger:
        answer = sign_up(stranger, "/user/signup/", "stranger")
        assert answer.status_code == 403
        assert stranger.get("/api/tasks").status_code == 401
    with httpx.Client(base_url=label_studio.url) as guesser:
        assert sign_up(guesser, f"{link}0", "guesser").status_code == 403
    with httpx.Client(base_url=label_studio.url, follow_redirects=True) as guest:
        assert sign_up(guest, link, "guest").is_success
        assert guest.get("/api/current-user/whoami").json()["email"] == "guest@example.org"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]"])
def test_35_an_import_by_url_reaches_no_program_of_this_machine(label_studio: Server, host: str) -> None:
    client = LabelStudio(base_url=label_studio.url, api_key=label_studio.token)
    project = client.projects.create(title=f"by URL {secrets.token_hex(4)}", label_config=CONFIG)
    with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        listener.settimeout(0.2)
        headers = {"Authorization": f"Token {label_studio.token}"}
        form = {"url": f"http://{host}:{listener.getsockname()[1]}/secrets.json"}
        address = f"{label_studio.url}/api/projects/{project.id}/import"
        answer = httpx.post(address, data=form, headers=headers, timeout=60)
        with pytest.raises(TimeoutError):
            listener.accept()
    assert answer.status_code >= 400
