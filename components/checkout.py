"""Whether this tree is a git checkout, and what does without git where it is none: `python -m components.checkout`.

A downloaded archive has no git, and works all the same. Standard library and DVC's command only.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def is_git_checkout(root: Path) -> bool:
    """Whether git has this tree's files; an archive unpacked inside of another repository is no checkout."""
    if shutil.which("git") is None:
        return False
    listed = ["git", "ls-files", "--error-unmatch", "dvc.yaml"]
    return subprocess.run(listed, cwd=root, capture_output=True, check=False).returncode == 0


def prepare(root: Path) -> None:
    """Tell DVC where there is no git, without which it refuses every command. Nothing else is changed."""
    settings = ConfigParser(strict=False, interpolation=None)
    settings.read(root / ".dvc" / "config.local")
    told = settings.getboolean("core", "no_scm", fallback=False)
    if (root / ".dvc").is_dir() and not told and not is_git_checkout(root):
        command = [sys.executable, "-m", "dvc", "config", "--quiet", "--local", "core.no_scm", "true"]
        subprocess.run(command, cwd=root, check=False)  # it says itself what is wrong


if __name__ == "__main__":
    prepare(ROOT)
