"""Which secrets a program of the stack is started with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from flows import environment, program_environment, serve

GIVEN = {
    "ATELIER_API_KEYS": "key",
    "ATELIER_USER_SECRET": "salt",
    "ATELIER_ENGINE_TOKEN": "token",
    "ATELIER_ENDPOINT_KEY": "bought",
    "ATELIER_ALERT_WEBHOOK": "http://hook",
    "ATELIER_MLFLOW_LOGIN": "me:word",
    "PREFECT_API_AUTH_STRING": "me:word",
    "PREFECT_SERVER_API_AUTH_STRING": "me:word",
    "LABEL_STUDIO_API_KEY": "label",
    "PGPASSWORD": "store",
    "GITHUB_TOKEN": "nobody's",
}
ENGINE = {"ATELIER_ENGINE_TOKEN"}
PREFECT = {"PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING", "PGPASSWORD"}
SEES: dict[str, set[str]] = {
    **dict.fromkeys(("text", "text-b", "image", "image-b"), ENGINE),
    "gateway": {"ATELIER_USER_SECRET", "ATELIER_ENGINE_TOKEN", "PGPASSWORD"},
    "prefect": PREFECT,
    "worker": PREFECT | {"ATELIER_ENGINE_TOKEN", "LABEL_STUDIO_API_KEY"},
    "housekeeping": PREFECT | {"ATELIER_ENGINE_TOKEN"},
    "mlflow": {"ATELIER_MLFLOW_LOGIN", "PGPASSWORD"},
    "prometheus": set(),
    "alertmanager": set(),
    "label-studio": {"LABEL_STUDIO_API_KEY"},
}


@pytest.mark.parametrize("program", serve.PROGRAMS)
def test_30_a_program_sees_the_secrets_that_it_needs_alone(program: str) -> None:
    with mock.patch.dict(os.environ, GIVEN | {"LC_ALL": "C.UTF-8", "https_proxy": "http://proxy"}):
        seen = program_environment.environment_of(program)
    assert {name for name in GIVEN if name in seen} == SEES[program]
    assert {"PATH", "HOME", "LC_ALL", "https_proxy"} <= seen.keys()


def test_30_what_a_program_becomes_starts_with_that_alone(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from components.config import load
from flows import environment, serve
environment.STATE = Path(sys.argv[1])
serve.PROGRAMS["prometheus"] = lambda params: ["env"]
serve.serve("prometheus", load())
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    given = os.environ | GIVEN
    ended = subprocess.run(command, cwd=environment.ROOT, env=given, capture_output=True, text=True, check=True)
    seen = {line.partition("=")[0] for line in ended.stdout.splitlines()}
    assert not seen & GIVEN.keys() and "PATH" in seen
