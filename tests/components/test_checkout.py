"""An unpacked archive has no git: DVC works there all the same, and a clone is left as it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from components import checkout

COMMIT = (["init", "-q"], ["add", "-A"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "x"])


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of one DVC stage without git, as an archive is unpacked."""
    root = tmp_path / "unpacked" / "atelier"
    (root / ".dvc").mkdir(parents=True)
    (root / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
    (root / ".dvc" / ".gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (root / "dvc.yaml").write_text("stages: {greet: {cmd: echo hello > greeting, outs: [greeting]}}\n")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    return root


def repro(root: Path) -> str:
    command = [sys.executable, "-m", "dvc", "repro"]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    return f"{ended.returncode} {ended.stdout}{ended.stderr}"


def settings(root: Path) -> str:
    file = root / ".dvc" / "config.local"
    return file.read_text() if file.exists() else ""


def test_37_dvc_works_in_an_archive_without_git_and_keeps_the_users_settings(archive: Path) -> None:
    assert "is not a git repository" in repro(archive)
    cache = archive.parent / "cache"
    (archive / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {cache}\n")
    checkout.prepare(archive)
    assert repro(archive).startswith("0 ")
    assert (archive / "greeting").read_text() == "hello\n"
    assert (cache / "files").is_dir()


def test_37_a_clone_is_left_alone(archive: Path) -> None:
    for command in COMMIT:
        subprocess.run(["git", *command], cwd=archive, check=True)
    checkout.prepare(archive)
    assert settings(archive) == ""


def test_37_an_archive_in_somebody_elses_repository_is_no_checkout(archive: Path) -> None:
    (archive.parent / "theirs.txt").write_text("x")
    (archive.parent / ".gitignore").write_text("atelier\n")
    for command in COMMIT:
        subprocess.run(["git", *command], cwd=archive.parent, check=True)
    checkout.prepare(archive)
    assert "no_scm = true" in settings(archive)


def test_37_git_need_not_be_installed(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(archive))
    checkout.prepare(archive)
    assert "no_scm = true" in settings(archive)
