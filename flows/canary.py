"""The canary flow: one look at each line's candidate on trial, one decision, one recorded move at most.

Short, and meant to run every minute: what waits for users is a row in the database, not a process. Gateways follow the
row by themselves, so that a move needs nothing restarted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from prefect import flow
from sqlalchemy import Engine

from components.config import Line, Params, load
from components.events.database import opened
from components.events.ledger import Note
from components.lines import LINES
from components.releases import evidence, store
from components.releases.decide import Action, decide
from components.releases.machine import NEXT, TRIAL, LeaseHeldError, State
from components.releases.plan import candidate_of, champion_of
from components.releases.schema import Release
from components.stage import StageError
from flows import experiments
from flows.driver import driving, logger, person, update_aliases
from flows.ops import ops
from flows.stack import vacate


@flow(name="canary", flow_run_name="canary", persist_result=False)
def canary() -> list[str]:
    """One step of every line and experiment; returns what was decided, in words. The ops page is written whether or not
    that works."""
    try:
        return [step(line, load()) for line in LINES] + experiments.step(load())
    finally:
        ops(load())


def step(line: Line, params: Params) -> str:
    """Look at a line's candidate and move it if that is due; says what was decided."""
    with opened(params.events.url) as engine:
        if on_trial(store.current(engine, line)) is None:
            return f"{line}: no candidate on trial"
    try:
        with driving(line, params, patience=0.0) as (engine, token):
            before = store.current(engine, line)
            outcome, moved = advance(engine, before, params, token)
            after = store.current(engine, line)
    except LeaseHeldError as error:
        return f"{line}: {error}"
    if moved:
        follow(line, before, after, params)
    logger().info("%s: %s", line, outcome)
    return f"{line}: {outcome}"


def on_trial(releases: Sequence[Release]) -> Release | None:
    candidate = candidate_of(releases)
    return candidate if candidate and candidate.state in TRIAL else None


def advance(engine: Engine, releases: Sequence[Release], params: Params, token: int) -> tuple[str, bool]:
    """Decide on the candidate under a lease; in words what was decided, and whether it was moved."""
    candidate = on_trial(releases)
    if candidate is None:
        return "no candidate on trial", False
    seen = evidence.gather(engine, candidate, champion_of(releases), params.release)
    decision = decide(seen, params.release)
    if decision.action is Action.HOLD:
        return f"{candidate.release} holds: {decision.why}", False
    to = NEXT[candidate.state] if decision.action is Action.ADVANCE else State.ROLLED_BACK
    note = Note(person(), decision.why, asdict(seen))
    store.move(engine, candidate.release, candidate.version, to, note, token)
    return f"{candidate.release} is {to}: {decision.why}", True


def follow(line: Line, before: Sequence[Release], after: Sequence[Release], params: Params) -> None:
    """MLflow's aliases follow, and a candidate that was sent back makes room; a failure of either undoes no move."""
    candidate = on_trial(before)
    if candidate and on_trial(after) is None and champion_of(after) == champion_of(before):
        vacate(line, candidate.deployment)
    try:
        update_aliases(line, before, after, params)
    except StageError as error:
        logger().error("MLflow's aliases of %s follow with the next move: %s", line, error)
