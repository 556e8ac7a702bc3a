"""What the release flow tells the state machine, and how MLflow's aliases follow it.

A release goes on trial, or becomes champion by the direct path and says so. Thin: the rules are in
`components.releases`.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
from contextlib import suppress
from typing import Any

from prefect import get_run_logger, task
from prefect.exceptions import MissingContextError
from prefect.logging import get_logger
from sqlalchemy import Engine

from components.config import Line, Params
from components.events.read import get_deployment
from components.events.transactions import DatabaseRefusedError, opened
from components.releases import store
from components.releases.leases import held
from components.releases.machine import State
from components.releases.plan import TrafficPlan, candidate_of, champion_of, traffic_plan
from components.releases.schema import Note, Release
from components.stage import StageError
from flows.environment import STATE

Aliases = dict[str, str]
Alarm = dict[str, str | None]
LEASE_SECONDS = 30.0
PATIENCE_SECONDS = 60.0  # longer than the lease of a driver that was killed
DIRECT = "no canary was asked for"


def person() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"


def driver() -> str:
    """Names a holder of a lease: this process."""
    return f"{person()} (process {os.getpid()})"


def plan(line: Line, params: Params) -> TrafficPlan:
    """Who is champion and who is on trial; nobody, before there is a database."""
    with suppress(DatabaseRefusedError), opened(params.events.url, create=False) as engine:
        return traffic_plan(line, store.current(engine, line))
    return traffic_plan(line, [])


def require_no_other_on_trial(line: Line, deployment: str, params: Params) -> None:
    """Refuse, before anything is deployed, a second candidate: users are compared between two."""
    on_trial = plan(line, params).candidate
    if on_trial not in (None, deployment):
        raise StageError(
            f"{on_trial} is on trial on line {line}: wait for it, or `atelier release rollback {line}` first"
        )


def require_not_rolled_back(line: Line, deployment: str, params: Params) -> None:
    """Refuse, before anything is deployed, what somebody took back: the nightly flow would bring it in again."""
    with opened(params.events.url) as engine:
        moves = [m for m in store.history(engine, line) if m.release.rpartition(".")[0] == deployment]
    if moves and moves[-1].target is State.ROLLED_BACK:
        last = moves[-1]
        raise StageError(
            f"{deployment} was rolled back by {last.who}: {last.why}; release another package or other code"
        )


@task(task_run_name="record-{line}", persist_result=False)
def record_release(line: Line, deployment: str, params: Params) -> list[Alarm]:
    """Make a deployment that serves now the champion of its line, unless it is; returns `project`'s alarms.

    Continues where a killed flow stopped.
    """
    with opened(params.events.url) as engine, held(engine, line, driver(), LEASE_SECONDS, PATIENCE_SECONDS) as lease:
        releases = store.current(engine, line)
        before, champion = aliases(params, releases), champion_of(releases)
        if champion is None or champion.deployment != deployment:
            promote(engine, deployment, evidence(line, deployment, champion, params), lease.token)
        return project(line, before, aliases(params, store.current(engine, line)), params)


@task(task_run_name="try-{line}", persist_result=False)
def record_candidate(line: Line, deployment: str, params: Params) -> list[Alarm]:
    """Put a deployment that serves in the second slot on trial, unless it is; from then on `flows.canary` drives it."""
    with opened(params.events.url) as engine, held(engine, line, driver(), LEASE_SECONDS, PATIENCE_SECONDS) as lease:
        releases = store.current(engine, line)
        found = evidence(line, deployment, champion_of(releases), params)
        release = validated(engine, deployment, found, lease.token)
        if release.state is State.VALIDATED:
            note = Note(person(), "its slot answers", found)
            store.move(engine, release.release, release.version, State.SHADOW, note, lease.token)
        return project(line, aliases(params, releases), aliases(params, store.current(engine, line)), params)


def promote(engine: Engine, deployment: str, found: dict[str, Any], token: int) -> None:
    """Registered → validated → champion, the second by the direct path."""
    release = validated(engine, deployment, found, token)
    note = Note(person(), DIRECT, found)
    store.move(engine, release.release, release.version, State.CHAMPION, note, token, direct=True)


def validated(engine: Engine, deployment: str, found: dict[str, Any], token: int) -> Release:
    """Registered → validated; a release that is further already stays where it is."""
    release = store.register(engine, deployment, Note(person(), "released by the flow"), token)
    if release.state is not State.REGISTERED:
        return release
    passed = Note(person(), "gate and parity passed; the service answers", found)
    return store.move(engine, release.release, release.version, State.VALIDATED, passed, token)


def evidence(line: Line, deployment: str, champion: Release | None, params: Params) -> dict[str, Any]:
    """The digest that was released and, where one was made, its comparison with the champion it replaces."""
    digest = digest_of(params, deployment)
    if champion is None:
        return {"digest": digest, "comparison": "no champion to compare with"}
    file = STATE / "comparisons" / line / f"{digest[:12]}-{digest_of(params, champion.deployment)[:12]}.json"
    return {"digest": digest, "comparison": json.loads(file.read_bytes()) if file.exists() else "none was made"}


def digest_of(params: Params, deployment: str) -> str:
    found = get_deployment(params.events.url, deployment)
    if found is None:
        raise StageError(f"no deployment {deployment!r} is recorded; `atelier release start` records one")
    return found.digest


def aliases(params: Params, releases: list[Release]) -> Aliases:
    """What MLflow's aliases of a line should be, digests by alias."""
    roles = {"champion": champion_of(releases), "candidate": candidate_of(releases)}
    return {alias: digest_of(params, release.deployment) for alias, release in roles.items() if release}


def project(line: Line, before: Aliases, wanted: Aliases, params: Params) -> list[Alarm]:
    """Make MLflow's aliases follow; returns, and logs as errors, what they said that we had not set.

    `before` is what we set last. A projection that a kill cut short looks like an edit, and is reported like one.
    """
    from components.registry.registry import project_aliases

    changes = project_aliases(line, wanted, params.registry)
    alarms: list[Alarm] = [
        {"line": line, "alias": alias, "found": found, "expected": before.get(alias), "set": made}
        for alias, (found, made) in changes.items()
        if found != before.get(alias)
    ]
    for alarm in alarms:
        words = "MLflow's alias %(alias)s of %(line)s said %(found)s, not %(expected)s as we had set it; now %(set)s"
        logger().error(words, alarm)
    return alarms


def logger() -> Any:
    """The run's log; outside a run (a rollback needs no Prefect), the process's."""
    try:
        return get_run_logger()
    except MissingContextError:
        return get_logger("releases")
