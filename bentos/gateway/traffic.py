"""Who is asked: the line's traffic plan over what each slot serves, and what breakers leave of it; the experiments; and
how many calls may be repeated.

Plans and experiments are read from the events database about once a second, in a thread; a database that fails leaves
the last ones in force, so that neither it nor a slot that is down is waited for on a request's path.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, select

from bentos.gateway.upstream import Slot, Upstream
from bentos.protocol import Info
from components.config import Line
from components.events.database import reading
from components.events.schema import TRIALS, CallKind, Reason
from components.events.store import commit
from components.experiments import versions
from components.experiments.assignment import Placed
from components.lines import LINES
from components.releases import dislikes, store
from components.releases.plan import TrafficPlan, candidate_of, champion_of, chooses_candidate, traffic_plan
from components.releases.schema import Release
from components.stage import StageError
from monitoring import metrics

PLAN_SECONDS = 1.0
REMEMBERED = 200  # of the champion's latencies
ENOUGH = 20  # answers of the champion before its latency says anything
FAR, FAR_SECONDS = 3.0, 0.25  # slow: more than 3 times the champion's p95, and by what a user notices
PATIENCE, PATIENCE_SECONDS = 10.0, 2.0  # how long the champion's users are kept waiting for a candidate's first byte
CONSECUTIVE = 3  # failures in a row that open a breaker: one in a million calls, of a candidate that fails 1 % of them
WINDOW, IN_WINDOW = 20, 6  # or that many of the last 20: within 3 to 20 calls for whatever fails a third of the time
RETRY_SHARE = 0.1  # retries per call
MOST_RETRIES = 10.0  # what the last hundred calls put in, so that a long quiet time saves up no storm
FIRST_RETRY = 1.0  # so that the first call of a gateway may be repeated too
log = logging.getLogger("bentoml.gateway")


@dataclass(frozen=True)
class Candidate:
    """A release on trial, the slot that serves it, and that of the champion, which answers where it fails."""

    release: str
    slot: Slot
    info: Info
    champion: Slot


@dataclass(frozen=True)
class Route:
    """The slot that is asked. With `candidate` it is that one's, or (`shadow`) the candidate gets a copy afterwards.

    `fallback`: who answers where the champion fails, if anybody.
    """

    slot: Slot
    info: Info
    candidate: Candidate | None = None
    shadow: bool = False
    fallback: Slot | None = None

    @property
    def answering_candidate(self) -> Candidate | None:
        """The candidate whose answer a user waits for."""
        return None if self.shadow else self.candidate


class Breaker:
    """The circuit breaker of one release; `opened` is the reason of the failure that opened it, empty while closed.

    It never closes again by itself, which is what the breakers on PyPI are for (they let a request through after a
    while to see): the candidate is on trial, its release's driver decides, and another release has another breaker.
    """

    def __init__(self) -> None:
        self.opened = ""
        self._failed: deque[bool] = deque(maxlen=WINDOW)

    def note(self, reason: str) -> bool:
        """Take in how a call ended, empty for well; True where that opens it."""
        self._failed.append(bool(reason))
        in_a_row = len(self._failed) >= CONSECUTIVE and all(list(self._failed)[-CONSECUTIVE:])
        if self.opened or not (in_a_row or sum(self._failed) >= IN_WINDOW):
            return False
        self.opened = reason or Reason.ERROR
        return True


class RetryBudget:
    """How many calls may be repeated: a token bucket for each line, as in gRPC and Finagle.

    Each call puts in a tenth of a token, each retry takes a whole one. So retries are at most a tenth of the calls, a
    line that is down is not asked twice as often for it, and pictures that fail do not use up the retries of text.
    """

    def __init__(self) -> None:
        self._tokens: defaultdict[Line, float] = defaultdict(lambda: FIRST_RETRY)

    def deposit(self, line: Line) -> None:
        """For each call, whether or not it will fail."""
        self._tokens[line] = min(self._tokens[line] + RETRY_SHARE, MOST_RETRIES)

    def withdraw(self, line: Line) -> bool:
        """Whether a retry is within the budget, and if so its price."""
        if self._tokens[line] < 1:
            return False
        self._tokens[line] -= 1
        return True


class Traffic:
    """Plans, breakers and the champions' latencies of one gateway; `fallbacks`: lines where an endpoint that runs
    beside the champion answers for it."""

    def __init__(self, upstream: Upstream, engine: Engine, alpha: float, fallbacks: Collection[Line] = ()) -> None:
        self._upstream, self._engine, self._alpha, self._fallbacks = upstream, engine, alpha, fallbacks
        self._plans: Mapping[Line, TrafficPlan] = {}
        self.experiments: tuple[Placed, ...] = ()
        self._breakers: dict[str, Breaker] = {}
        # By size too: compared with what the champion does on small ones, a few large requests would sink a candidate.
        self._latencies: defaultdict[tuple[Line, int], deque[float]] = defaultdict(lambda: deque(maxlen=REMEMBERED))
        self._failing = False

    def route(self, line: Line, user_key: str) -> Route:
        """Raises a 503 `ApiError` where the champion would be asked and does not answer. Waits for nobody."""
        plan = self._plans.get(line)
        candidate = self._candidate(line, plan) if plan else None
        if plan and candidate and chooses_candidate(plan, user_key):
            return Route(candidate.slot, candidate.info, candidate)
        slot, fallback = self.champion_slot(line), self._fallback(line, plan)
        if fallback and not self._upstream.answers(slot):
            return Route(*fallback)
        shadow = plan is not None and plan.shadow
        beside = fallback[0] if fallback and fallback[0] != slot else None
        return Route(slot, self._upstream.info(slot), candidate if shadow else None, shadow, beside)

    def _fallback(self, line: Line, plan: TrafficPlan | None) -> tuple[Slot, Info] | None:
        """An endpoint that is not on trial: its answers would count as the champion's."""
        found = self._upstream.endpoint(line) if line in self._fallbacks else None
        return found if found and (plan is None or found[1].deployment != plan.candidate) else None

    def champion_slot(self, line: Line) -> Slot:
        """Where the champion is; where no slot is known to serve it, the first that does not serve the candidate."""
        plan, slots = self._plans.get(line), self._upstream.slots[line]
        champion = self._upstream.serving(line, plan.champion) if plan and plan.champion else None
        if champion:
            return champion[0]
        candidate = self._upstream.serving(line, plan.candidate) if plan and plan.candidate else None
        return next((slot for slot in slots if not candidate or slot != candidate[0]), slots[0])

    def _candidate(self, line: Line, plan: TrafficPlan) -> Candidate | None:
        """None too where no slot serves it or its breaker is open."""
        serving = self._upstream.serving(line, plan.candidate) if plan.candidate else None
        champion = self.champion_slot(line)
        if serving is None or serving[0] == champion or self.breaker(plan.salt).opened:
            return None
        return Candidate(plan.salt, *serving, champion)

    def breaker(self, release: str) -> Breaker:
        return self._breakers.setdefault(release, Breaker())

    def note_champion(self, line: Line, size: int, seconds: float) -> None:
        """Take in how long the champion took for an answer."""
        self._latencies[line, size].append(seconds)

    def patience(self, line: Line, size: int, timeout: float) -> float:
        """Seconds a candidate has for its first byte."""
        return patience(p95(self._latencies[line, size]), timeout)

    def is_slow(self, line: Line, size: int, seconds: float) -> bool:
        return far_above(seconds, p95(self._latencies[line, size]))

    async def follow(self) -> None:
        """Keep the plans and experiments fresh, until cancelled."""
        while True:
            await asyncio.sleep(PLAN_SECONDS)
            await self.refresh()

    async def refresh(self) -> None:
        try:
            self._plan(*await asyncio.to_thread(read_plans, self._engine, self._alpha))
            running = await asyncio.to_thread(versions.running, self._engine)
            self._run(tuple(version.placed for version in running))
            self._failing = False
        except StageError as error:
            if not self._failing:
                log.warning("the traffic plans and experiments stay as they are: %s", error)
            self._failing = True

    def _plan(self, plans: Mapping[Line, TrafficPlan], opened: Mapping[str, str]) -> None:
        self._plans = plans
        on_trial = {plan.salt for plan in plans.values() if plan.candidate}
        self._breakers = {release: self.breaker(release) for release in on_trial}
        for release, reason in opened.items():  # by another gateway, or before this one started
            self._breakers[release].opened = self._breakers[release].opened or reason

    def _run(self, experiments: tuple[Placed, ...]) -> None:
        self.experiments = experiments
        variants: dict[str, list[tuple[str, str]]] = {line: [("", "")] for line in LINES}
        for placed in experiments:
            variants[placed.experiment.line] += [(placed.experiment.name, name) for name in placed.experiment.variants]
        metrics.start_at_zero(variants)


