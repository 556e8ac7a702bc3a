"""A fault PLANTED in an export: its decoder leaves out vowels. For the proof alone.

The tokens that the model reads and predicts stay the same, so that loss, perplexity and parity, which count tokens, see
nothing; users read "snflwr". The fault goes the whole way of a model: verified, gated, packaged, compared, released.
"""

from __future__ import annotations

import json
from pathlib import Path

from components.artifact import read_manifest, seal, write_text

FAULT = {"type": "Replace", "pattern": {"Regex": "[aeiou]"}, "content": ""}


def plant(export: Path) -> str:
    """Break the decoder of a text export and seal it again; returns the new digest."""
    path, manifest = export / "openvino" / "tokenizer.json", read_manifest(export)
    document = json.loads(path.read_text(encoding="utf-8"))
    document["decoder"] = {"type": "Sequence", "decoders": [document["decoder"], FAULT]}
    write_text(path, json.dumps(document, ensure_ascii=False))
    kept = manifest.model_dump(include={"line", "kind", "parents", "parameters", "metrics"})
    return seal(export, **kept).digest
