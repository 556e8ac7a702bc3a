"""`atelier data doctor`: what a training would make of a source, on a page and in a few lines."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from components.artifact import write_text
from components.config import Line, Params, TrainText
from components.doctor import drawn
from components.doctor.drawn import Drawn
from components.doctor.report import Report
from components.models.brought import Source
from components.paths import ARTIFACTS, ASSETS, ENCODER, EXAMPLE, STATE
from components.stage import StageError

SAMPLES: dict[Line, int] = {"text": 2_500, "image": 200}
LINES_SHOWN = 8  # findings on a terminal


def lines_to_see(params: Params) -> list[Line]:
    """The lines whose source a user has brought; both where there is none."""
    return _brought(params) or list(SAMPLES)


def untrained(params: Params, stages: Sequence[str]) -> list[Line]:
    """The lines that `stages` would train for the first time, on a source that a user has brought."""
    from flows.pipeline import plan

    lines = [line for line in _brought(params) if not (ARTIFACTS / line / "checkpoint").exists()]
    planned = plan(list(stages)).needs if lines else {}
    return [line for line in lines if f"train_{line}" in planned]


def _brought(params: Params) -> list[Line]:
    shipped = {"openmoji": ASSETS, "folder": EXAMPLE}
    sources = {line: getattr(params.prepare, line) for line in SAMPLES}
    return [line for line, own in sources.items() if own.path != shipped.get(own.source)]


def page_of(line: Line) -> Path:
    return STATE / "reports" / f"doctor-{line}.html"


def read(params: Params, line: Line, size: int | None) -> Drawn:
    """The sample: streamed over the source, drawn by the seed of the split.

    Raises `StageError` where the built-in models' tokenizers are not here yet: without them nothing can be said.
    """
    if not ENCODER.is_dir():
        raise StageError(f"{ENCODER}: not there yet; run `atelier pipeline run fetch`, then the doctor again")
    return drawn.draw(line, getattr(params.prepare, line), size or SAMPLES[line], getattr(params.split, line).seed)


def report(params: Params, line: Line, sample: Drawn) -> Report:
    """All that is said of the sample, by the code of the stages."""
    from components.doctor import image, judged, text

    return (text if line == "text" else image).examine(sample, judged.judge(line, sample, params), params)


def write(found: Report, params: Params, path: Path) -> Path:
    """The page, with the cost of the run that would follow."""
    from monitoring import doctor

    write_text(path, doctor.page(found, cost(params, found), time.time()))
    return path


def first_words(sample: Drawn) -> Iterator[str]:
    yield str(sample)
    yield from (f"read as {words}" for words in sample.seen)


def said(found: Report) -> Iterator[str]:
    """The findings in a few lines, the worst first."""
    findings = [finding for finding in found.sorted() if finding.severity != "note"]
    for finding in findings[:LINES_SHOWN]:
        yield f"{finding.severity:5}  {finding.words}{f': {finding.remedy}' if finding.remedy else ''}"
    if len(findings) > LINES_SHOWN:
        yield f"and {len(findings) - LINES_SHOWN} more, on the page"
    if not findings:
        yield "nothing is wrong with what was read"


def cost(params: Params, found: Report) -> list[str]:
    """What the planner says of the run, as `atelier model show` does; nothing where the base is not here."""
    try:
        return list(_cost(params, found))
    except StageError as error:
        return [f"not planned: {error}"]


def _cost(params: Params, found: Report) -> Iterator[str]:
    from components.models.described import card_of
    from components.planner import machine
    from flows.model import pipeline_training_plan, training_plan

    base = getattr(params.base, found.line)
    source = Source.of(base.model, found.line)
    if source.kind == "hub" and not source.folder.is_dir():
        yield f"not planned: {base.model} is not on this machine yet"
        return
    if found.line == "text" and params.base.text.endpoint:
        yield "nothing is trained: an API serves the line"
        return
    card = card_of(str(source.folder) if source.kind in ("hub", "folder") else base.model, base.licence)
    if card.shape:
        settings = _as_long(params.train.text, found.longest)
        here = machine.probe(settings.precision)
        yield from training_plan(card.shape, settings, here, ["full" if settings.adapter == "full" else "lora"])
    elif card.pipeline:
        trained = params.train.image.decided(built_in=False)
        yield from pipeline_training_plan(card.pipeline, trained, machine.probe(trained.precision))
    else:
        yield "memory and hours of the built-in model are not planned: it trains in minutes"


def _as_long(settings: TrainText, longest: int | None) -> TrainText:
    """The settings with the length of the longest sample that is trained on."""
    return settings.model_copy(update={"max_length": longest}) if longest else settings
