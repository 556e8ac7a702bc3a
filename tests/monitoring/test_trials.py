from __future__ import annotations

from pathlib import Path

from components.events.transactions import opened
from components.experiments import store
from components.experiments.versions import newest
from components.releases.schema import Note
from monitoring.trials import in_force, told
from tests.components.experiments.examples import experiment
from tests.components.experiments.examples import in_force as declare
from tests.monitoring.test_report import NOW, traffic
from tests.monitoring.test_report import store as store_events

COLOURS, SHAPES = (
    experiment(salt=name).model_copy(update={"name": name, "share": 0.5}) for name in ("colours", "shapes")
)


def test_every_running_experiment_is_told_with_its_changes_and_ended_ones_are_not(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'events.db'}"
    declare(url, COLOURS, SHAPES)
    store_events(url, traffic(40))
    with opened(url) as engine:
        weights = {"control": 0.4, "treatment": 0.6}
        store.reweigh(engine, newest(engine), "colours", weights, Note("bob", "it is liked"))
    colours, shapes = (told(url, versions, NOW, ["plan=paid"]) for versions in in_force(url))
    assert [change.weights["treatment"] for change in colours.changes] == [0.5, 0.6]
    assert (colours.changes[-1].who, colours.changes[-1].share) == ("bob", 0.5)
    assert sum(arm.users for arm in colours.analysis.arms) == 40  # all of them under the first weights
    assert not colours.analysis.srm and colours.metrics and not colours.worth
    assert sum(arm.users for arm in shapes.analysis.arms) == 0
    with opened(url) as engine:
        store.end(engine, "colours", Note("bob", "it is decided"))
    assert [versions[-1].name for versions in in_force(url)] == ["shapes"]


def test_before_the_first_request_no_variant_can_be_valued(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'events.db'}"
    declare(url, COLOURS.model_copy(update={"policy": "thompson"}))
    (versions,) = in_force(url)
    found = told(url, versions, NOW, [])
    assert {one.variant: one.refused for one in found.worth} == dict.fromkeys(
        ("control", "treatment"), "a log needs columns of one length of at least 1, not [0]"
    )
