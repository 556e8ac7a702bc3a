"""The text line's source: what each conversation teaches, where it is cut, and what is suspect of it."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from itertools import groupby

from components.artifact import MANIFEST, read_manifest
from components.config import Params, TrainText
from components.data.pairs import Pair
from components.data.sample import Sample
from components.data.text_rules import script_of
from components.doctor import common, suspicion
from components.doctor.common import shortened
from components.doctor.drawn import Drawn
from components.doctor.judged import Judged
from components.doctor.report import Conversation, Finding, Kind, Report, Shown
from components.models.brought import Source
from components.models.described import chat_of
from components.models.language import IGNORED, Chat
from components.paths import TEXT_BASE
from components.stage import StageError
from components.training.lengths import Taught, encode, fitting, split
from components.training.text import room

SHOWN, LONGEST_SHOWN, TOO_LONG_SHOWN = 8, 3, 6  # conversations on the page
_PIECE = 700  # characters of a piece that is shown
_FEW_SCRIPTS = 0.02  # of the rows: a script that so few are in may be a mistake


def examine(drawn: Drawn, judged: Judged, params: Params) -> Report:
    """The report of a sample that the stages have judged; reads a tokenizer, no weights."""
    report = common.begin("text", drawn, judged, params)
    report.findings += common.of_repetitions("text", drawn, judged, params)
    report.alike = list(common.repetitions("text", drawn, judged, params, shown))
    usual = suspicion.Usual.of([str(sample.meta.get("completion", "")) for sample in judged.kept])
    report.suspects, found = common.suspects(judged.kept, lambda s: suspicion.of_pair(s, usual), drawn, shown)
    report.findings += found
    report.scripts = dict(Counter(script for s in judged.kept if (script := _script(s))).most_common())
    report.findings += _scripts(report.scripts)
    if judged.kept and not params.base.text.endpoint:
        report.findings += list(_tokens(report, drawn, judged, params))
    return report


def shown(sample: Sample) -> Shown:
    """A pair or a conversation, its earlier turns before it."""
    said = {f"{turn['role']} {place}": turn["content"] for place, turn in enumerate(sample.meta.get("history", ()), 1)}
    texts = said | {"prompt": sample.text, "answer": str(sample.meta.get("completion", ""))}
    return Shown(sample.source, {name: shortened(text) for name, text in texts.items()})


def _script(sample: Sample) -> str:
    return script_of(str(sample.meta.get("completion", ""))) or script_of(sample.text)


def _scripts(scripts: dict[str, int]) -> Iterator[Finding]:
    total = sum(scripts.values())
    rare = [f"{name} ({count})" for name, count in scripts.items() if count < _FEW_SCRIPTS * total]
    if rare:
        yield Finding(
            "look", f"few answers are in {', '.join(rare)}", "is that meant? A model learns a rare script badly"
        )


def _tokens(report: Report, drawn: Drawn, judged: Judged, params: Params) -> Iterator[Finding]:
    """Fills in what needs the model's tokenizer: lengths, and the conversations with what is learnt of them."""
    settings, base = params.train.text, params.base.text.model
    try:
        chat = chat_of(base, settings.system_prompt)
        if chat is None:
            yield Finding("note", f"{base} is not on this machine yet, so that no token was counted", _BRING)
            return
        most = _most(base, settings)
        if most is None:
            yield Finding(
                "note", "neither the model's context nor this machine's memory bounds the lengths yet", _BRING
            )
    except StageError as error:
        yield Finding("ends", f"train_text would end: {error}")
        return
    pairs = judged.pairs
    taught = [encode(chat, pair, settings) for pair in pairs]
    longest = [max(sample.length for sample in samples) for samples in taught]
    bound = min(settings.max_length or max(longest), most or max(longest))
    report.longest = min(bound, max(longest))
    lengths = [sample.length for samples in taught for sample in samples]
    report.histograms.append(common.histogram("Length of the samples", "tokens", lengths, bound))
    if params.prepare.text.source != "openmoji":
        yield from _led(drawn, pairs, settings.system_prompt)
    places = _chosen(pairs, longest, bound)
    report.conversations = [
        Conversation(judged.kept[at].source, *_samples(chat, pairs[at], taught[at], settings, bound)) for at in places
    ]
    learnt = [pair for pair, kept in zip(pairs, judged.kept, strict=True) if kept.split in ("", "train")]
    yield from _fitted(drawn, chat, learnt, settings, most or max(longest))


