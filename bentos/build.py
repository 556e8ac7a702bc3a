"""What a Bento carries, as its `bentofile.yaml` says."""

from __future__ import annotations

from pathlib import Path

from components.config.document import read_yaml

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("gateway", "text", "image")


def carried(name: str, root: Path = ROOT) -> list[Path]:
    """The files of the Bento `bentos/<name>` in the tree at `root`, but for the model's."""
    patterns: list[str] = read_yaml(root / "bentos" / name / "bentofile.yaml")["include"]
    files = (root.glob(pattern) for pattern in patterns if not pattern.startswith("artifacts/"))
    return sorted(file for matched in files for file in matched)
