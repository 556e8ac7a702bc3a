"""What would spoil a running experiment is refused by name, and nobody is moved who need not be: in a real database."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine

from components.events.ledger import Note
from components.events.store import commit
from components.experiments.store import apply, end
from components.experiments.versions import ExperimentRefusedError, history, running
from tests.components.events.examples import accepted
from tests.components.experiments.examples import COLOURS, NOTE, changed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"salt": "new"}, "colours runs, and its salt cannot change from salt to new: `atelier experiment end colours"),
        (
            {"line": "image", "variants": {"control": {"weight": 0.5}, "treatment": {"weight": 0.5}}},
            "its line cannot change from text to image",
        ),
        ({"segment": {"plan": "paid"}}, "its segment cannot change from {} to {'plan': 'paid'}"),
        ({"metric": "save"}, "its metric cannot change from like to save"),
        ({"attribution_hours": 24.0}, "its attribution_hours cannot change from 0.01 to 24.0"),
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
    with pytest.raises(ExperimentRefusedError, match=r"shares of text users sum to 1\.1, over 1: .*0\.5 \(colours\)"):
        apply(engine, [changed(share=0.5), second, third], NOTE)
    end(engine, "b", NOTE)
    apply(engine, [changed(share=0.5), third], NOTE)
    grown = {version.name: version.placed.users for version in running(engine)}
    assert (grown["c"], grown["colours"]) == (after["c"], (*before["colours"], (0, 1000)))


def test_a_segment_s_users_are_shared_out_apart(engine: Engine) -> None:
    paid, free = (changed(name=plan, salt=plan, segment={"plan": plan}) for plan in ("paid", "free"))
    told = apply(engine, [COLOURS, paid, free], NOTE)
    assert told[-1] == "paid begins: 1 of text plan=paid users; treatment 0.5, control 0.5"
    with pytest.raises(ExperimentRefusedError, match=r"shares of text plan=paid users sum to 1\.5, over 1: "):
        apply(engine, [COLOURS, paid, free, changed(name="b", salt="b", segment={"plan": "paid"}, share=0.5)], NOTE)


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
