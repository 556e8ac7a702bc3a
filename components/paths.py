"""Where data, artifacts and state lie, relative to the project's folder; `dvc.yaml` names the same places."""

from __future__ import annotations

from pathlib import Path

DATA = Path("data")
ASSETS = DATA / "assets"
FEEDBACK = DATA / "feedback"
SEGMENTS = DATA / "segments"  # of users, each in a folder of its own: no stage of the graph reads them
TEXT_BASE = DATA / "base/text"

ARTIFACTS = Path("artifacts")
TEXT_EXPORT = ARTIFACTS / "text/export"
