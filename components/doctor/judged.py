"""The sample as `clean` and `split` judge it: both stages run as they are, on files that nobody keeps."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq

from components.config import Line, Params
from components.data import prepare, sample
from components.data.clean import clean
from components.data.concept import draw
from components.data.pairs import Pair, read_pairs
from components.data.sample import REJECTS, SAMPLES, SOURCES, Reject, Sample
from components.data.split import SIDES, side_of, split
from components.doctor.drawn import Drawn
from components.stage import StageError


@dataclass
class Judged:
    """`prepared` are the samples as drawn, `kept` those that no stage drops, with their sides where `split` went well.

    `rejects`: slug, reason, id and place of what each stage drops. `said`: what the stages print beside.
    """

    prepared: list[Sample]
    kept: list[Sample] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)  # of the text line, those of `kept` in their order
    rejects: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    ends: str = ""

    def groups(self) -> list[list[Sample]]:
        """What `split` keeps on one side together, the largest first."""
        found = defaultdict(list)
        for kept in self.kept:
            found[kept.meta.get("split_group", kept.id)].append(kept)
        return sorted((group for group in found.values() if len(group) > 1), key=len, reverse=True)


def judge(line: Line, drawn: Drawn, params: Params) -> Judged:
    """Raises nothing for what is wrong with the data: `ends` says with which sentence a stage would end."""
    samples = list(prepare.unique(record for record in drawn.records if isinstance(record, Sample)))
    judged = Judged(samples, rejects=[("prepare", _row(r)) for r in drawn.records if isinstance(r, Reject)])
    if not samples:
        return judged
    with TemporaryDirectory() as folder, redirect_stdout(io.StringIO()) as said:
        root = Path(folder)
        sample.write(root / "prepared" / SAMPLES, samples)
        (root / "prepared" / SOURCES).write_text("{}", encoding="utf-8")
        try:
            built_in = params.base.image.is_built_in
            clean(line, getattr(params.clean, line), root / "prepared", root / "clean", built_in=built_in)
            _keep(judged, line, [root / "clean" / SAMPLES])
            split(line, getattr(params.split, line), root / "clean", root / "split")
            _keep(judged, line, [root / "split" / f"{side}.parquet" for side in SIDES])
        except StageError as error:
            judged.ends = str(error)
        judged.rejects += [(stage, row) for stage in ("clean", "split") for row in _rejects(root / stage / REJECTS)]
    judged.said = [words.partition(": ")[2] for words in said.getvalue().splitlines()]
    return judged


def _keep(judged: Judged, line: Line, files: Sequence[Path]) -> None:
    judged.kept = [kept for file in files for kept in sample.read(file)]
    if line == "text":
        judged.pairs = [pair for file in files if sample.require(file) for pair in read_pairs(file)]


def leaks(judged: Judged, params: Params, line: Line) -> int:
    """Held-out samples with a near copy in training, had each sample drawn its side by itself."""
    settings = getattr(params.split, line)
    limits = settings.test, settings.test + settings.validation
    count = 0
    for group in judged.groups():
        sides = [side_of(draw(member.id, settings.seed), limits) for member in group]
        count += sum(side != "train" for side in sides) if "train" in sides else 0
    return count


def _row(reject: Reject) -> dict[str, str]:
    of = reject.sample
    return {"id": of.id, "source": of.source, "slug": reject.slug, "reason": reject.reason}


def _rejects(path: Path) -> Iterator[dict[str, str]]:
    if path.exists():
        yield from pq.read_table(path, columns=["id", "source", "slug", "reason"]).to_pylist()
