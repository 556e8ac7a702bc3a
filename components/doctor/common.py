"""What is said of either line: how much was read, what the stages drop, what is the same, what is most suspect."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from components.config import Line, Params, TrainBase
from components.data.sample import Sample
from components.doctor.drawn import Drawn
from components.doctor.judged import Judged, leaks
from components.doctor.report import Alike, Dropped, Finding, Histogram, Report, Shown, Suspect
from components.doctor.suspicion import Check

MOST_ALIKE, MOST_SUSPECTS, MEMBERS = 10, 20, 4  # shown
RUINOUS = {"mojibake": 0.05, "replaced": 0.05, "echo": 0.2, "empty_turn": 0.2, "file_name": 0.2, "repetition": 0.5}
HALF = 0.5  # of the source that takes no part: then the settings or the source are not what somebody meant
_BINS, _LAST = 24, 99  # of a histogram; per cent of the values before its last bin
_LONGEST = 400  # characters of a text that is shown

Show = Callable[[Sample], Shown]


def begin(line: Line, drawn: Drawn, judged: Judged, params: Params) -> Report:
    """The report with what every line has in common."""
    settings = getattr(params.prepare, line)
    report = Report(line, str(settings.path), str(drawn), drawn.is_whole, list(drawn.seen))
    for stage, words in (("prepare", drawn.ends), ("split" if judged.kept else "clean", judged.ends)):
        if words:
            report.findings.append(Finding("ends", f"{stage} would end: {words}"))
    if not judged.prepared and not drawn.ends:
        report.findings.append(Finding("ends", "no row can be used", "see what is dropped and why"))
    report.findings += [Finding("note", words) for words in judged.said]
    report.dropped = list(_dropped(drawn, judged))
    report.findings += _drops(drawn, report.dropped)
    return report


def _dropped(drawn: Drawn, judged: Judged) -> Iterator[Dropped]:
    rows = defaultdict(list)
    for stage, row in judged.rejects:
        rows[stage, row["slug"]].append(row)
    for (stage, slug), found in sorted(rows.items(), key=lambda item: -len(item[1])):
        first = found[0]
        yield Dropped(stage, slug, len(found), drawn.about(len(found)), first["reason"], first["source"])


def _drops(drawn: Drawn, dropped: Sequence[Dropped]) -> Iterator[Finding]:
    lost, drawn_count = sum(drop.count for drop in dropped), max(len(drawn.records), 1)
    for drop in dropped:
        words = f"{drop.stage} drops {drop.about} as {drop.slug}"
        yield Finding("look", words, "", drop.count, (f"{drop.place}: {drop.example}",))
    if lost > HALF * drawn_count:
        words = f"{lost / drawn_count:.0%} of the source takes no part in the training"
        yield Finding("ruins", words, "mend what the reasons name, or the settings that drop it", lost)


def repetitions(line: Line, drawn: Drawn, judged: Judged, params: Params, show: Show) -> Iterator[Alike]:
    """Exact copies and near-identical samples, side by side."""
    named = {sample.id: sample for sample in judged.prepared}
    copies = [row for _, row in judged.rejects if row["slug"] == "duplicate"]
    for row in copies[:MOST_ALIKE]:
        first = named.get(row["reason"].removeprefix("duplicate of "))
        pair = [sample for sample in (first, named.get(row["id"])) if sample]
        yield Alike("copies: clean keeps the first", [show(sample) for sample in pair])
    for group in judged.groups()[:MOST_ALIKE]:
        sides = ", ".join(sorted({sample.split for sample in group if sample.split}))
        words = f"{len(group)} that split keeps together{f', in {sides}' if sides else ''}"
        yield Alike(words, [show(sample) for sample in group[:MEMBERS]])


def of_repetitions(line: Line, drawn: Drawn, judged: Judged, params: Params) -> Iterator[Finding]:
    if drawn.copies:
        words = f"{drawn.copies:,} of {drawn.rows:,} rows repeat an earlier one letter by letter (counted over all)"
        yield Finding(
            "look", words, "clean keeps one of each; drop them at the source if that is not meant", drawn.copies
        )
    together = sum(map(len, judged.groups()))
    if together:
        words = f"{drawn.about(together)} are nearly the same as another one, or mean the same, and stay on one side"
        if count := leaks(judged, params, line):
            words += f"; drawn one by one, {drawn.about(count)} held-out ones would have had a near copy in training"
        seen = "" if drawn.is_whole else "of a sample few copies are seen: give a larger --sample to count them"
        yield Finding("note", words, seen, together)


def suspects(
    samples: Sequence[Sample], checks: Callable[[Sample], list[Check]], drawn: Drawn, show: Show
) -> tuple[list[Suspect], list[Finding]]:
    """The samples with the highest sums of weights, and how many share each fault."""
    found = [(sample, checks(sample)) for sample in samples]
    counts = Counter(slug for _, own in found for slug in dict.fromkeys(slug for slug, *_ in own))
    first = {slug: (sample, words) for sample, own in reversed(found) for slug, _, words in own}
    findings = []
    for slug, count in counts.most_common():
        sample, words = first[slug]
        share = count / max(len(samples), 1)
        ruinous = share >= RUINOUS.get(slug, 2)
        findings.append(
            Finding(
                "ruins" if ruinous else "look",
                f"suspect as {slug.replace('_', ' ')}: {drawn.about(count)} ({share:.1%})",
                "mend or leave these out at the source: a model learns them as they are" if ruinous else "",
                count,
                (f"{sample.source}: {words}",),
            )
        )
    ranked = sorted((pair for pair in found if pair[1]), key=lambda pair: -sum(weight for _, weight, _ in pair[1]))
    return [
        Suspect(
            round(sum(w for _, w, _ in own), 1),
            list(dict.fromkeys(f"{words} ({w:.1f})" for _, w, words in own)),
            show(sample),
        )
        for sample, own in ranked[:MOST_SUSPECTS]
    ], findings


def histogram(title: str, unit: str, values: Sequence[float], bound: float | None = None) -> Histogram:
    """Even bins up to the 99th percentile; the last holds what is beyond."""
    low, high, most = min(values), float(np.percentile(values, _LAST, method="higher")), max(values)
    edges = sorted({*np.linspace(low, high + 1, min(_BINS, int(high - low) + 2)).tolist(), float(most) + 1})
    counts, _ = np.histogram(values, edges)
    return Histogram(title, unit, edges, counts.tolist(), bound)


def passes(settings: TrainBase, learnt: float, drawn: Drawn) -> Finding:
    """How often a step's samples go through what is learnt from."""
    seen = settings.max_steps * settings.batch_size
    times = seen / max(learnt * drawn.scale, 1)
    words = f"{settings.max_steps} steps of {settings.batch_size} see each sample {_rounded(times)} times"
    if times >= 1:
        return Finding("note", words)
    needed = -(-round(learnt * drawn.scale) // settings.batch_size)
    return Finding("look", f"{words}: most of it is never seen", f"for one pass set max_steps to about {needed:,}")


def _rounded(value: float) -> str:
    """Two significant digits."""
    return f"{float(f'{value:.2g}'):,g}"


def shortened(text: str, most: int = _LONGEST) -> str:
    """A text's beginning and end where it is long."""
    if len(text) <= most:
        return text
    end = most // 4
    return f"{text[: most - end]} … {len(text) - most:,} characters … {text[-end:]}"
