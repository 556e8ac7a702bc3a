"""What three tiers cost and how right they end, beside a majority of five: `make bench NAME=tiers`.

Prints tables and writes `metrics/annotation/tiers.json`. All people are SIMULATED (`tiers_simulate`): 20 annotators of
70 to 95 %, 4 reviewers of 95 %, an arbiter of 97 %, 1,000 items a run. Every answer of every tier and every gold answer
counts as one. Beside it, five answers to the same items by the same annotators in the same run, without gold: their
majority, and Dawid and Skene's model of them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from components.annotation.workflow import Tier
from components.artifact import write_text
from components.config import Tiers, load
from components.stage import run
from tests.bench.tiers_simulate import Outcome, World, interval, simulate

OUT = Path("metrics/annotation/tiers.json")
SEEDS = range(20)
GOAL = 0.99

WORLDS = {
    "2 labels": World(labels=2),
    "8 labels": World(),
    "8 labels, half of the mistakes alike": World(alike=0.5),
    "8 labels, 2 of 20 answer at random": World(random=2),
    "8 labels, a tenth of the items hard": World(hard=0.1),
}
# Other policies, where the questions are clearest: what each part of the policy in use is worth.
POLICIES: dict[str, dict[str, float]] = {
    "one annotator, everything reviewed": {"first": 1, "certain": 1.0, "review_from": 0.0},
    "one annotator at first, review from 0.9": {"first": 1, "review_from": 0.9},
    "two annotators, then review": {"review_from": 0.0},
    "certain from 0.97": {"certain": 0.97},
    "certain from 0.995": {"certain": 0.995},
}
COMPARED = ("2 labels", "8 labels")

Figures = dict[str, list[float]]  # mean over seeds, low and high end of its 95 % interval


def measure(world: World, tiers: Tiers) -> Figures:
    """Twenty runs: accuracy and answers per item, beside those of five equal answers."""
    outcomes = [simulate(world, tiers, seed) for seed in SEEDS]

    def over_seeds(value: Callable[[Outcome], float]) -> list[float]:
        return [round(x, 4) for x in interval([value(outcome) for outcome in outcomes])]

    return {
        "accuracy": over_seeds(lambda o: o.accuracy),
        "answers": over_seeds(lambda o: o.cost),
        "majority of five": over_seeds(lambda o: o.majority),
        "Dawid-Skene of five": over_seeds(lambda o: o.dawid_skene),
        **{name: over_seeds(partial(_part, name=name)) for name in (*Tier, "gold")},
    }


def _part(outcome: Outcome, name: str) -> float:
    return outcome.answers[name]


def show(title: str, rows: dict[str, Figures]) -> None:
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(
        ("", "right, %", "answers an item", "annotate + review + arbitrate + gold", "five, %", "D-S of five, %")
    ):
        table.add_column(column, justify="right" if i else "left")
    for name, found in rows.items():
        split = " + ".join(f"{found[part][0]:.2f}" for part in (*Tier, "gold"))
        table.add_row(
            name,
            _span(found["accuracy"], 100),
            _span(found["answers"], 1),
            split,
            _span(found["majority of five"], 100),
            _span(found["Dawid-Skene of five"], 100),
        )
    Console(width=150).print(table)


def _span(values: Sequence[float], scale: float) -> str:
    mean, low, high = (scale * value for value in values)
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def main() -> None:
    """Run all simulations with fixed seeds, print them and write them down."""
    began, tiers = time.monotonic(), load().annotation.tiers
    worlds = {name: measure(world, tiers) for name, world in WORLDS.items()}
    show(f"The policy in params.yaml, {len(SEEDS)} runs each (majority of five: 5 answers an item)", worlds)
    policies = {
        f"{name}: {world}": measure(WORLDS[world], Tiers.model_validate(tiers.model_dump() | changes))
        for world in COMPARED
        for name, changes in POLICIES.items()
    }
    show("Other policies", policies)
    reached = {name: found["accuracy"][1] >= GOAL and found["answers"][2] < 5 for name, found in worlds.items()}
    for name, good in reached.items():
        print(f"{name}: 99 % with fewer answers than a majority of five: {'yes' if good else 'NO'}")
    setting = {"seeds": len(SEEDS), "goal": GOAL, "policy": tiers.model_dump(mode="json")}
    document = {"setting": setting, "worlds": worlds, "policies": policies, "reached": reached}
    OUT.parent.mkdir(parents=True, exist_ok=True)
    write_text(OUT, json.dumps(document, indent=1, sort_keys=True) + "\n")
    print(f"{OUT} written after {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    run(main)
