"""`atelier release rollback`: the champion before serves again. No Prefect flow: it works when the stack does not.

The database decides first and the service follows; cut short in between, the next call finds the machine serving
something else than the champion and only completes that.
"""

from __future__ import annotations

from components.config import Line, Params
from components.events.database import opened
from components.events.ledger import Note
from components.events.read import get_deployment
from components.releases import store
from components.releases.machine import TRIAL, State
from components.releases.plan import candidate_of, champion_of
from components.releases.report import summary
from components.stage import StageError
from flows import stack
from flows.driver import driving, person, update_aliases
from flows.stack import place, served, slot_of, vacate


def rollback(line: Line, why: str, params: Params) -> str:
    """Take back the candidate on trial or else the champion, and serve who is champion then; returns one line on it."""
    with driving(line, params) as (engine, token):
        before = store.current(engine, line)
        champion, candidate, note = champion_of(before), candidate_of(before), Note(person(), why)
        if champion is None or slot_of(line, champion.deployment):
            if candidate is not None and candidate.state in TRIAL:
                store.move(engine, candidate.release, candidate.version, State.ROLLED_BACK, note, token)
            else:
                store.rollback(engine, line, note, token)
        after = store.current(engine, line)
    champion = champion_of(after)
    if champion is not None:
        serve(line, champion.deployment, params)
    if candidate is not None and candidate_of(after) != candidate:
        vacate(line, candidate.deployment)
    try:
        update_aliases(line, before, after, params)
    except StageError as error:  # calling again would go back one more: the rollback itself is done
        return f"{describe(line, params)}\nMLflow's aliases follow with the next release: {error}"
    return describe(line, params)


def serve(line: Line, deployment: str, params: Params) -> None:
    """Make a recorded deployment this machine's; a running service is replaced, a stopped one starts with it later."""
    record = get_deployment(params.events.url, deployment)
    if record is None:
        raise StageError(f"no deployment {deployment!r} is recorded, so its Bento is unknown; release it again")
    if slot_of(line, deployment):
        return
    place(line, record)
    if line in stack.running():
        try:
            stack.restart(params, line)
        except StageError as error:
            raise StageError(
                f"{deployment} is champion and this machine's, but its service did not start: {error}; `atelier up` "
                "tries again, another rollback goes back one more"
            ) from error


def describe(line: Line, params: Params) -> str:
    """Where a line's releases stand, in one line; raises `NoDatabaseError` before there is a database."""
    with opened(params.events.url, create=False) as engine:
        releases = store.current(engine, line)
        champion = champion_of(releases)
        record = served(line, champion.deployment if champion else None)
        return summary(line, releases, store.history(engine, line), record.deployment if record else None)
