"""Releasing: real Bentos that hold all they import, built once; deployments recorded once, restarted only when new."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.logging import disable_run_logger

from components.artifact import seal
from components.config import Params, load
from components.events.read import read
from components.stage import StageError
from flows import release, stack


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Bento store of this module's own."""
    return tmp_path_factory.mktemp("bentoml")


@pytest.mark.parametrize("name", ["gateway", "text", "image"])
def test_a_built_bento_holds_all_that_its_service_imports(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("BENTOML_HOME", str(store))
    with disable_run_logger():
        assert release.build_bento.fn(name, "v1") == f"atelier-{name}:v1"
        assert release.build_bento.fn(name, "v1") == f"atelier-{name}:v1"  # there already
    source = shutil.copytree(store / "bentos" / f"atelier-{name}" / "v1" / "src", tmp_path / "src")
    code = f"""
import sys
sys.path.insert(0, "{source}")
import bentos.{name}.service
ours = ("bentos", "components", "monitoring", "flows")
files = [module.__file__ for name, module in sys.modules.items() if name.split(".")[0] in ours]
print([file for file in files if not file.startswith("{source}")])
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == "[]"


def test_a_build_that_fails_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path))
    with disable_run_logger(), pytest.raises(StageError, match=r"bentoml build of atelier-audio:v1 .*exit code"):
        release.build_bento.fn("audio", "v1")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Params, list[str]]:
    """Parameters and a packaged text artifact in an empty folder; what would be restarted is listed instead."""
    restarted: list[str] = []
    monkeypatch.setattr(release, "STATE", tmp_path)
    monkeypatch.setattr(release, "package_folder", lambda line: tmp_path / "package")
    monkeypatch.setattr(stack, "running", lambda: set(restarted))
    monkeypatch.setattr(stack, "restart", lambda params, program: restarted.append(program))
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "weights").write_bytes(b"1")
    seal(tmp_path / "package", line="text", kind="package", parents={}, parameters={}, metrics={})
    params = load()
    events = params.events.model_copy(update={"url": f"sqlite:///{tmp_path / 'events.db'}"})
    return params.model_copy(update={"events": events}), restarted


def test_deploying_again_records_and_restarts_nothing(machine: tuple[Params, list[str]]) -> None:
    params, restarted = machine
    with disable_run_logger():
        names = [release.deploy.fn("text", "atelier-text", "3", "atelier-text:abc", params) for _ in range(2)]
    assert names == ["text-abc", "text-abc"]
    assert restarted == ["text"]
    (row,) = read(params.events.url, "deployments")
    record = release.require_deployed("text")
    assert row == record.model_dump()
    assert record.digest == release.read_manifest(release.package_folder("text")).digest


def test_a_new_bento_replaces_the_running_one(machine: tuple[Params, list[str]]) -> None:
    params, restarted = machine
    with disable_run_logger():
        for tag in ("atelier-text:abc", "atelier-text:def"):
            release.deploy.fn("text", "atelier-text", "3", tag, params)
    assert restarted == ["text", "text"]
    assert release.require_deployed("text").deployment == "text-def"
    assert len(read(params.events.url, "deployments")) == 2


def test_before_the_first_release_nothing_is_deployed(machine: tuple[Params, list[str]]) -> None:
    assert release.deployed("image") is None
    with pytest.raises(StageError, match="no image model is deployed yet"):
        release.require_deployed("image")


def test_the_code_digest_follows_the_served_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "ROOT", tmp_path)
    (tmp_path / "bentos").mkdir()
    (tmp_path / "flows").mkdir()
    (tmp_path / "bentos" / "service.py").write_text("1")
    before = release.code_digest()
    (tmp_path / "flows" / "cli.py").write_text("1")  # no Bento carries it
    assert release.code_digest() == before and len(before) == 12
    (tmp_path / "bentos" / "service.py").write_text("2")
    assert release.code_digest() != before
