"""Experiments in a real database: what is declared comes into force once; what would spoil one is refused by name."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from components.config import Experiment
from components.events.store import commit
from components.experiments import store
from components.experiments.store import OvertakenError, apply, end, reweigh
from components.experiments.versions import ExperimentRefusedError, epochs, history, newest, running
from components.releases.database import opened
from components.releases.errors import DatabaseRefusedError
from components.releases.schema import Note
from tests.components.events.examples import accepted
from tests.components.experiments.examples import experiment

NOTE = Note("ada", "to see")
COLOURS = experiment()


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    with opened(url) as engine:
        yield engine


def changed(**changes: Any) -> Experiment:
    """Another definition of the same experiment."""
    return Experiment.model_validate(COLOURS.model_dump() | changes)


def weights(treatment: float) -> dict[str, Any]:
    arms = COLOURS.model_dump()["variants"]
    shares = {"control": 1 - treatment, "treatment": treatment}
    return {"variants": {name: arms[name] | {"weight": share} for name, share in shares.items()}}


def test_what_is_declared_is_in_force_once_and_every_change_is_kept(engine: Engine) -> None:
    assert apply(engine, [COLOURS], NOTE) == ["colours begins: 1 of text users; treatment 0.5, control 0.5"]
    assert apply(engine, [COLOURS], NOTE) == []
    other = Note("bob", "it is liked")
    assert apply(engine, [changed(**weights(0.6))], other) == [
        "colours changes: 1 of text users; control 0.4, treatment 0.6"
    ]
    first, second = history(engine, "colours")
    assert [(v.version, v.who, v.why) for v in (first, second)] == [(1, "ada", "to see"), (2, "bob", "it is liked")]
    assert [held["treatment"] for _, held in epochs([first, second])] == [0.5, 0.6]
    assert newest(engine) == running(engine) == [second]
    assert first.experiment == COLOURS  # whole, as it was declared


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"salt": "new"}, "colours runs, and its salt cannot change from salt to new: `atelier experiment end colours"),
        (
            {"line": "image", "variants": {"control": {"weight": 0.5}, "treatment": {"weight": 0.5}}},
            "its line cannot change from text to image",
        ),
        ({"metric": "save"}, "its metric cannot change from like to save"),
        (
            {"variants": {"control": {"weight": 0.5, "temperature": 0.7}, "cold": {"weight": 0.5}}},
            "its variant treatment, which has had users, is missing: weight 0 takes it out of the traffic",
        ),
        (
            {"variants": {"control": {"weight": 0.5, "temperature": 0.7}, "treatment": {"weight": 0.5}}},
            "its variant treatment, which has had users, is served otherwise",
        ),
    ],
)
def test_what_would_spoil_a_running_experiment_is_refused_by_name(
    engine: Engine, changes: dict[str, Any], message: str
) -> None:
    apply(engine, [COLOURS], NOTE)
    commit(engine, [accepted("r1", variant="treatment")])
    with pytest.raises(ExperimentRefusedError, match=message):
        apply(engine, [changed(**changes)], NOTE)
    assert len(history(engine)) == 1


def test_a_variant_that_nobody_saw_may_go_and_another_may_come(engine: Engine) -> None:
    apply(engine, [COLOURS], NOTE)
    commit(engine, [accepted("r1", variant="control")])
    arms = {"control": {"weight": 0.5, "temperature": 0.7}, "cold": {"weight": 0.5, "temperature": 0.1}}
    assert apply(engine, [changed(variants=arms)], NOTE) == ["colours changes: 1 of text users; control 0.5, cold 0.5"]


def test_one_that_begins_or_grows_takes_users_who_are_in_none(engine: Engine) -> None:
    second, third = (changed(name=name, salt=name, share=0.3) for name in ("b", "c"))
    first = changed(share=0.4)
    apply(engine, [first, second], NOTE)
    before = {version.name: version.placed.users for version in running(engine)}
    apply(engine, [first, second, third], NOTE)
    after = {version.name: version.placed.users for version in running(engine)}
    assert {name: after[name] for name in before} == before
    with pytest.raises(
        ExperimentRefusedError, match=r"shares of the text line sum to 1\.1, over 1: .*0\.5 \(colours\)"
    ):
        apply(engine, [changed(share=0.5), second, third], NOTE)
    end(engine, "b", NOTE)
    apply(engine, [changed(share=0.5), third], NOTE)
    grown = {version.name: version.placed.users for version in running(engine)}
    assert (grown["c"], grown["colours"]) == (after["c"], (*before["colours"], (0, 1000)))


def test_an_experiment_that_has_ended_stays_so_and_its_versions_are_kept(engine: Engine) -> None:
    apply(engine, [COLOURS], NOTE)
    end(engine, "colours", Note("bob", "it is decided"))
    assert running(engine) == []
    (told,) = apply(engine, [COLOURS], NOTE)
    assert told.startswith("colours was ended by bob (it is decided) and stays so: take it out of params.yaml")
    assert [version.state for version in history(engine, "colours")] == ["running", "ended"]
    with pytest.raises(ExperimentRefusedError, match="colours was ended by bob already: it is decided"):
        end(engine, "colours", NOTE)
    with pytest.raises(ExperimentRefusedError, match="no experiment 'colors'; there is colours"):
        end(engine, "colors", NOTE)
    with pytest.raises(ExperimentRefusedError, match="shapes has the salt salt of colours"):
        apply(engine, [changed(name="shapes")], NOTE)


def test_what_runs_and_is_not_declared_goes_on_and_its_share_is_taken(engine: Engine) -> None:
    apply(engine, [COLOURS], NOTE)
    (told,) = apply(engine, [], NOTE)
    assert told == 'colours runs and is not declared: it goes on; `atelier experiment end colours --why "…"` ends it'
    with pytest.raises(ExperimentRefusedError, match=r"sum to 1\.5, over 1: 1 \(colours: not declared, `atelier exp"):
        apply(engine, [changed(name="b", salt="b", share=0.5)], NOTE)


def test_thompson_s_weights_are_not_set_back_by_what_is_declared(engine: Engine) -> None:
    following = changed(policy="thompson")
    apply(engine, [following], NOTE)
    reweigh(engine, newest(engine), "colours", {"control": 0.31234, "treatment": 0.68766}, Note("thompson", "likes"))
    assert apply(engine, [following], NOTE) == []
    assert running(engine)[0].experiment.weights == {"control": 0.3123, "treatment": 0.6877}
    apply(engine, [COLOURS], NOTE)
    assert running(engine)[0].experiment.weights == COLOURS.weights


def test_of_two_changes_at_once_one_wins_and_the_other_says_so(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    apply(engine, [COLOURS], NOTE)
    decide = store.changes

    def overtaken(*arguments: Any) -> Any:
        found = decide(*arguments)
        monkeypatch.undo()
        apply(engine, [changed(**weights(0.6))], Note("bob", "I was first"))
        return found

    monkeypatch.setattr(store, "changes", overtaken)
    with pytest.raises(OvertakenError, match="colours was changed meanwhile, by bob: I was first"):
        apply(engine, [changed(**weights(0.9))], NOTE)
    assert running(engine)[0].experiment.weights["treatment"] == 0.6


def test_of_many_at_once_every_one_that_wins_is_one_version(engine: Engine) -> None:
    apply(engine, [COLOURS], NOTE)

    def attempt(number: int) -> bool:
        try:
            return apply(engine, [changed(**weights(number / 20))], Note(f"p{number}", "mine")) != []
        except OvertakenError:
            return False

    with ThreadPoolExecutor(8) as pool:
        won = [number for number, wins in enumerate(pool.map(attempt, range(1, 9)), start=1) if wins]
    versions = history(engine, "colours")
    assert sorted(version.who for version in versions[1:]) == sorted(f"p{number}" for number in won)
    assert [version.version for version in versions] == list(range(1, len(won) + 2))
    assert won


def test_a_locked_database_is_said_in_words_and_nothing_is_changed(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path / 'events.db'}?timeout=0.2") as engine:
        apply(engine, [COLOURS], NOTE)
        other = sqlite3.connect(tmp_path / "events.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseRefusedError, match="change of colours is not recorded: database is locked; repeat"):
            apply(engine, [changed(**weights(0.6))], NOTE)
        other.close()
        assert len(history(engine)) == 1
