"""What a lead should know of a labelling project: progress, cost, agreement, people and labels that look wrong.

From the rows of the project's database, and the suspicions of a model where there is one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from components.annotation.agreement import (
    Curve,
    Estimate,
    Floats,
    Pair,
    accuracy,
    alpha,
    curve,
    fleiss,
    pairs,
    suspects,
)
from components.annotation.batch import identity, samples_of
from components.annotation.crowd import DISPUTED, Crowd, estimate_crowd
from components.annotation.task_store import Move, RecordedAnswer, Task, current_answers
from components.annotation.workflow import State, Tier, highest_tier
from components.config import Tiers

FOLDS = 5
LISTED = 25  # rows of a list at most: pairs, suspicions, moves


@dataclass(frozen=True)
class Person:
    """`gold`: share of right answers to gold tasks; `likely`: accuracy by Dawid and Skene, held near what is expected
    while answers are few; `mixes_up`: the mistake they make most often, and how often."""

    name: str
    tier: str
    answers: int
    gold: Estimate | None
    likely: float
    unfit: bool
    curve: Curve | None
    mixes_up: str


@dataclass(frozen=True)
class Suspicion:
    """A settled label that looks wrong, what it more likely is, and how sure `by` is of it (0 to 1)."""

    sample: str
    label: str
    likelier: str
    sure: float
    by: str


@dataclass(frozen=True)
class Report:
    """`cost`: answers given so far by tier and to gold, also those that count no longer; `confusion_CC`: how often a
    label that is (row) gets which answer (column), over all people; `first`: answers of each task that agreement is
    of."""

    project: str
    time: float
    labels: tuple[str, ...]
    min_accuracy: float
    first: int
    states: Mapping[str, int]
    cost: Mapping[str, int]
    alpha: Estimate | None
    fleiss: tuple[float, int] | None  # and the number of tasks that it is of
    pairs: tuple[Pair, ...]
    people: tuple[Person, ...]
    confusion_CC: tuple[tuple[float, ...], ...]
    disputed_gold: tuple[Suspicion, ...]
    suspicions: tuple[Suspicion, ...]
    moves: tuple[tuple[str, Move], ...]  # sample, move; the newest first


def report(
    project: str,
    tasks: Sequence[Task],
    recorded: Mapping[int, Sequence[RecordedAnswer]],
    moves: Sequence[Move],
    tiers: Tiers,
    now: float,
    suspicions: Sequence[Suspicion] = (),
) -> Report:
    """Everything on the page, from the rows of `task_store`."""
    labels = _labels(tasks, recorded)
    by_number = {task.task: task for task in tasks}
    gold = {task.task: task.gold for task in tasks if task.gold}
    crowd = estimate_crowd(current_answers(recorded), gold, labels, tiers)
    probable = crowd.probable
    given = first_answers({task: answers for task, answers in recorded.items() if task not in gold}, tiers.first)
    doubts = [
        Suspicion(task.sample, task.label, likeliest, sure, "the answers")
        for task in tasks
        if task.label and task.task in probable
        for likeliest, sure in [max(probable[task.task].items(), key=lambda item: item[1])]
        if likeliest != task.label and sure >= DISPUTED
    ]
    everything = sorted([*doubts, *suspicions], key=lambda s: -s.sure)
    return Report(
        project=project,
        time=now,
        labels=labels,
        min_accuracy=tiers.min_accuracy,
        first=tiers.first,
        states={state: sum(task.state is state and not task.gold for task in tasks) for state in State},
        cost=_cost(recorded, gold),
        alpha=alpha(given, labels),
        fleiss=fleiss(given, labels, tiers.first),
        pairs=tuple(pairs(given)[:LISTED]),
        people=_people(tasks, recorded, crowd, tiers),
        confusion_CC=_overall(crowd),
        disputed_gold=tuple(
            Suspicion(by_number[task].sample, gold[task], label, probable.get(task, {}).get(label, 1.0), "the answers")
            for task, label in crowd.disputed.items()
        ),
        suspicions=tuple(everything[:LISTED]),
        moves=tuple((by_number[move.task].sample, move) for move in list(moves)[: -LISTED - 1 : -1]),
    )


def first_answers(recorded: Mapping[int, Sequence[RecordedAnswer]], first: int) -> dict[int, list[tuple[str, str]]]:
    """The first labels of the first `first` annotators of each task: (person, label), in the order of their answers.

    Every task is sent to that many. What comes later, and what was changed, sent back or judged, depends on these.
    """
    labels: dict[int, list[tuple[str, str]]] = {}
    for task, answers in recorded.items():
        by_person: dict[str, str] = {}
        for answer in answers:
            if answer.tier is Tier.ANNOTATE and answer.label:
                by_person.setdefault(answer.person, answer.label)
        labels[task] = [*by_person.items()][:first]
    return labels


def doubts_of_a_model(tasks: Sequence[Task], vectors_BD: Floats) -> list[Suspicion]:
    """Settled labels that look wrong to a model of their samples' features (confident learning, five folds).

    Nothing where fewer than five samples of a label are settled, or only one label.
    """
    labels = [task.label for task in tasks]
    if len(set(labels)) < 2 or min(Counter(labels).values()) < FOLDS:
        return []
    model = LogisticRegression(max_iter=500, class_weight="balanced")
    probable_BC = cross_val_predict(model, vectors_BD, labels, method="predict_proba", cv=FOLDS)
    wrong = suspects(labels, probable_BC, sorted(set(labels)))
    return [Suspicion(tasks[i].sample, labels[i], likelier, 1 - quality, "a model") for i, likelier, quality in wrong]


def doubts_about_captions(tasks: Sequence[Task], split: Path, encoder: Path) -> list[Suspicion]:
    """Settled labels that do not fit their captions, where the data version and the text encoder are here."""
    settled = {task.sample: task for task in tasks if task.label}
    if not settled or not split.is_dir() or not encoder.is_dir():
        return []
    from components.models.text_encoder import TextEncoder  # imports PyTorch

    texts = {identity(s): s.text for s in samples_of(split) if identity(s) in settled}
    if not texts:  # preferences are about answers, not about samples
        return []
    vectors_BD = TextEncoder(encoder).embed([*texts.values()]).numpy()
    return doubts_of_a_model([settled[sample] for sample in texts], vectors_BD)


def concerns(tasks: Sequence[Task], crowd: Crowd, tiers: Tiers) -> list[str]:
    """What a lead should act on: people who guess, gold that people contradict, tiers with nobody in them."""
    by_number = {task.task: task for task in tasks}
    sentences = [
        f"account {person} is right {100 * crowd.accuracy[person]:.0f} % of the time: what it says hardly counts"
        for person in sorted(crowd.unfit(tiers.min_accuracy))
    ]
    sentences += [
        f"gold sample {by_number[number].sample}: {by_number[number].gold!r} is contradicted, people say {label!r}; it "
        "counts for nobody until `atelier label gold` settles it"
        for number, label in crowd.disputed.items()
    ]
    for state, listed in ((State.REVIEW, tiers.reviewers), (State.ARBITRATE, tiers.arbiters)):
        count = sum(task.state is state for task in tasks)
        if count and not listed:
            sentences.append(
                f"{count} tasks wait for somebody to {state} them: list account numbers in annotation.tiers"
            )
    return sentences


def _labels(tasks: Sequence[Task], recorded: Mapping[int, Sequence[RecordedAnswer]]) -> tuple[str, ...]:
    """Every label that anybody has used."""
    of_tasks = {task.gold for task in tasks} | {task.label for task in tasks}
    return tuple(sorted((of_tasks | {r.label for given in recorded.values() for r in given}) - {""}))


def _cost(recorded: Mapping[int, Sequence[RecordedAnswer]], gold: Mapping[int, str]) -> dict[str, int]:
    counts = Counter(
        "gold" if task in gold else str(record.tier) for task, given in recorded.items() for record in given
    )
    return {part: counts[part] for part in (*Tier, "gold")}


def _people(
    tasks: Sequence[Task],
    recorded: Mapping[int, Sequence[RecordedAnswer]],
    crowd: Crowd,
    tiers: Tiers,
) -> tuple[Person, ...]:
    """Everybody who has answered, the least accurate first."""
    truth = {
        task.task: _truth(task, crowd.probable.get(task.task, {})) for task in tasks if task.task not in crowd.disputed
    }
    gold = {task.task for task in tasks if task.gold and task.task not in crowd.disputed}
    mine: dict[str, list[RecordedAnswer]] = {}
    for given in recorded.values():
        for record in given:
            if record.label and record.ended is None:
                mine.setdefault(record.person, []).append(record)
    unfit = crowd.unfit(tiers.min_accuracy)
    people = []
    for name, answers in mine.items():
        answers.sort(key=lambda record: record.time)
        judged = [(r.label == truth[r.task], r.time) for r in answers if truth.get(r.task)]
        on_gold = [r.label == truth[r.task] for r in answers if r.task in gold]
        people.append(
            Person(
                name=name,
                tier=highest_tier(name, tiers),
                answers=len(answers),
                gold=accuracy(sum(on_gold), len(on_gold)) if on_gold else None,
                likely=crowd.accuracy.get(name, crowd.expected[highest_tier(name, tiers)]),
                unfit=name in unfit,
                curve=curve([right for right, _ in judged], [when for _, when in judged], len(mine)),
                mixes_up=_mixes_up(crowd.confusion_CC[name], crowd.labels) if name in crowd.confusion_CC else "",
            )
        )
    return tuple(sorted(people, key=lambda person: person.likely))


def _truth(task: Task, probable: Mapping[str, float]) -> str:
    """A task's gold or settled label, else the most probable one, empty where there is none."""
    return task.gold or task.label or max(probable, key=lambda label: probable[label], default="")


def _mixes_up(confusion_CC: Floats, labels: Sequence[str]) -> str:
    wrong_CC = confusion_CC * (1 - np.eye(len(labels)))
    truth, answer = divmod(int(wrong_CC.argmax()), len(labels))
    share = float(wrong_CC[truth, answer])
    return f"{labels[truth]} taken for {labels[answer]}: {100 * share:.0f}\u00a0%" if share >= 0.05 else ""


def _overall(crowd: Crowd) -> tuple[tuple[float, ...], ...]:
    """The people's confusions, each weighted by how many answers it rests on; nothing where there are none."""
    if not crowd.confusion_CC:
        return ()
    weights = [crowd.counted.get(person, 1.0) for person in crowd.confusion_CC]
    mean_CC = np.average([*crowd.confusion_CC.values()], axis=0, weights=weights)
    return tuple(tuple(float(x) for x in row) for row in mean_CC)
