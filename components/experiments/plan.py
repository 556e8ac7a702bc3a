"""How many users, and days, an experiment with two equal variants needs to see a relative lift.

Prints the fixed-horizon test (looked at once, at the end) beside the always-valid one that Atelier runs, simulated with
a fixed seed. Outcomes are yes or no, the worst case: shares of several requests need fewer users, and so does CUPED.
A user counts once their attribution window is over: its length comes on top of the days.

    python -m components.experiments.plan --rate 0.3 --lift 0.15 --users-per-day 500
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import proportion_effectsize

from components.experiments.comparison import bets
from components.stage import StageError, run

BOUND = 2.0  # of effects at equal shares
REPLAYS, LOOKS, SEED = 2000, 400, 7
LONGEST = 8  # simulated up to this many fixed horizons


@dataclass(frozen=True)
class Plan:
    """Users of both variants together. `horizon`: by then the always-valid test has seen the lift with `power`."""

    fixed: int
    horizon: float
    median: float


def plan(rate: float, lift: float, power: float = 0.8, alpha: float = 0.05) -> Plan:
    """Raises `StageError` for a rate, lift, power or level that no experiment can have."""
    lifted = rate * (1 + lift)
    if not (0 < rate < 1 and 0 < lifted < 1 and lift):
        raise StageError(f"rate {rate:g} and lifted rate {lifted:g} must lie strictly between 0 and 1 and differ")
    if not 0 < alpha < power < 1:
        raise StageError(f"0 < alpha < power < 1 is needed, not alpha {alpha:g} and power {power:g}")
    fixed = fixed_horizon(rate, lift, power, alpha)
    users = decisions(rate, lift, LONGEST * fixed, alpha)
    horizon, median = (float(np.quantile(users, q, method="higher")) for q in (power, 0.5))
    return Plan(fixed, horizon, median)


def fixed_horizon(rate: float, lift: float, power: float, alpha: float) -> int:
    """Users of both variants together that an ordinary test of two proportions, looked at once, needs."""
    size = proportion_effectsize(rate * (1 + lift), rate)
    return 2 * math.ceil(NormalIndPower().solve_power(abs(size), alpha=alpha, power=power))


def decisions(rate: float, lift: float, users: int, alpha: float) -> NDArray[np.float64]:
    """Users at the look that decided, of each of REPLAYS experiments of `users`; inf where none of LOOKS did.

    The wealth (`comparison.log_wealth`) is a product over users who come in four kinds only, so counts of these
    suffice: a million users cost what a hundred do. Expected outcomes are set to `rate`, which an analysis learns
    within a few users.
    """
    rng = np.random.default_rng(SEED)
    batch = max(users // LOOKS, 1)
    lifted = rate * (1 + lift)
    kinds = np.array([1 - rate, -rate, -(1 - rate), rate]) * BOUND  # liked or not under treatment, then under control
    shares = np.array([lifted, 1 - lifted, rate, 1 - rate]) / 2
    counts_RL4 = np.cumsum(rng.multinomial(batch, shares, size=(REPLAYS, LOOKS)), axis=1)
    reached = np.zeros((REPLAYS, LOOKS), dtype=bool)
    for sign in (1, -1):
        log_growth_4K = np.log1p(sign * np.outer(kinds, bets(BOUND, 0.0)))
        wealth_RL = np.logaddexp.reduce(counts_RL4 @ log_growth_4K, axis=2) - np.log(len(bets(BOUND, 0.0)))
        reached |= wealth_RL >= np.log(2 / alpha)
    first = np.argmax(reached, axis=1) + 1.0
    return np.where(reached.any(axis=1), first * batch, np.inf)


def main(
    rate: Annotated[float, typer.Option(help="share of liked answers under control")],
    lift: Annotated[float, typer.Option(help="relative lift worth seeing: 0.15 is from 30 to 34.5 %")],
    users_per_day: Annotated[float, typer.Option(min=1, help="new users a day in the experiment")],
    power: Annotated[float, typer.Option(help="probability of seeing the lift if it is there")] = 0.8,
    alpha: Annotated[float, typer.Option(help="probability of seeing one where none is")] = 0.05,
) -> None:
    """Users and days that an experiment needs."""
    planned = plan(rate, lift, power, alpha)
    table = Table(title=f"{100 * rate:g} % to {100 * rate * (1 + lift):g} %, power {power:g}, alpha {alpha:g}")
    for column in ("test", "users", "days"):
        table.add_column(column, justify="left" if column == "test" else "right")
    for name, users in (
        ("fixed horizon, one look at the end", planned.fixed),
        ("always valid: half of the experiments have decided", planned.median),
        (f"always valid: {power:.0%} have decided", planned.horizon),
    ):
        within = np.isfinite(users)
        count = f"{users:,.0f}" if within else f"over {LONGEST * planned.fixed:,}"
        table.add_row(name, count, f"{users / users_per_day:,.1f}" if within else "–")
    Console(width=100).print(table)


if __name__ == "__main__":
    run(main)