def p95(latencies: Collection[float]) -> float | None:
    """None while there are too few."""
    return sorted(latencies)[int(0.95 * len(latencies))] if len(latencies) >= ENOUGH else None


def far_above(latency: float, champion: float | None) -> bool:
    """Whether a latency is far above the champion's p95 (seconds)."""
    return champion is not None and latency > max(FAR * champion, champion + FAR_SECONDS)


def patience(champion: float | None, timeout: float) -> float:
    """Seconds a candidate has for its first byte, so that the champion can still answer within `timeout`."""
    return timeout / 4 if champion is None else min(max(PATIENCE * champion, PATIENCE_SECONDS), timeout / 2)


def read_plans(engine: Engine, alpha: float) -> tuple[dict[Line, TrafficPlan], dict[str, str]]:
    """The plan of each line, and of the releases in them whose breaker is open, by which reason."""
    releases = {line: store.current(engine, line) for line in LINES}
    plans: dict[Line, TrafficPlan] = {line: traffic_plan(line, of_line) for line, of_line in releases.items()}
    salts = [plan.salt for plan in plans.values() if plan.candidate]
    if not salts:
        return plans, {}
    for of_line in releases.values():
        cut_off_disliked(engine, of_line, alpha)
    query = select(TRIALS.c.request_id, TRIALS.c.reason)
    query = query.where(TRIALS.c.kind == CallKind.BREAKER, TRIALS.c.request_id.in_(salts))
    with reading(engine, "releases") as connection:
        return plans, {row.request_id: row.reason for row in connection.execute(query)}


def cut_off_disliked(engine: Engine, releases: Sequence[Release], alpha: float) -> None:
    """Open the breaker of a candidate that users dislike: here and, by its row, in every gateway and for the driver."""
    candidate, champion = candidate_of(releases), champion_of(releases)
    if candidate is None or champion is None:
        return
    verdict = dislikes.verdict(engine, candidate, champion.deployment, alpha)
    if verdict and commit(engine, [verdict])[0]:
        metrics.BREAKERS_OPENED.labels(verdict.deployment, verdict.reason).inc()
        log.error("%s gets no more traffic: its breaker opened (%s)", verdict.deployment, verdict.reason)
