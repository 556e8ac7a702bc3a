"""The workspace: the committed tree with changed parameters, and none of the project's state."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from components.config.document import read_yaml
from flows.demo import workspace


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "project"
    (root / ".dvc").mkdir(parents=True)
    (root / ".dvc/config").write_text("")
    (root / "dvc.yaml").write_text("stages: {}\n")
    (root / ".gitignore").write_text(".atelier/\n/data/*\n!/data/feedback/\n")
    (root / "params.yaml").write_text("release: {canary: false, alpha: 0.05}\naudience: {users: 60}\n")
    (root / "say.py").write_text(
        "import os\nprint(os.getcwd())\nraise SystemExit(3 if 'ATELIER_API_KEYS' in os.environ else 0)\n"
    )
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *command], cwd=root, check=True)
    (root / ".atelier").mkdir()
    monkeypatch.setattr(workspace, "ROOT", root)
    monkeypatch.setattr(workspace, "STATE", root / ".atelier")
    return root


def test_only_what_is_committed_with_changed_parameters_and_dvcs_cache(project: Path) -> None:
    (project / "uncommitted.txt").write_text("x")
    for canary in (True, False):  # a second one replaces the first
        folder = workspace.create("proof", {"release": {"canary": canary}})
        params = read_yaml(folder / "params.yaml")
        assert params == {"release": {"canary": canary, "alpha": 0.05}, "audience": {"users": 60}}
    assert not (folder / "uncommitted.txt").exists()
    assert str(project / ".dvc/cache") in (folder / ".dvc/config.local").read_text()


def test_a_run_has_the_workspaces_code_and_none_of_the_projects_secrets(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATELIER_API_KEYS", "secret")
    folder = workspace.create("proof", {})
    assert workspace.run(folder, "say") == 0


def test_37_without_git_it_is_this_tree_without_what_the_project_made(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(project / ".git")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.parent))
    for path in ("data/assets/model.bin", "data/feedback/README.md", ".dvc/cache/files/x", ".atelier/events.db"):
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text("x")
    for _ in range(2):
        folder = workspace.create("proof", {"release": {"canary": True}})
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert files - {".dvc/tmp/.last_update_check"} >= {
            "say.py",
            "params.yaml",
            "dvc.yaml",
            "data/feedback/README.md",
        }
        assert not any(path.startswith((".atelier", "data/assets", ".dvc/cache")) for path in files)
    settings = (folder / ".dvc/config.local").read_text()
    assert "no_scm = true" in settings and str(project / ".dvc/cache") in settings
