"""A workspace of commit 3ae1c24 serves on with the code of now: its champions, its experiment, its labels."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from components.config.document import read_yaml, write_yaml
from flows import environment
from tests.bentos.processes import free_port
from tests.conftest import ROOT

COMMIT = "3ae1c24"
CODE = ("bentos", "components", "flows", "infra", "monitoring", "tests")
SCRIPT = ROOT / "tests/upgrade/write_workspace.py"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """The old tree with its state, and then the code of now in the place of its own."""
    folder = tmp_path / "workspace"
    if subprocess.run(["git", "cat-file", "-e", COMMIT], cwd=ROOT, check=False, capture_output=True).returncode:
        pytest.skip(f"this checkout has no commit {COMMIT}: it is an archive or a shallow clone")
    archive = subprocess.run(["git", "archive", COMMIT], cwd=ROOT, check=True, capture_output=True).stdout
    folder.mkdir()
    subprocess.run(["tar", "-x"], cwd=folder, input=archive, check=True)
    assert run(folder, str(SCRIPT)).returncode == 0
    for name in CODE:
        shutil.rmtree(folder / name)
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "base"))
    for name in ("prefect.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`python <arguments>` with the workspace's code and state alone."""
    mine = (*environment.SETTINGS, *environment.SECRETS, *environment.PREFECT_AUTH, "PREFECT_API_URL")
    variables = {name: value for name, value in environment.os.environ.items() if name not in mine}
    command, own = [sys.executable, *arguments], variables | {"PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True, check=False)


def atelier(folder: Path, *arguments: str) -> str:
    ended = run(folder, "-m", "flows.cli", *arguments)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_an_old_workspace_is_told_of_renamed_keys_and_then_serves_on(workspace: Path) -> None:
    refused = run(workspace, "-m", "flows.cli", "status")
    assert refused.returncode == 1
    assert "evaluate.text.temperature is now serving.text_temperature" in refused.stderr

    old, document = read_yaml(workspace / "params.yaml"), read_yaml(ROOT / "params.yaml")
    document["experiments"] = old["experiments"]  # the user's own, which runs
    for section, key in (parameter.split(".") for parameter in environment.PORTS.values()):
        document[section][key] = f"http://127.0.0.1:{free_port()}" if key == "url" else free_port()
    write_yaml(workspace / "params.yaml", document)
    try:
        atelier(workspace, "up")
        gateway = f"http://127.0.0.1:{document['serving']['gateway_port']}/v1"
        key = {"authorization": f"Bearer {(workspace / '.atelier/api-key').read_text().strip()}"}
        question = {"model": "atelier-text", "messages": [{"role": "user", "content": "a cake"}], "max_tokens": 4}
        written = httpx.post(f"{gateway}/chat/completions", json=question, headers=key, timeout=60)
        assert written.status_code == 200, written.text
        wish = {"model": "atelier-image", "prompt": "red apple"}
        painted = httpx.post(f"{gateway}/images/generations", json=wish, headers=key, timeout=60)
        assert painted.status_code == 200, painted.text
        status = atelier(workspace, "status")
        assert "text-v1" in status and "image-v1" in status
        assert old["experiments"][0]["name"] in atelier(workspace, "experiment", "list")
        assert "生日蛋糕" in atelier(workspace, "label", "phrases")
    finally:
        run(workspace, "-m", "flows.cli", "down")
