"""Who drives a line's releases: its name, its lease on the line, and what follows its moves, MLflow's aliases."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from prefect import get_run_logger
from prefect.exceptions import MissingContextError
from prefect.logging import get_logger
from sqlalchemy import Engine

from components.config import Line, Params
from components.events.database import NoDatabaseError, opened
from components.events.read import get_deployment
from components.releases import store
from components.releases.leases import held
from components.releases.plan import TrafficPlan, candidate_of, champion_of, traffic_plan
from components.releases.schema import Release
from components.stage import StageError

LEASE_SECONDS = 30.0
PATIENCE_SECONDS = 60.0  # longer than the lease of a driver that was killed


def person() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"


@contextmanager
def driving(line: Line, params: Params, patience: float = PATIENCE_SECONDS) -> Iterator[tuple[Engine, int]]:
    """The database, and the token of the lease by which this process alone moves the line's releases."""
    holder = f"{person()} (process {os.getpid()})"
    with opened(params.events.url) as engine, held(engine, line, holder, LEASE_SECONDS, patience) as lease:
        yield engine, lease.token


def plan(line: Line, params: Params) -> TrafficPlan:
    """Who is champion and who is on trial; nobody, before there is a database."""
    with suppress(NoDatabaseError), opened(params.events.url, create=False) as engine:
        return traffic_plan(line, store.current(engine, line))
    return traffic_plan(line, [])


def digest_of(params: Params, deployment: str) -> str:
    record = get_deployment(params.events.url, deployment)
    if record is None:
        raise StageError(f"no deployment {deployment!r} is recorded; `atelier release start` records one")
    return record.digest


def update_aliases(line: Line, before: Sequence[Release], after: Sequence[Release], params: Params) -> None:
    """Make MLflow's aliases follow; what they said that was not set here is logged as an error.

    `before` is what they followed last. An update that a kill cut short looks like an edit, and is reported like one.
    """
    from components.registry.registry import project_aliases

    expected = _aliases(params, before)
    message = "MLflow's alias %s of %s said %s, not %s as we had set it; now %s"
    for alias, (found, now) in project_aliases(line, _aliases(params, after), params.registry).items():
        if found != expected.get(alias):
            logger().error(message, alias, line, found, expected.get(alias), now)


def _aliases(params: Params, releases: Sequence[Release]) -> dict[str, str]:
    """What MLflow's aliases of a line should be, digests by alias."""
    roles = {"champion": champion_of(releases), "candidate": candidate_of(releases)}
    return {alias: digest_of(params, release.deployment) for alias, release in roles.items() if release}


def logger() -> Any:
    """The run's log; outside a run (a rollback needs no Prefect), the process's."""
    try:
        return get_run_logger()
    except MissingContextError:
        return get_logger("releases")
