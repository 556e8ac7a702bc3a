"""What a Bento carries, as its `bentofile.yaml` says, and the digest of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from components.artifact import canonical, file_digest
from components.config.document import read_yaml
from components.paths import ARTIFACTS

ROOT = Path(__file__).resolve().parent.parent
# Each Bento, and the namespaces of params.yaml that it serves with; it carries the whole file.
NAMES = {
    "gateway": ("events", "feedback", "release", "serving"),
    "text": ("serving",),
    "endpoint": ("serving",),
    "image": ("serving",),
}


def carried(name: str, root: Path = ROOT) -> list[Path]:
    """The files of the Bento `bentos/<name>` in the tree at `root`, but for the model's."""
    patterns: list[str] = read_yaml(root / "bentos" / name / "bentofile.yaml")["include"]
    files = (root.glob(pattern) for pattern in patterns if not pattern.startswith(f"{ARTIFACTS}/"))
    return sorted(file for matched in files for file in matched)


def digest(name: str, root: Path = ROOT) -> str:
    """Twelve hex digits of what the Bento carries but for its model: code, packages, the parameters that it reads."""
    folder = root / "bentos" / name
    files = {*carried(name, root), folder / "bentofile.yaml"} - {root / "params.yaml"}
    tree = {file.relative_to(root).as_posix(): file_digest(file) for file in files}
    document = read_yaml(root / "params.yaml")
    parameters = {namespace: document[namespace] for namespace in NAMES[name]}
    return hashlib.sha256(canonical([tree, parameters]).encode()).hexdigest()[:12]
