"""`metrics/models.json`, which several benchmarks write a part of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from components.artifact import canonical, write_text

METRICS = Path("metrics/models.json")


def record(part: str, row: Any) -> None:
    """Replace one part; the others stay."""
    document = json.loads(METRICS.read_bytes()) if METRICS.exists() else {}
    write_text(METRICS, canonical(document | {part: row}))
