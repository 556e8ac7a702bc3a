"""SIMULATED people label items through the state machine: how right the labels end, and what they cost in answers.

The people's accuracies are hidden from the policy, which learns them from gold and agreement as it does at work: items
come in waves, and before each wave the people are got to know anew from all answers so far.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from components.annotation.crowd import Crowd, estimate_crowd, unknown_crowd
from components.annotation.workflow import ORDER, Answer, MoveKind, State, Tier, next_step
from components.config import Tiers

GOLD_POOL = 40  # tasks of known label, from 1 on below zero


@dataclass(frozen=True)
class World:
    """The items and the people: 20 annotators of 70 to 95 %, 4 reviewers of 95 %, an arbiter of 97 %.

    `alike`: share of mistakes that take the one label easily taken for the true one; `random`: annotators who answer
    without looking; `hard`: share of items on which everybody's lead over guessing is halved.
    """

    labels: int = 8
    alike: float = 0.0
    random: int = 0
    hard: float = 0.0
    items: int = 1000
    annotators: int = 20
    reviewers: int = 4
    waves: int = 10


@dataclass(frozen=True)
class Outcome:
    """Shares of right labels, also of a majority of five answers to each item and of Dawid and Skene's model of these
    five; answers per item of each tier and of gold."""

    accuracy: float
    majority: float
    dawid_skene: float
    answers: dict[str, float]
    kinds: dict[str, float]  # moves per item

    @property
    def cost(self) -> float:
        return sum(self.answers.values())


@dataclass
class _Run:
    world: World
    tiers: Tiers
    rng: np.random.Generator
    names: tuple[str, ...] = ()
    people: dict[Tier, list[str]] = field(default_factory=dict)
    accuracy: dict[str, float] = field(default_factory=dict)
    answers: dict[int, list[Answer]] = field(default_factory=dict)
    gold: dict[int, str] = field(default_factory=dict)
    cost: Counter[str] = field(default_factory=Counter)
    moves: Counter[str] = field(default_factory=Counter)
    given: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        world, rng = self.world, self.rng
        self.names = tuple(f"label {i}" for i in range(world.labels))
        self.truth_I = rng.integers(world.labels, size=world.items)
        self.hard_I = rng.random(world.items) < world.hard
        self.people = {
            Tier.ANNOTATE: [f"annotator {i}" for i in range(world.annotators)],
            Tier.REVIEW: [f"reviewer {i}" for i in range(world.reviewers)],
            Tier.ARBITRATE: ["arbiter"],
        }
        skills = [*rng.uniform(0.7, 0.95, world.annotators), *[0.95] * world.reviewers, 0.97]
        self.accuracy = dict(zip((p for group in self.people.values() for p in group), skills, strict=True))
        self.accuracy |= {f"annotator {i}": 1 / world.labels for i in range(world.random)}
        self.gold = {-i: self.names[int(rng.integers(world.labels))] for i in range(1, GOLD_POOL + 1)}

    def say(self, person: str, truth: int, hard: bool) -> str:
        """What a person answers: the truth with their accuracy, else the look-alike or any other label."""
        chance, guess = self.accuracy[person], 1 / self.world.labels
        if hard:
            chance = guess + (chance - guess) / 2
        if self.rng.random() < chance:
            return self.names[truth]
        if self.rng.random() < self.world.alike:
            return self.names[(truth + 1) % self.world.labels]
        return self.names[(truth + int(self.rng.integers(1, self.world.labels))) % self.world.labels]

    def label(self, item: int, crowd: Crowd, unfit: Set[str]) -> str:
        """Ask people until the machine is done with an item."""
        answers: list[Answer] = []
        state, truth, hard = State.ANNOTATE, int(self.truth_I[item]), bool(self.hard_I[item])
        while state in ORDER[:3]:
            tier = Tier(state)
            free = [p for p in self.people[tier] if p not in unfit and all(a.person != p for a in answers)]
            person = free[int(self.rng.integers(len(free)))]
            answers.append(Answer(person, tier, self.say(person, truth, hard)))
            self.cost[tier] += 1
            self.given[person] += 1
            if step := next_step(state, answers, 0, crowd.aggregate, self.tiers):
                self.moves[step.kind] += 1
                state = step.target
        self.answers[item] = answers
        return step.label if step else ""

    def mix_gold_in(self) -> None:
        """Everybody answers their share of gold."""
        share = self.tiers.gold_share / (1 - self.tiers.gold_share)
        for tier, group in self.people.items():
            for person in group:
                done = {task for task in self.gold for a in self.answers.get(task, ()) if a.person == person}
                for task in [t for t in self.gold if t not in done][: round(share * self.given[person]) - len(done)]:
                    truth = self.names.index(self.gold[task])
                    self.answers.setdefault(task, []).append(Answer(person, tier, self.say(person, truth, False)))
                    self.cost["gold"] += 1


def simulate(world: World, tiers: Tiers, seed: int) -> Outcome:
    """One run of all items."""
    run = _Run(world, tiers, np.random.default_rng(seed))
    crowd = unknown_crowd(run.names, tiers)
    labels: list[str] = []
    for wave in np.array_split(np.arange(world.items), world.waves):
        unfit = crowd.unfit(tiers.min_accuracy)
        labels += [run.label(int(item), crowd, unfit) for item in wave]
        run.mix_gold_in()
        crowd = estimate_crowd(run.answers, run.gold, run.names, tiers)
    fives = five_answers(run)
    return Outcome(
        share_right(run, labels),
        share_right(run, majorities(run, fives)),
        share_right(run, likeliest(run, fives)),
        {name: run.cost[name] / world.items for name in (*Tier, "gold")},
        {str(kind): run.moves[kind] / world.items for kind in MoveKind if run.moves[kind]},
    )


def share_right(run: _Run, labels: Sequence[str]) -> float:
    """Of the labels, one for each item."""
    return float(np.mean([label == run.names[truth] for label, truth in zip(labels, run.truth_I, strict=True)]))


def five_answers(run: _Run) -> dict[int, list[Answer]]:
    """To each item, those of five different annotators, whom it says nothing of who they are or how good."""
    return {
        item: [
            Answer(str(person), Tier.ANNOTATE, run.say(str(person), int(run.truth_I[item]), bool(run.hard_I[item])))
            for person in run.rng.choice(run.people[Tier.ANNOTATE], 5, replace=False)
        ]
        for item in range(run.world.items)
    }


def majorities(run: _Run, answers: Mapping[int, Sequence[Answer]]) -> list[str]:
    """The commonest answer to each item, a tie broken at random."""
    labels = []
    for given in answers.values():
        votes = Counter(answer.label for answer in given)
        labels.append(str(run.rng.choice([label for label, count in votes.items() if count == max(votes.values())])))
    return labels


def likeliest(run: _Run, answers: Mapping[int, Sequence[Answer]]) -> list[str]:
    """The most probable label of each item, by the model that the policy uses, without gold and without tiers."""
    probable = estimate_crowd(answers, {}, run.names, run.tiers).probable
    return [max(run.names, key=probable[item].__getitem__) for item in answers]


def interval(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean over seeds, and the ends of its 95 % interval (Student's t)."""
    from scipy import stats

    mean, error = float(np.mean(values)), float(stats.sem(values))
    low, high = stats.t.interval(0.95, len(values) - 1, loc=mean, scale=error) if error else (mean, mean)
    return mean, float(low), float(high)
