"""Stage `prepare`: the samples of one line from their source, `data/<line>/prepared/`.

Writes `samples.parquet`, `rejects/rejects.parquet` and `sources.json` (SHA-256 of what the samples were made from).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

from components import config
from components.artifact import canonical, file_digest, staged, write_text
from components.data import feedback, fetch, folder, openmoji, phrases, sources
from components.data.rows import Wanted, every
from components.data.sample import (
    REJECT_SCHEMA,
    REJECTS,
    SAMPLES,
    SOURCES,
    Reject,
    Sample,
    Writer,
    first_reasons,
)
from components.paths import DATA, FEEDBACK
from components.stage import StageError, run


def main(line: config.Line) -> None:
    """Turn the configured source of `line` (text or image) into samples."""
    parameters = getattr(config.load().prepare, line)
    kept, rejected = prepare(line, parameters, DATA / line / "prepared")
    first = first_reasons(DATA / line / "prepared" / REJECTS)
    summary = f"prepare {line}: {kept} samples from {parameters.source}, {rejected} rejected"
    print(summary + (f": {first}" if first else ""), flush=True)


def prepare(line: str, parameters: config.Prepare, out: Path) -> tuple[int, int]:
    """Write the samples and rejects below `out`, whole or not at all; returns how many of each."""
    with staged(out) as partial:
        # What users and annotators taught (the text line alone learns from them), beside the source and its limit.
        taught: Iterable[Sample] = feedback.samples(FEEDBACK / line) if line == "text" else ()
        seen: Counter[str] = Counter()
        with Writer(partial / REJECTS, REJECT_SCHEMA) as rejects, Writer(partial / SAMPLES) as kept:
            for sample in unique(_split_off(chain(records(line, parameters, seen), taught), rejects)):
                kept.add(sample)
        for words, count in seen.items():
            print(f"prepare {line}: {count} {words}", flush=True)
        learned = feedback.digest(FEEDBACK / line)
        write_text(partial / SOURCES, canonical(_source(line, parameters) | ({"feedback": learned} if learned else {})))
        if kept.count == 0:
            first = first_reasons(partial / REJECTS) or "empty source"
            raise StageError(f"prepare.{line}: no usable sample ({rejects.count} rejected: {first})")
    return kept.count, rejects.count


def records(
    line: str, parameters: config.Prepare, seen: Counter[str], wanted: Wanted = every
) -> Iterable[Sample | Reject]:
    """What a source holds; `seen` counts what was read as what; of a user's own what is not `wanted` is left out."""
    if parameters.source == "openmoji":
        if parameters.fields:
            raise StageError(f"prepare.{line}.fields: the source openmoji has no rows of yours: leave it out")
        if line == "image":
            return openmoji.samples(parameters.path, parameters.size, parameters.limit)
        return phrases.samples(parameters.path, parameters.limit)
    own = {"image": "folder", "text": "jsonl"}[line]
    if parameters.source != own:
        raise StageError(f"prepare.{line}.source: {parameters.source!r}, expected 'openmoji' or {own!r} with a path")
    if line == "image":
        images = folder.image_folder(parameters.path, fields=parameters.fields, seen=seen, wanted=wanted)
        return islice(images, parameters.limit)
    return islice(sources.pairs(parameters.path, parameters.fields, seen, wanted), parameters.limit)


def _split_off(records: Iterable[Sample | Reject], rejects: Writer) -> Iterator[Sample]:
    for record in records:
        if isinstance(record, Reject):
            rejects.add(record)
        else:
            yield record


def unique(samples: Iterable[Sample]) -> Iterator[Sample]:
    """Equal ids (equal content) get a number, so that each copy can be named in the rejects of `clean`."""
    seen: dict[str, int] = {}
    for sample in samples:
        seen[sample.id] = copies = seen.get(sample.id, 0) + 1
        yield sample if copies == 1 else replace(sample, id=f"{sample.id}-{copies}")


def _source(line: str, parameters: config.Prepare) -> dict[str, str]:
    """SHA-256 of what the samples derive from: the wheels or the user's file."""
    if parameters.source != "openmoji":
        if line == "image":
            return folder.digests(parameters.path)
        files, _ = sources.row_files(parameters.path)
        return {path.relative_to(parameters.path.parent).as_posix(): file_digest(path) for path in files}
    packages = openmoji.PACKAGES if line == "image" else openmoji.PACKAGES[1:]
    receipts = {name: fetch.receipt(parameters.path / name) for name in packages}
    missing = [name for name, receipt in receipts.items() if receipt is None]
    if missing:
        raise StageError(f"{parameters.path}: {', '.join(missing)} not fetched; run the stage fetch")
    return {name: receipt["sha256"] for name, receipt in receipts.items() if receipt is not None}


if __name__ == "__main__":
    run(main)
