"""Who is asked: the line's traffic plan over what each slot serves, and what breakers leave of it; and the experiments.

Plans and experiments are read from the events database about once a second, in a thread; a database that fails leaves
the last ones in force, so that neither it nor a slot that is down is waited for on a request's path.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, select

from bentos.gateway import breaker
from bentos.gateway.breaker import Breaker
from bentos.gateway.schemas import MODELS
from bentos.gateway.upstream import Slot, Upstream
from bentos.protocol import Info
from components.config import Line
from components.events.database import EventStoreError
from components.events.schema import TRIALS
from components.events.store import commit
from components.events.transactions import DatabaseRefusedError, reading
from components.experiments import versions
from components.experiments.assignment import Placed
from components.experiments.versions import ExperimentRefusedError
from components.releases import dislikes, store
from components.releases.errors import ReleaseError
from components.releases.plan import TrafficPlan, candidate_of, champion_of, chooses_candidate, traffic_plan
from components.releases.schema import Release
from monitoring import metrics

PLAN_SECONDS = 1.0
REMEMBERED = 200  # of the champion's latencies
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
    """The slot that is asked. With `candidate` it is that one's, or (`shadow`) the candidate gets a copy afterwards."""

    slot: Slot
    info: Info
    candidate: Candidate | None = None
    shadow: bool = False

    @property
    def trial(self) -> Candidate | None:
        """The candidate whose answer a user waits for."""
        return None if self.shadow else self.candidate


def read_experiments(engine: Engine) -> tuple[Placed, ...]:
    """What is in force."""
    return tuple(version.placed for version in versions.running(engine))


def read_plans(engine: Engine, alpha: float) -> tuple[dict[Line, TrafficPlan], dict[str, str]]:
    """The plan of each line, and of the releases in them whose breaker is open, by which reason."""
    releases = {line: store.current(engine, line) for line in MODELS}
    plans: dict[Line, TrafficPlan] = {line: traffic_plan(line, found) for line, found in releases.items()}
    salts = [plan.salt for plan in plans.values() if plan.candidate]
    if not salts:
        return plans, {}
    for found in releases.values():
        cut_off_disliked(engine, found, alpha)
    query = select(TRIALS.c.request_id, TRIALS.c.reason)
    with reading(engine, "releases") as connection:
        rows = connection.execute(query.where(TRIALS.c.kind == "breaker", TRIALS.c.request_id.in_(salts)))
        return plans, {row.request_id: row.reason for row in rows}


def cut_off_disliked(engine: Engine, releases: Sequence[Release], alpha: float) -> None:
    """Open the breaker of a candidate that users dislike: here and, by its row, in every gateway and for the driver."""
    candidate, champion = candidate_of(releases), champion_of(releases)
    if candidate is None or champion is None:
        return
    verdict = dislikes.verdict(engine, candidate, champion.deployment, alpha)
    if verdict and commit(engine, [verdict])[0]:
        metrics.BREAKERS_OPENED.labels(verdict.deployment, verdict.reason).inc()
        log.error("%s gets no more traffic: its breaker opened (%s)", verdict.deployment, verdict.reason)


class Traffic:
    """Plans, breakers and the champions' latencies of one gateway."""

    def __init__(self, upstream: Upstream, engine: Engine, alpha: float) -> None:
        self._upstream, self._engine, self._alpha = upstream, engine, alpha
        self._plans: Mapping[Line, TrafficPlan] = {}
        self.experiments: tuple[Placed, ...] = ()
        self._breakers: dict[str, Breaker] = {}
        # By size too: compared with what the champion does on small ones, a few large requests would sink a candidate.
        self._latencies: defaultdict[tuple[Line, int], deque[float]] = defaultdict(lambda: deque(maxlen=REMEMBERED))
        self._failing = False

    async def follow(self) -> None:
        """Keep the plans fresh, until cancelled."""
        while True:
            await asyncio.sleep(PLAN_SECONDS)
            await self.refresh()

    async def refresh(self) -> None:
        try:
            self._plan(*await asyncio.to_thread(read_plans, self._engine, self._alpha))
            self._run(await asyncio.to_thread(read_experiments, self._engine))
            self._failing = False
        except (DatabaseRefusedError, ReleaseError, EventStoreError, ExperimentRefusedError) as error:
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
        variants: dict[str, list[tuple[str, str]]] = {line: [("", "")] for line in MODELS}
        for placed in experiments:
            variants[placed.experiment.line] += [(placed.experiment.name, name) for name in placed.experiment.variants]
        metrics.start_at_zero(variants)

    def breaker(self, release: str) -> Breaker:
        return self._breakers.setdefault(release, Breaker())

    def route(self, line: Line, user_key: str) -> Route:
        """Raises a 503 `ApiError` where the champion would be asked and does not answer. Waits for nobody."""
        plan = self._plans.get(line)
        candidate = self._candidate(line, plan) if plan else None
        if plan and candidate and chooses_candidate(plan, user_key):
            return Route(candidate.slot, candidate.info, candidate)
        home = self.home(line)
        shadow = plan is not None and plan.shadow
        return Route(home, self._upstream.info(home), candidate if shadow else None, shadow)

    def home(self, line: Line) -> Slot:
        """The champion's slot; where none is known to serve it, the first that is not known to be the candidate's."""
        plan, slots = self._plans.get(line), self._upstream.slots[line]
        found = self._upstream.find(line, plan.champion) if plan and plan.champion else None
        other = self._upstream.find(line, plan.candidate) if plan and plan.candidate else None
        rest = [slot for slot in slots if not other or slot != other[0]]
        return found[0] if found else (rest or slots)[0]

    def _candidate(self, line: Line, plan: TrafficPlan) -> Candidate | None:
        """None too where no slot serves it or its breaker is open."""
        found = self._upstream.find(line, plan.candidate) if plan.candidate else None
        home = self.home(line)
        if found is None or found[0] == home or self.breaker(plan.salt).opened:
            return None
        return Candidate(plan.salt, *found, home)

    def answered(self, line: Line, size: int, seconds: float) -> None:
        """Take in how long the champion took."""
        self._latencies[line, size].append(seconds)

    def budget(self, line: Line, size: int, timeout: float) -> float:
        return breaker.budget(breaker.p95(self._latencies[line, size]), timeout)

    def slow(self, line: Line, size: int, seconds: float) -> bool:
        return breaker.far_above(seconds, breaker.p95(self._latencies[line, size]))
