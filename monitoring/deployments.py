"""Who answered, side by side: how fast, how well liked, and at what cost.

The cost is that of an endpoint's tokens at the price that `params.yaml` gave when it was released. It is not known of
answers whose tokens the endpoint did not count, and of a model of one's own, whose cost is that of its machine.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from components.events import window
from components.events.read import deployments
from monitoring.traffic import percentiles

SAMPLE = 2000  # requests of a deployment that percentiles are computed from
TOKENS = 1e6  # that a price is for


@dataclass(frozen=True)
class Answered:
    """What a deployment answered in a window; latencies in seconds.

    `reactions`: likes and dislikes, of which `liked`. `cost` in `currency`, of the `counted` answers; None where the
    price is not known, or no answer's tokens are.
    """

    deployment: str
    line: str
    requests: int
    p50: float | None
    p95: float | None
    reactions: int
    liked: int
    counted: int
    cost: float | None
    currency: str

    @property
    def cost_of_thousand(self) -> float | None:
        """What 1,000 answers cost at that rate."""
        return None if self.cost is None else 1000 * self.cost / max(self.counted, 1)


def answered(url: str, since: float, until: float, only: Sequence[str] | None = None) -> list[Answered]:
    """The window's deployments, the busiest first; `only` these where given."""
    prices = {row["deployment"]: json.loads(row["price"]) for row in deployments(url)}
    result = []
    for row in window.by_deployment(url, since, until):
        name, line, price = row["deployment"], row["line"], prices.get(row["deployment"])
        if only is not None and name not in only:
            continue
        sample = window.sample(url, since, until, line=line, rows=SAMPLE, deployment=name)
        p50, p95, _ = percentiles(sample, until)
        tokens = {kind: row[f"{kind}_tokens"] for kind in ("prompt", "completion")}
        cost = None
        if price and row["counted"]:
            cost = (tokens["prompt"] * price["input"] + tokens["completion"] * price["output"]) / TOKENS
        known = {key: row[key] for key in ("deployment", "line", "requests", "reactions", "liked", "counted")}
        result.append(Answered(**known, p50=p50, p95=p95, cost=cost, currency=(price or {}).get("currency", "")))
    return result
