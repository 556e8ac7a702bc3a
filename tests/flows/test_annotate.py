"""The annotation flows on a real Label Studio server and a temporary Prefect server; the annotator is SIMULATED."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows import environment

environment.apply()

from prefect.testing.utilities import prefect_test_harness  # noqa: E402

from components.annotation.label_studio import TOKEN, Project  # noqa: E402
from components.config import load  # noqa: E402
from flows import annotate  # noqa: E402 - Prefect reads the environment when it is imported
from tests.components.annotation.simulated import SimulatedAnnotator, settings, write_data, write_set  # noqa: E402
from tests.label_studio_server import Server  # noqa: E402
from tests.tiny_image import write_tiny_encoder  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
CALL = [sys.executable, "-c", "from flows.cli import main; main()"]


@pytest.fixture(scope="module")
def prefect_server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.mark.usefixtures("assets")
@pytest.mark.timeout(900)  # the first run on a machine installs the server
def test_answers_become_a_version_and_the_same_answers_the_same_one(
    label_studio: Server, prefect_server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = settings(label_studio.url, "flows", batch=24)
    monkeypatch.setenv(TOKEN, label_studio.token)
    monkeypatch.setattr(annotate, "ROOT", tmp_path)
    monkeypatch.setattr(annotate, "DATA", write_data(write_set(tmp_path / "set"), tmp_path / "data/image"))
    monkeypatch.setattr(annotate, "ENCODER", write_tiny_encoder(tmp_path / "encoder"))
    monkeypatch.setattr(annotate, "load", lambda: load().model_copy(update={"annotation": section}))
    assert annotate.upload().startswith("24 new tasks; ")
    assert annotate.upload().startswith("0 new tasks; ")
    assert "no answer that counts yet, 0 refused; nothing was written" in annotate.reconcile()
    simulated = SimulatedAnnotator(label_studio, Project(section))
    simulated.answer("horse", "Animals & Nature")
    simulated.answer("apple", "Food & Drink")
    simulated.answer("bread", "Robots")
    told = annotate.reconcile()
    assert told.startswith("2 verdicts, 1 labels corrected, 1 refused\n")
    assert annotate.reconcile() == told
    (version,) = (tmp_path / "data/image/annotated").iterdir()
    assert f"path: data/image/annotated/{version.name}" in told


def test_without_a_token_one_line_says_what_is_missing() -> None:
    environ = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "PREFECT_HOME": str(ROOT / ".atelier/prefect")}
    answer = subprocess.run(
        [*CALL, "annotate", "reconcile"], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"error: {TOKEN} is not set; copy a token from Account & Settings")
    assert len(answer.stderr.splitlines()) == 1
