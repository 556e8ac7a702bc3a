"""The command line gives one clear line and an honest exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CALL = [sys.executable, "-c", "from flows.cli import main; main()"]


@pytest.mark.parametrize(("program", "message"), [("nonsense", "no program 'nonsense'; there are")])
def test_an_unknown_program_is_refused(program: str, message: str) -> None:
    answer = subprocess.run([*CALL, "serve", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert message in answer.stderr
    assert "Traceback" not in answer.stderr
