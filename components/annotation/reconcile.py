"""Annotators' answers become a data version: a sealed image folder that `prepare` takes as a source.

The folder holds every prepared sample under its corrected label (`metadata.jsonl` and `pictures`), so that `clean` and
`split` judge the same set again; `corrected.parquet`, the samples whose label changed; and `verdicts.jsonl`, every
answer that counted. It is named by its manifest's digest: equal answers about equal data give the same folder.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from components.annotation.label_studio import Answer
from components.annotation.prelabel import identity
from components.artifact import Manifest, read_manifest, seal, verify
from components.data.sample import SAMPLES, SOURCES, Sample, iterate, write
from components.data.sources import METADATA
from components.stage import StageError

VERDICTS = "verdicts.jsonl"
CORRECTED = "corrected.parquet"


@dataclass(frozen=True)
class Verdict:
    """The label of a sample before and after a person's look, whose look (the server's number) and when."""

    sample_id: str
    old: str
    new: str
    annotator: int
    time: str


def judge(
    answers: Iterable[Answer], labels: Mapping[str, str], categories: AbstractSet[str]
) -> tuple[list[Verdict], list[str]]:
    """The newest answer per sample as a verdict, in the order of ids, and a sentence for each that cannot count."""
    newest: dict[tuple[str, int], Answer] = {}
    for answer in sorted(answers, key=lambda a: (datetime.fromisoformat(a.time), a.annotation)):
        newest[answer.sample_id, 0 if answer.sample_id else answer.task] = answer
    verdicts, refused = [], []
    for (name, _), answer in sorted(newest.items()):
        reason = _reason(answer, labels, categories)
        if reason:
            refused.append(f"task {answer.task}, sample {name or '(none)'}: {reason}")
        else:
            verdicts.append(Verdict(name, labels[name], answer.category, answer.annotator, answer.time))
    return verdicts, refused


def prepared_labels(prepared: Path, split: Path) -> dict[str, str]:
    """The label of every prepared sample; raises `StageError` where the data version was made from another source."""
    labels = {identity(sample): sample.label for sample in iterate(prepared / SAMPLES)}
    sources = json.loads((prepared / SOURCES).read_text(encoding="utf-8"))
    if read_manifest(split).parents != sources:
        raise StageError(f"{split} was not made from {prepared}; run `dvc repro split@image`")
    return labels


def write_version(verdicts: list[Verdict], prepared: Path, split: Path, root: Path) -> tuple[Path, Manifest]:
    """Seal the prepared samples under their new labels as `root/<digest>`; a version that is there stays untouched."""
    partial = root / ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "pictures").mkdir(parents=True)
    try:
        count, corrected = _write_samples(partial, {v.sample_id: v.new for v in verdicts}, prepared)
        (partial / VERDICTS).write_text("".join(_line(asdict(v)) for v in verdicts), encoding="utf-8")
        manifest = seal(
            partial,
            line="image",
            kind="data",
            parents={"data": verify(split).digest},
            parameters={},
            metrics={"samples": count, "verdicts": len(verdicts), "corrected": corrected},
        )
        folder = root / manifest.digest[:12]
        if folder.exists():
            verify(folder)
        else:
            partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder, manifest


def _reason(answer: Answer, labels: Mapping[str, str], categories: AbstractSet[str]) -> str:
    """Why an answer cannot count, or nothing."""
    if answer.sample_id not in labels:
        return "the data in use has no such sample"
    if not answer.category:
        return "the annotation names no single category"
    if answer.category not in categories:
        return f"the template does not know the category {answer.category!r}"
    return ""


def _write_samples(folder: Path, new: Mapping[str, str], prepared: Path) -> tuple[int, int]:
    """Pictures, their metadata and the corrected samples; returns how many samples, and how many corrected."""
    changed: list[Sample] = []
    count = 0
    with (folder / METADATA).open("w", encoding="utf-8") as metadata:
        for sample in iterate(prepared / SAMPLES):
            label = new.get(identity(sample), sample.label)
            if label != sample.label:
                changed.append(replace(sample, label=label))
            metadata.write(_line(_row(replace(sample, label=label), folder)))
            count += 1
    write(folder / CORRECTED, changed)
    return count, len(changed)


def _row(sample: Sample, folder: Path) -> dict[str, Any]:
    """A line of `metadata.jsonl`; writes its picture as it came, under the digest of its bytes."""
    data = sample.image or b""
    suffix = Path(str(sample.meta.get("file_name", "picture.png"))).suffix
    name = f"pictures/{hashlib.sha256(data).hexdigest()[:20]}{suffix}"
    (folder / name).write_bytes(data)
    known = {"file_name": name, "text": sample.text, "label": sample.label, "atelier_id": identity(sample)}
    return {**sample.meta, **known}


def _line(document: dict[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, ensure_ascii=False) + "\n"
