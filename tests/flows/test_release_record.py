"""What the release flow records: who became champion on what evidence, once; and what MLflow is told of it."""

from __future__ import annotations

import logging

import pytest

from components.artifact import write_text
from components.events.database import opened
from components.events.ledger import Note
from components.releases import store
from components.releases.leases import held
from components.releases.machine import Kind, State
from components.releases.schema import Move
from components.stage import StageError
from flows import driver, release, rollback
from tests.flows.releasing import Machine
from tests.flows.releasing import machine as machine


def moves(machine: Machine) -> list[Move]:
    with opened(machine.params.events.url) as engine:
        return store.history(engine, "text")


def record(machine: Machine, deployment: str) -> None:
    release.record_release.fn("text", deployment, machine.params)


def test_a_deployment_becomes_champion_by_the_direct_path_with_its_evidence(machine: Machine) -> None:
    record(machine, machine.deploy("a"))
    write_text(machine.folder / "comparisons" / "text" / f"{'b' * 12}-{'a' * 12}.json", '{"passed": true}')
    record(machine, machine.deploy("b"))
    told = moves(machine)
    assert [(m.release, m.target) for m in told[:3]] == [
        ("text-a.1", State.REGISTERED),
        ("text-a.1", State.VALIDATED),
        ("text-a.1", State.CHAMPION),
    ]
    assert (told[2].kind, told[2].why) == (Kind.DIRECT, "no canary was asked for")
    validated = next(m for m in told if m.release == "text-b.1" and m.target is State.VALIDATED)
    assert validated.evidence == {"digest": "b" * 64, "comparison": {"passed": True}}
    assert machine.mlflow == {"champion": "b" * 64}


def test_recording_the_champion_again_moves_nothing(machine: Machine) -> None:
    for _ in range(2):
        record(machine, machine.deploy("a"))
    assert len(moves(machine)) == 3


def test_a_release_that_was_cut_short_is_continued(machine: Machine) -> None:
    deployment = machine.deploy("a")
    with opened(machine.params.events.url) as engine, held(engine, "text", "killed", 30) as lease:
        store.register(engine, deployment, Note("ada", "began"), lease.token)
    record(machine, deployment)
    assert [(m.release, m.version) for m in moves(machine)] == [("text-a.1", 1), ("text-a.1", 2), ("text-a.1", 3)]


def test_an_edit_of_an_alias_by_hand_is_undone_and_logged(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(driver, "logger", lambda: logging.getLogger("by hand"))
    record(machine, machine.deploy("a"))
    machine.mlflow["champion"] = "e" * 64
    assert caplog.records == []  # what was set by us is no alarm
    record(machine, machine.deploy("a"))
    found, wanted = "e" * 64, "a" * 64
    assert machine.mlflow == {"champion": wanted}
    (row,) = caplog.records
    told = f"MLflow's alias champion of text said {found}, not {wanted} as we had set it; now {wanted}"
    assert (row.levelname, row.getMessage()) == ("ERROR", told)


def test_what_was_rolled_back_is_not_released_again(machine: Machine) -> None:
    for name in ("a", "b"):
        record(machine, machine.deploy(name))
    rollback.rollback("text", "it paints cats only", machine.params)
    with pytest.raises(StageError, match=r"text-b was rolled back by .*: it paints cats only; release another"):
        release.require_not_rolled_back("text", "text-b", machine.params)
    for allowed in ("text-a", "text-c"):
        release.require_not_rolled_back("text", allowed, machine.params)
