"""A workspace of its own for what must not touch the project's state: the committed tree (where there is no git, this
tree), DVC's cache shared, and parameters, databases, artifacts and releases apart from the project's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pathspec import GitIgnoreSpec

from components import checkout
from components.artifact import write_text
from components.config.document import read_yaml, write_yaml
from components.stage import StageError
from flows.environment import PREFECT_AUTH, ROOT, SECRETS, SETTINGS, STATE


def create(name: str, changes: Mapping[str, Mapping[str, Any]]) -> Path:
    """`.atelier/<name>`: the tree with `changes` of params.yaml (section → key → value); an earlier one ends."""
    folder = STATE / name
    if folder.exists():
        stop = ("supervisor.supervisorctl", "-c", "infra/supervisord.conf", "shutdown")
        run(folder, *stop)  # what a killed run has left running holds the ports
        shutil.rmtree(folder)
    if checkout.is_git_checkout(ROOT):
        _git("worktree", "prune", "--expire=now")
        _git("worktree", "add", "--force", "--force", "--detach", str(folder), "HEAD")
    else:
        shutil.copytree(ROOT, folder, ignore=_ignored)
    write_text(folder / ".dvc/config.local", f"[cache]\n    dir = {ROOT / '.dvc/cache'}\n")
    checkout.prepare(folder)
    change(folder, changes)
    return folder


def change(folder: Path, changes: Mapping[str, Mapping[str, Any]]) -> None:
    """Set section → key → value in the workspace's params.yaml."""
    params = read_yaml(folder / "params.yaml")
    for section, values in changes.items():
        params[section] |= values
    write_yaml(folder / "params.yaml", params)


def run(folder: Path, *arguments: str) -> int:
    """`python -m <arguments>` in the workspace, with its code and none of this project's state; its exit code."""
    own = {
        name: value
        for name, value in os.environ.items()
        if name not in (*SETTINGS, *SECRETS, *PREFECT_AUTH, "PREFECT_API_URL")
    }
    environment = own | {"PYTHONPATH": str(folder)}
    return subprocess.run([sys.executable, "-m", *arguments], cwd=folder, env=environment, check=False).returncode


def _git(*arguments: str) -> None:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StageError(f"git {' '.join(arguments)}: {done.stderr.strip()}")


def _ignored(folder: str, names: list[str]) -> set[str]:
    """Those of a folder's names that git would ignore; what DVC makes and caches is among them."""
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    rules = GitIgnoreSpec.from_lines([*ignored, "/.git", "/.dvc/cache", "/.dvc/tmp"])
    paths = {name: Path(folder, name) for name in names}
    return {
        name
        for name, path in paths.items()
        if rules.match_file(f"{path.relative_to(ROOT).as_posix()}{'/' if path.is_dir() else ''}")
    }
