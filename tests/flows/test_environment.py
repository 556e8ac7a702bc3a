"""What the stack's processes are started with: secrets made once and handed over, nothing of the user's overridden."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bentos.gateway.auth import Keys
from bentos.gateway.errors import ApiError
from components.config import load
from components.stage import StageError
from flows import environment

SECRETS = {
    "ATELIER_API_KEYS": "api-key",
    "ATELIER_USER_SECRET": "user-secret",
    "ATELIER_ENGINE_TOKEN": "engine-token",
}


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty `.atelier`, and an environment without secrets that is put back afterwards."""
    monkeypatch.setattr(environment, "STATE", tmp_path)
    for variable in (*SECRETS, "ATELIER_API_KEYS_FILE"):
        monkeypatch.setenv(variable, "")
    return tmp_path


def test_secrets_are_made_once_for_their_owner_alone_and_handed_over(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment.provide_secrets()
    made = {variable: os.environ[variable] for variable in SECRETS}
    for variable, name in SECRETS.items():
        path = state / name
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.read_text() == made[variable] and len(made[variable]) >= 32
        monkeypatch.delenv(variable)
    assert len(set(made.values())) == 3
    environment.provide_secrets()  # another process, later
    assert {variable: os.environ[variable] for variable in SECRETS} == made


def test_secrets_of_the_users_own_are_left_alone(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in SECRETS:
        monkeypatch.setenv(variable, "my own")
    environment.provide_secrets()
    assert {os.environ[variable] for variable in SECRETS} == {"my own"}
    assert list(state.iterdir()) == []


def test_every_process_has_telemetry_off_and_keeps_what_the_user_set() -> None:
    code = "import os; from flows import environment; environment.apply(); print(os.environ['DO_NOT_TRACK'], "
    code += "os.environ['PREFECT_HOME'], os.environ['PATH'].split(':')[0])"
    bare = {"PATH": "/usr/bin", "PREFECT_HOME": "/mine", "PYTHONPATH": str(environment.ROOT)}
    ended = subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["1", "/mine", str(Path(sys.executable).parent)]


@pytest.mark.parametrize(("host", "reached"), [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("10.0.0.7", "10.0.0.7")])
def test_31_the_gateways_host_publishes_nothing_else(host: str, reached: str) -> None:
    params = load()
    params = params.model_copy(update={"serving": params.serving.model_copy(update={"host": host})})
    urls = environment.service_urls(params)
    assert urls.pop("gateway") == f"http://{reached}:{params.serving.gateway_port}"
    assert {environment.listening_host(program, params) for program in urls} == {"127.0.0.1"}
    assert {urlsplit(url).hostname for url in urls.values()} == {"127.0.0.1"}
    assert environment.listening_host("gateway", params) == host


def test_33_what_users_wrote_is_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setattr(environment, "STATE", tmp_path / ".atelier")
    monkeypatch.setattr(environment.checkout, "prepare", lambda root: None)  # of git and DVC
    for folder in environment.PRIVATE:  # as older versions left them
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder).chmod(0o755)
    mask = os.umask(0o022)
    try:
        environment.apply()
        (tmp_path / "written").write_text("a prompt")
    finally:
        os.umask(mask)
    assert {stat.S_IMODE((tmp_path / folder).stat().st_mode) for folder in environment.PRIVATE} == {0o700}
    assert stat.S_IMODE((tmp_path / "written").stat().st_mode) == 0o600


def test_33_the_gateway_accepts_the_keys_of_the_newest_command_and_not_its_supervisors(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATELIER_USER_SECRET", "a secret")
    monkeypatch.setenv("ATELIER_API_KEYS", "default:old,default:new")
    environment.accept_keys()
    monkeypatch.setenv("ATELIER_API_KEYS", "new")
    environment.accept_keys()
    monkeypatch.setenv("ATELIER_API_KEYS", "default:old,default:new")  # what supervisor was started with
    # As `atelier serve gateway` does.
    monkeypatch.setenv("ATELIER_API_KEYS_FILE", str(state / environment.ACCEPTED_KEYS))
    keys = Keys.from_environment()
    assert keys.authenticate("Bearer new") == "new"
    with pytest.raises(ApiError):
        keys.authenticate("Bearer old")
    assert {stat.S_IMODE(path.stat().st_mode) for path in state.iterdir() if path.is_file()} == {0o600}


def test_33_keys_that_are_wrong_are_refused_before_anything_is_started(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATELIER_API_KEYS", "one,two")
    with pytest.raises(StageError, match="tenant"):
        environment.accept_keys()
    assert list(state.iterdir()) == []


def test_every_program_has_an_address_of_its_own() -> None:
    urls = environment.service_urls(load())
    models = {"text", "text-b", "image", "image-b"}
    assert set(urls) == models | {"gateway", "mlflow", "prefect", "prometheus", "alertmanager", "label-studio"}
    assert len(set(urls.values())) == len(urls)
