"""What the statistics of online experiments promise, held to account by simulation: `make bench NAME=online`.

Prints tables and writes `metrics/online/statistics.json`. Users answer yes or no at a rate of 30 % unless said
otherwise; two equal variants; a look after every 100 users. Nothing here reads real traffic.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ville
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import stats

from components.artifact import write_text
from components.experiments.comparison import DAYS as YEAR
from components.experiments.comparison import log_detector
from components.experiments.plan import BOUND, fixed_horizon
from components.stage import run
from tests.components.experiments.simulate import (
    Stream,
    crossing,
    fixed_horizon_mean,
    returning,
    stream,
    turning,
    users_to_decision,
)

OUT = Path("metrics/online/statistics.json")
RATE, LIFT, ALPHA, POWER, EVERY, SEED = 0.3, 0.15, 0.05, 0.8, 100, 7
AA_REPLAYS, AA_USERS = 1000, 10_000
REPLAYS, USERS = 1000, 16_000
RETURNING_REPLAYS, RETURNING_USERS, DAYS = 1000, 2000, 30
LIFTS = (0.08, 0.1, 0.15, 0.2, 0.3)
REQUESTS, PAST = 3, 5  # of a user inside the experiment and before it, where their past is used
BREACH, MARGIN = 0.05, 0.05
TURNS, BASE, PER_DAY = 500, 0.4, 200  # of effects that turn: replays, rate under control, users a day
REVERSALS = (
    ("+10 points for 20,000 users, then -20, 9 of 10 treated", (20_000, 0.1), (8_000, -0.2), 0.9),
    ("+10 points for 3,000 users, then -10, half treated", (3_000, 0.1), (8_000, -0.1), 0.5),
)

Floats = NDArray[np.float64]


def mixture(x: Floats) -> float:
    """Users at the look that decides, by what Atelier runs."""
    return users_to_decision(x, ALPHA, EVERY)


def ville_betting(x: Floats) -> float:
    """The same by `ville.BettingCS`: its wealth at a difference of 0, without the grid of other candidates."""
    walks = [ville.BettingTest(0.0, (-BOUND, BOUND), side, ALPHA).fit(x).log_e_values_ for side in ("greater", "less")]
    # Only what has happened by the look counts, and a candidate once excluded stays so.
    return _first(np.maximum.accumulate(np.maximum(*walks)) >= np.log(2 / ALPHA))


def ville_asymptotic(x: Floats) -> float:
    sequence = ville.AsymptoticCS(ALPHA, t_opt=2000).fit(x)  # narrowest where a lift of 15 to 20 % is decided
    return _first((sequence.lower_ > 0) | (sequence.upper_ < 0))


def peeking(x: Floats) -> float:
    """The ordinary test, wrongly looked at after every batch."""
    n, sums = np.arange(1, x.size + 1), np.cumsum(x)
    z = sums / np.sqrt(np.maximum(np.cumsum(x * x) - sums**2 / n, 1e-12))
    return _first(np.abs(z) > stats.norm.ppf(1 - ALPHA / 2))


def _first(decided: NDArray[np.bool_]) -> float:
    looks = np.flatnonzero(decided[EVERY - 1 :: EVERY])
    return EVERY * float(looks[0] + 1) if looks.size else float("inf")


TESTS: dict[str, Callable[[Floats], float]] = {
    "mixture of bets (what runs)": mixture,
    "ville, betting": ville_betting,
    "ville, asymptotic": ville_asymptotic,
}


def three_treatments(seed: tuple[int, int]) -> float:
    """Users until any of three treatments equal to control is told apart from it, each at a third of the level."""
    rng = np.random.default_rng(seed)
    arm, outcomes = rng.integers(4, size=AA_USERS), (rng.random(AA_USERS) < RATE).astype(float)
    needed = []
    for treatment in (1, 2, 3):
        mine = (arm == 0) | (arm == treatment)
        pair = Stream(outcomes[mine], np.full(mine.sum(), np.nan), arm[mine] == treatment)
        needed.append(users_to_decision(pair.effects(cuped=False), ALPHA / 3, EVERY))
    return min(needed)


def users_to_alarm(seed: tuple[int, int], harm: float) -> float:
    """Users until a guardrail that 5 % of control's users break, and `harm` more of the treatment's, raises alarm."""
    x = stream(BREACH, harm / BREACH, AA_USERS, seed).effects(cuped=False)
    return crossing(x, MARGIN, BOUND, ALPHA)


def false_positives() -> dict[str, float]:
    """Share of A/A replays with a false verdict at any look."""
    tests = TESTS | {"ordinary test, peeking": peeking}
    wrong: Counter[str] = Counter()
    for i in range(AA_REPLAYS):
        x = stream(RATE, 0.0, AA_USERS, (SEED, i)).effects(cuped=False)
        adjusted = stream(RATE, 0.0, AA_USERS, (SEED, i), REQUESTS, PAST).effects(cuped=True)
        users = {name: test(x) for name, test in tests.items()}
        users |= {f"{name}, CUPED": test(adjusted) for name, test in TESTS.items()}
        users["three treatments (Bonferroni)"] = three_treatments((SEED, i))
        users["guardrail, harm equal to its margin"] = users_to_alarm((SEED, i), MARGIN)
        wrong.update({name: int(np.isfinite(needed)) for name, needed in users.items()})
    return {name: count / AA_REPLAYS for name, count in wrong.items()} | returning_users()


def returning_users() -> dict[str, float]:
    """The same of users who join within half of the days and come back on every one; a look at the end of each."""
    wrong: Counter[str] = Counter()
    for i in range(RETURNING_REPLAYS):
        users = returning(RATE, RETURNING_USERS, DAYS, DAYS // 2, (SEED, i))
        for window in (1, 3, 7):
            needed = users_to_decision(users.effects(window), ALPHA, every=1)
            wrong[f"users who return, outcomes frozen after {window} d (what runs)"] += bool(np.isfinite(needed))
        looks = (users_to_decision(users.so_far(day), ALPHA, every=1) for day in range(1, DAYS + 1))
        wrong["users who return, outcomes the mean so far"] += any(map(np.isfinite, looks))
    return {name: count / RETURNING_REPLAYS for name, count in wrong.items()}


def power_curve() -> dict[str, dict[str, float]]:
    """By true lift: share decided by the users that a fixed horizon takes and by USERS, and the median to decision."""
    found = {}
    for lift in LIFTS:
        fixed = fixed_horizon(RATE, lift, POWER, ALPHA)
        replays = (stream(RATE, lift, USERS, (SEED, i)) for i in range(REPLAYS))
        needed = np.array([mixture(users.effects(cuped=False)) for users in replays])
        found[f"{lift:g}"] = {
            "fixed horizon": fixed,
            "decided by it": float(np.mean(needed <= fixed)),
            f"decided by {USERS}": float(np.mean(needed <= USERS)),
            "median users": quantile(needed, 0.5),
        }
    return found


def against_fixed_horizon() -> dict[str, dict[str, float]]:
    """At the true lift: users to decision of each sequence beside those of an ordinary test of the same power."""
    binary = fixed_horizon(RATE, LIFT, POWER, ALPHA)
    typical = stream(RATE, 0.0, 200_000, (SEED, REPLAYS), REQUESTS, PAST)
    told, spread = np.corrcoef(typical.outcomes, typical.before)[0, 1], typical.outcomes.std()
    mean, cuped = (fixed_horizon_mean(RATE * LIFT, s, POWER, ALPHA) for s in (spread, spread * np.sqrt(1 - told**2)))
    needed: dict[tuple[str, int], list[float]] = {}
    for i in range(REPLAYS):
        x = stream(RATE, LIFT, USERS, (SEED, i)).effects(cuped=False)
        shares = stream(RATE, LIFT, USERS, (SEED, i), REQUESTS, PAST)
        for name, test in TESTS.items():
            needed.setdefault((name, binary), []).append(test(x))
        needed.setdefault((f"mixture, {REQUESTS} requests a user", mean), []).append(mixture(shares.effects(False)))
        with_past = mixture(shares.effects(cuped=True))
        needed.setdefault((f"the same, CUPED (r = {told:.2f})", mean), []).append(with_past)
        needed.setdefault(("the same, CUPED in both tests", cuped), []).append(with_past)
    return {
        name: {
            "fixed horizon": fixed,
            "median": quantile(users, 0.5),
            "median / fixed": quantile(users, 0.5) / fixed,
            f"horizon of power {POWER:g}": quantile(users, POWER),
        }
        for (name, fixed), users in needed.items()
    }


def said(x: Floats, share: float, per_day: int) -> NDArray[np.bool_]:
    """After each user, whether the detector of change says that the effect is above 0."""
    log_wealth = log_detector(x, 0.0, 1 / min(share, 1 - share), np.arange(x.size) % per_day == 0)
    return log_wealth >= np.log(YEAR / (ALPHA / 2))


def changes() -> dict[str, dict[str, float]]:
    """Without an effect, the share of years in which one is said; and users until a turn for the worse is."""
    found: dict[str, dict[str, float]] = {}
    for per_day in (20, 100):
        years = (turning([(YEAR * per_day, 0.0)], BASE, 0.5, (SEED, i)) for i in range(TURNS))
        wrong = [said(x, 0.5, per_day).any() or said(-x, 0.5, per_day).any() for x in years]
        found[f"no effect, {per_day} users a day for a year"] = {"said": float(np.mean(wrong))}
    for name, good, bad, share in REVERSALS:
        late = []
        for i in range(TURNS):
            after = np.flatnonzero(said(-turning([good, bad], BASE, share, (SEED, i)), share, PER_DAY)[good[0] :])
            late.append(float(after[0]) + 1 if after.size else float("inf"))
        found[name] = {"median users": quantile(late, 0.5), "nine of ten by": quantile(late, 0.9)}
    return found


def guardrail_alarms() -> dict[str, float]:
    """Median users until the alarm, by true harm in percentage points (the margin is 5)."""
    return {
        f"{100 * harm:g}": quantile([users_to_alarm((SEED, i), harm) for i in range(REPLAYS)], 0.5)
        for harm in (0.1, 0.15, 0.25)
    }


def quantile(users: Sequence[float] | Floats, share: float) -> float:
    return float(np.quantile(users, share, method="higher"))


def show(title: str, rows: dict[str, dict[str, float]]) -> None:
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    for name, row in rows.items():
        cells = (row.get(column) for column in columns)
        table.add_row(name, *("" if v is None else f"{v:.3f}" if v < 10 else f"{v:,.0f}" for v in cells))
    Console(width=120).print(table)


def main() -> None:
    """Run all simulations with fixed seeds, print them and write them down."""
    began = time.monotonic()
    wrong = false_positives()
    show(f"A/A, {AA_REPLAYS} replays of {AA_USERS} users", {k: {"false positives": v} for k, v in wrong.items()})
    curve = power_curve()
    show(f"true lifts on {RATE:g}, {REPLAYS} replays", curve)
    race = against_fixed_horizon()
    show(f"a true lift of {LIFT:g}, power {POWER:g}: users of both variants", race)
    alarms = guardrail_alarms()
    show("guardrail: users until the alarm, by harm in points", {k: {"median users": v} for k, v in alarms.items()})
    turned = changes()
    show(f"effects that turn, {TURNS} replays, half of the level for each direction", turned)
    found: dict[str, Any] = {"false_positives": wrong, "power": curve, "lift_15": race, "guardrail_alarms": alarms}
    found["changes"] = turned
    setting = {"rate": RATE, "alpha": ALPHA, "power": POWER, "look_every": EVERY, "seed": SEED, "replays": REPLAYS}
    OUT.parent.mkdir(parents=True, exist_ok=True)
    document = found | {"setting": setting | {"aa_replays": AA_REPLAYS, "aa_users": AA_USERS, "users": USERS}}
    finite = json.loads(json.dumps(document), parse_constant=lambda _: None)  # never: JSON knows no infinity
    write_text(OUT, json.dumps(finite, indent=1, sort_keys=True) + "\n")
    print(f"{OUT} written after {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    run(main)
