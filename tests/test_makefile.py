"""`make` finds a Python that the locks fit, and says before it installs anything where there is none."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAKE = shutil.which("make")
pytestmark = pytest.mark.skipif(MAKE is None, reason="make is not installed")


def python(folder: Path, name: str, *, fits: bool = True) -> None:
    """A program that writes down what it is asked to do, and fails as a version that does not fit."""
    path = folder / name
    path.write_text(f'#!/bin/sh\necho "{name} $*" >> {folder}/calls\nexit {0 if fits else 127}\n')
    path.chmod(0o755)


def setup(folder: Path, *arguments: str) -> tuple[str, str]:
    """What `make setup` says, and what it asked of which Python, on a path that has nothing else."""
    command = [str(MAKE), "setup", f"VENV={folder / 'venv'}", *arguments]
    ended = subprocess.run(command, cwd=ROOT, env={"PATH": str(folder)}, capture_output=True, text=True, check=False)
    assert ended.returncode != 0  # at pip, which is not there, at the latest
    calls = folder / "calls"
    return ended.stdout + ended.stderr, calls.read_text() if calls.exists() else ""


@pytest.mark.parametrize("name", ["python3.11", "python3.12", "python3", "python"])
def test_37_the_python_that_is_there_makes_the_environment(tmp_path: Path, name: str) -> None:
    python(tmp_path, name)
    assert f"{name} -m venv" in setup(tmp_path)[1]


def test_37_a_name_without_a_python_behind_it_is_passed_over(tmp_path: Path) -> None:
    python(tmp_path, "python3.11", fits=False)  # as pyenv's names of versions that are not active
    python(tmp_path, "python3.12")
    assert "python3.12 -m venv" in setup(tmp_path)[1]


@pytest.mark.parametrize("arguments", [[], ["PYTHON=python3.13"], ["PYTHON=/nowhere/python"]])
def test_37_without_one_it_says_which_are_needed_and_installs_nothing(tmp_path: Path, arguments: list[str]) -> None:
    python(tmp_path, "python3.13", fits=False)
    words, calls = setup(tmp_path, *arguments)
    assert "error: Python 3.11 or 3.12 with venv is needed" in words and "make PYTHON=" in words
    assert "venv" not in calls and not (tmp_path / "venv").exists()