_BRING = "run `atelier pipeline run base_text`, then the doctor again"


def _most(model: str, settings: TrainText) -> int | None:
    """Tokens that the model and this machine hold, None where the model's folder is yet to be made."""
    source = Source.of(model)
    made = (TEXT_BASE / MANIFEST).is_file() and read_manifest(TEXT_BASE).parameters.get("source") == model
    folder = TEXT_BASE if source.kind in ("built-in", "gguf") else source.folder
    return room(folder, settings) if made or folder is not TEXT_BASE else None


def _fitted(drawn: Drawn, chat: Chat, pairs: Sequence[Pair], settings: TrainText, most: int) -> Iterator[Finding]:
    """What `train_text` makes of the pairs' lengths."""
    try:
        with redirect_stdout(io.StringIO()):
            fit = fitting(chat, pairs, settings, most)
    except StageError as error:
        yield Finding("ends", f"train_text would end: {error}")
        return
    figures = {name: int(value) for name, value in fit.metrics.items()}
    yield common.passes(settings, len(fit.samples), drawn)
    lost, long = figures["pairs_too_long"], figures["max_length"]
    raise_it = "raise train.text.max_length, or set overflow: split under train.text"
    if figures["pairs_split"]:
        words = (
            f"{drawn.about(figures['pairs_split'])} conversations are split between turns, to at most {long:,} tokens"
        )
        yield Finding("look", words, "", figures["pairs_split"])
    if figures["answers_too_long"]:
        share = figures["answers_too_long"] / sum(1 + len(pair.answers) for pair in pairs)
        count = drawn.about(figures["answers_too_long"])
        words = f"{count} answers are not learnt ({share:.0%}): their samples have more than {long:,} tokens"
        yield Finding("ruins" if share > common.HALF else "look", words, raise_it, lost)


def _led(drawn: Drawn, pairs: Sequence[Pair], system_prompt: str) -> Iterator[Finding]:
    """What the system prompt of `params.yaml`, which was written for other data, is put before."""
    led = sum(all(role != "system" for role, _ in pair.history) for pair in pairs)
    if led and system_prompt:
        words = f"train.text.system_prompt leads {drawn.about(led)} that bring no system message: {system_prompt!r}"
        yield Finding("look", words, "is that what they do? Write your own, or leave it empty", led)


def _chosen(pairs: Sequence[Pair], longest: Sequence[int], bound: int) -> list[int]:
    """Those beyond the bound, the first that have several turns, the first of all, and the longest."""
    by_length = sorted(range(len(longest)), key=lambda at: -longest[at])
    beyond = [at for at, length in enumerate(longest) if length > bound][:TOO_LONG_SHOWN]
    turns = [at for at, pair in enumerate(pairs) if pair.history][: SHOWN // 2]
    return list(dict.fromkeys([*beyond, *turns, *range(min(SHOWN, len(longest))), *by_length[:LONGEST_SHOWN]]))


Pieces = list[tuple[Kind, str]]


def _samples(
    chat: Chat, pair: Pair, taught: Sequence[Taught], settings: TrainText, bound: int
) -> tuple[str, list[Pieces]]:
    """What becomes of a pair in words, and its samples in pieces."""
    longest = max(sample.length for sample in taught)
    if longest <= bound:
        return f"{longest:,} tokens", [_pieces(chat, sample, bound) for sample in taught]
    verdict = f"{longest:,} tokens, more than {bound:,}"
    parts = list(split(chat, pair, settings, bound)) if settings.overflow == "split" else []
    if parts:
        samples = [sample for part in reversed(parts) for sample in encode(chat, part, settings)]
        return f"{verdict}: split into parts, {len(parts)} of them learnt", [_pieces(chat, s, bound) for s in samples]
    fate = "training ends" if settings.overflow == "refuse" else "left out"
    return f"{verdict}: {fate}", [_pieces(chat, sample, bound) for sample in taught]


def _pieces(chat: Chat, sample: Taught, bound: int) -> Pieces:
    """A sample's text in runs of tokens that are read, learnt, or beyond the bound."""
    ids, labels = sample.encoded

    def kind(at: int) -> Kind:
        return "cut" if at >= bound else "read" if labels[at] == IGNORED else "learnt"

    pieces: Pieces = []
    for name, run in groupby(range(len(ids)), kind):
        text = chat.tokenizer.decode([ids[at] for at in run], skip_special_tokens=False)
        pieces.append((name, shortened(str(text), _PIECE)))
    return pieces
