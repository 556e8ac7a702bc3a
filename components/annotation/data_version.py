"""The data version that settled labels make: a sealed image folder that `prepare` takes as a source.

The folder holds every prepared sample under its settled label or caption, without those that were discarded or rated as
bad (`metadata.jsonl` and `pictures`), so that `clean` and `split` judge them again; `corrected.parquet`, what changed;
and `verdicts.jsonl`, what was settled and by whom. It is named by its manifest's digest: equal verdicts about equal
data give the same folder.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from components.annotation.batch import identity
from components.annotation.task_store import Move, RecordedAnswer, Task
from components.annotation.template import BAD, CHANGE, KEEP, Template, wording
from components.annotation.workflow import ENDED
from components.artifact import Manifest, read_manifest, seal, verify
from components.data.sample import METADATA, SAMPLES, SOURCES, Sample, iterate, write
from components.stage import StageError

VERDICTS = "verdicts.jsonl"
CORRECTED = "corrected.parquet"


@dataclass(frozen=True)
class Verdict:
    """A sample's label (with the template for captions its caption) before and after people settled it, whose answers
    (the server's numbers) it rests on, how the tiers came to it, and when. What is discarded has nothing new."""

    sample_id: str
    old: str
    new: str
    people: tuple[str, ...]
    kind: str
    why: str
    time: float


def verdicts(
    tasks: Sequence[Task],
    recorded: Mapping[int, Sequence[RecordedAnswer]],
    moves: Sequence[Move],
    labels: Mapping[str, str],
    template: str,
) -> tuple[list[Verdict], list[str]]:
    """What is settled, in the order of ids, and a sentence for each task whose sample is not in the data.

    `labels`: every prepared sample's; `template`: the one that they were settled with. Open tasks and gold ones have no
    verdict.
    """
    last = {move.task: move for move in moves}
    settled, refused = [], []
    for task in sorted(tasks, key=lambda t: t.sample):
        if task.state not in ENDED:
            continue
        if task.sample not in labels:
            refused.append(f"sample {task.sample}: the data in use has no such sample")
            continue
        current = [r.answer for r in recorded.get(task.task, ()) if r.ended is None]
        people = tuple(sorted({answer.person for answer in current}))
        move, old, new = last[task.task], labels[task.sample], task.label
        if template == Template.CAPTION:
            new = {KEEP: old, CHANGE: wording(current)}.get(task.label, task.label)
        settled.append(Verdict(task.sample, old, new, people, move.kind, move.why, move.time))
    return settled, refused


def prepared_labels(prepared: Path, split: Path, template: str) -> dict[str, str]:
    """What the template asks of every prepared sample, as it is now: its label, or its caption; it has no rating yet.

    Raises `StageError` where the data version was made from another source.
    """
    labels = {identity(sample): _present(sample, template) for sample in iterate(prepared / SAMPLES)}
    sources = json.loads((prepared / SOURCES).read_text(encoding="utf-8"))
    if read_manifest(split).parents != sources:
        raise StageError(f"{split} was not made from {prepared}; run `dvc repro split@image`")
    return labels


def _present(sample: Sample, template: str) -> str:
    if template == Template.CAPTION:
        return sample.text
    return sample.label if template == Template.CATEGORY else ""


def write_version(
    settled: Sequence[Verdict], prepared: Path, split: Path, root: Path, template: str
) -> tuple[Path, Manifest]:
    """Seal the prepared samples as they were settled as `root/<digest>`; a version that is there stays untouched."""
    partial = root / ".partial"
    shutil.rmtree(partial, ignore_errors=True)  # what a killed run left is no version
    rows, parent = "".join(_line(asdict(v)) for v in settled), verify(split).digest
    if same := _same(root, rows, parent):
        return same, verify(same)
    (partial / "pictures").mkdir(parents=True)
    try:
        count, discarded, corrected = _write_samples(partial, {v.sample_id: v.new for v in settled}, prepared, template)
        (partial / VERDICTS).write_text(rows, encoding="utf-8")
        manifest = seal(
            partial,
            line="image",
            kind="data",
            parents={"data": parent},
            parameters={"template": template},
            metrics={"samples": count, "verdicts": len(settled), "corrected": corrected, "discarded": discarded},
        )
        folder = root / manifest.digest[:12]
        if folder.exists():
            verify(folder)
        else:
            partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder, manifest


def _same(root: Path, rows: str, parent: str) -> Path | None:
    """The version that holds just these verdicts on that data, so that nothing is copied to find out that it is one."""
    for path in root.glob(f"*/{VERDICTS}"):
        if path.read_text(encoding="utf-8") == rows and read_manifest(path.parent).parents == {"data": parent}:
            return path.parent
    return None


def _write_samples(folder: Path, new: Mapping[str, str], prepared: Path, template: str) -> tuple[int, int, int]:
    """Pictures, metadata and the corrected samples; returns how many samples, how many left out, how many corrected."""
    changed: list[Sample] = []
    count = left_out = 0
    with (folder / METADATA).open("w", encoding="utf-8") as metadata:
        for sample in iterate(prepared / SAMPLES):
            settled = _settled(sample, new.get(identity(sample)), template)
            if settled is None:
                left_out += 1
                continue
            if settled != sample:
                changed.append(settled)
            metadata.write(_line(_row(settled, folder)))
            count += 1
    write(folder / CORRECTED, changed)
    return count, left_out, len(changed)


def _settled(sample: Sample, verdict: str | None, template: str) -> Sample | None:
    """The sample as a verdict makes it, none where it is discarded, or rated as bad."""
    if verdict is None:
        return sample
    if not verdict or (template == Template.RATING and verdict == BAD):
        return None
    if template == Template.CAPTION:
        return replace(sample, text=verdict)
    return replace(sample, label=verdict) if template == Template.CATEGORY else sample


def _row(sample: Sample, folder: Path) -> dict[str, Any]:
    """A line of `metadata.jsonl`; writes its picture as it came, under the digest of its bytes."""
    data = sample.image or b""
    suffix = Path(str(sample.meta.get("file_name", "picture.png"))).suffix
    name = f"pictures/{hashlib.sha256(data).hexdigest()[:20]}{suffix}"
    (folder / name).write_bytes(data)
    row = {"file_name": name, "text": sample.text, "label": sample.label, "atelier_id": identity(sample)}
    return {**sample.meta, **row}


def _line(document: dict[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, ensure_ascii=False) + "\n"
