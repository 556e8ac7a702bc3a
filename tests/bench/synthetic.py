"""SIMULATED traffic for the drift benchmark: seeded requests and reactions, with or without a planted drift. Pure.

Prompts are training phrases that the reference does not hold; everything else is made up and stands for no real user.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Row = dict[str, Any]
Pair = tuple[str, str]  # prompt, output
REACTS, LIKED, MEDIAN_S = 0.6, 0.6, 0.4
DOCUMENTS = ("an invoice", "a bar chart", "a tax form", "a legal notice", "a balance sheet", "a board paper")
SUBJECTS = ("quarterly revenue", "customer churn", "a merger", "the audit", "pension claims", "supplier contracts")
ACTS = ("zeichne mir", "male bitte", "ich möchte gern", "mach mir")
DINGE = ("einen müden Igel", "die alte Mühle", "ein Stück Käsekuchen", "zwei Möwen im Nebel", "den größten Kürbis")
LONGER = ", standing on a hill at sunset, drawn with thick lines and soft colours, as a gift for my sister"


@dataclass(frozen=True)
class Planted:
    """A drift: shares of prompts (0 to 1) that change, the share of reactions that are likes, a factor on latency."""

    topic: float = 0.0
    longer: float = 0.0
    language: float = 0.0
    liked: float = LIKED
    slower: float = 1.0


KINDS = {
    "topic: 30 % of prompts about office papers": Planted(topic=0.3),
    "length: 30 % of prompts five times as long": Planted(longer=0.3),
    "language: 20 % of prompts in German": Planted(language=0.2),
    "feedback: likes fall from 60 % to 45 %": Planted(liked=0.45),
    "latency: 1.3 times as long": Planted(slower=1.3),
}


def requests(
    seed: Sequence[int], pairs: Sequence[Pair], count: int, since: float, until: float, line: str, planted: Planted
) -> Iterator[tuple[Row, Row | None]]:
    """`count` requests spread over a window (epoch s), each with its user's reaction, if there is one."""
    rng = np.random.default_rng(seed)
    name = "-".join(map(str, seed))
    for i, at in enumerate(np.sort(rng.uniform(since, until, count))):
        prompt, output = pairs[int(rng.integers(len(pairs)))]
        latency = float(planted.slower * MEDIAN_S * rng.lognormal(0, 0.5))
        row = {
            "request_id": f"{line}-{name}-{i}",
            "time": float(at),
            "user_key": f"u{rng.integers(count)}",
            "line": line,
            "deployment": f"{line}-1",
            "latency_s": latency,
            "outcome": "ok",
            "prompt": _prompt(rng, prompt, planted),
            "output": output,
            "completion_tokens": 2 + len(output) // 4,
        }
        yield row, _reaction(rng, row, planted.liked)


def _prompt(rng: np.random.Generator, usual: str, planted: Planted) -> str:
    roll = rng.random()
    if roll < planted.topic:
        return f"{rng.choice(DOCUMENTS)} on {rng.choice(SUBJECTS)}"
    if roll < planted.topic + planted.longer:
        return usual + LONGER
    if roll < planted.topic + planted.longer + planted.language:
        return f"{rng.choice(ACTS)} {rng.choice(DINGE)}"
    return usual


def _reaction(rng: np.random.Generator, row: Row, liked: float) -> Row | None:
    if rng.random() >= REACTS:
        return None
    at, value = row["time"] + row["latency_s"] + rng.exponential(30), float(rng.random() < liked)
    same = {name: row[name] for name in ("request_id", "user_key")}
    return (
        same
        | {"key": row["request_id"], "time": float(at), "kind": "like", "value": value}
        | {
            "received": float(at),
            "clock": "",
        }
    )
