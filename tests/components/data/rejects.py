"""A file of rejects, read back."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq

from components.data.sample import Reject, Sample


def read_rejects(path: Path) -> list[Reject]:
    """All rejects of a file beside their reasons."""
    rows = pq.read_table(path).to_pylist()
    reasons = [(row.pop("slug"), row.pop("reason")) for row in rows]
    samples = (Sample(**{**row, "meta": json.loads(row["meta"])}) for row in rows)
    return [Reject(sample, *reason) for sample, reason in zip(samples, reasons, strict=True)]
