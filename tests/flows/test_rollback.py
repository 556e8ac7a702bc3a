"""A rollback serves the champion before, goes back once however often it was cut short, and does without MLflow."""

from __future__ import annotations

from typing import Any

import pytest

from components.events.database import opened
from components.events.ledger import Note
from components.registry import registry
from components.registry.connection import RegistryError
from components.releases import store
from components.releases.leases import held
from components.releases.machine import OPEN, TRIAL
from components.stage import StageError
from flows import release, rollback, stack
from flows.stack import require_deployed
from tests.flows.releasing import Machine
from tests.flows.releasing import machine as machine


@pytest.fixture
def two(machine: Machine) -> Machine:
    """A machine that released a, then b."""
    for name in ("a", "b"):
        release.record_release.fn("text", machine.deploy(name), machine.params)
    return machine


def test_the_champion_before_is_champion_serves_and_is_mlflows(two: Machine) -> None:
    told = rollback.rollback("text", "it paints cats only", two.params)
    assert told.startswith("text: champion text-a.1 (champion since")
    assert told.endswith(": it paints cats only")
    assert require_deployed("text").deployment == "text-a"
    assert (two.restarted, two.mlflow) == (["text"], {"champion": "a" * 64})
    with pytest.raises(StageError, match=r"no champion before text-a\.1"):
        rollback.rollback("text", "again", two.params)


def test_where_something_else_serves_than_the_champion_only_that_is_mended(two: Machine) -> None:
    two.deploy("c")  # a release that was cut short before it was recorded, or a rollback before it was served
    told = rollback.rollback("text", "cut short", two.params)
    assert "champion text-b.1" in told
    assert "cut short" not in told
    assert require_deployed("text").deployment == "text-b"


def test_a_candidate_on_trial_is_taken_back_before_the_champion(two: Machine) -> None:
    two.deploy("c")
    two.deploy("b")
    with opened(two.params.events.url) as engine, held(engine, "text", "ada", 30) as lease:
        candidate = store.register(engine, "text-c", Note("ada", "try"), lease.token)
        for to in OPEN[1 : OPEN.index(TRIAL[1]) + 1]:
            candidate = store.move(engine, candidate.release, candidate.version, to, Note("ada", "try"), lease.token)
    told = rollback.rollback("text", "slow", two.params)
    assert "champion text-b.1" in told and "text-c.1 canary_1 → rolled_back (rollback)" in told
    assert two.restarted == []


def test_without_mlflow_the_rollback_is_done_and_says_what_is_missing(
    two: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise RegistryError("MLflow is unreachable")

    monkeypatch.setattr(registry, "project_aliases", away)
    told = rollback.rollback("text", "odd", two.params)
    assert told.endswith("MLflow's aliases follow with the next release: MLflow is unreachable")
    assert require_deployed("text").deployment == "text-a"


def test_a_service_that_does_not_start_says_that_another_call_goes_further(
    two: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise StageError("text does not answer")

    monkeypatch.setattr(stack, "restart", fail)
    with pytest.raises(StageError, match=r"text-a is champion .* text does not answer; .* goes back one more"):
        rollback.rollback("text", "odd", two.params)
