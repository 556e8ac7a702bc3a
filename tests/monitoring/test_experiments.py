from __future__ import annotations

from pathlib import Path

import pytest

from components.events.database import opened
from components.events.ledger import Note
from components.experiments import store
from components.experiments.exposures import by_closing
from components.experiments.versions import newest
from monitoring.experiments import Late, in_force, report_on, users_of
from tests.components.experiments.examples import experiment
from tests.components.experiments.examples import in_force as declare
from tests.monitoring.returning import DAY, Looks, visits
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
    colours, shapes = (report_on(url, versions, NOW, ["plan=paid"]) for versions in in_force(url))
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
    found = report_on(url, versions, NOW, [])
    assert {one.variant: one.refused for one in found.worth} == dict.fromkeys(
        ("control", "treatment"), "a log needs columns of one length of at least 1, not [0]"
    )


TWO_DAYS = experiment().model_copy(update={"attribution_hours": 48.0})


@pytest.mark.parametrize("seed", [3, 21])
def test_06_users_who_return_make_no_winner_of_two_equal_variants(tmp_path: Path, seed: int) -> None:
    """Of these audiences the mean so far finds a winner at some look; the rate is measured in `drill_returning`."""
    assert not Looks(tmp_path, TWO_DAYS).decides(seed, users=200, days=12)


def test_06_an_outcome_that_has_counted_once_never_changes(tmp_path: Path) -> None:
    looks = Looks(tmp_path, TWO_DAYS)
    url, epochs = looks.filled(visits(3, users=60, days=8)), [(0.0, TWO_DAYS.weights)]
    before: list[tuple[float, str, float, int]] = []
    for hour in range(0, 24 * 9, 7):
        everyone = users_of(url, TWO_DAYS, epochs, hour * 3600.0)
        closed, still_open = by_closing(everyone, TWO_DAYS.attribution_seconds, hour * 3600.0)
        now = [(user.first, user.variant, user.outcome("like"), user.counted.requests) for user in closed]
        assert now[: len(before)] == before
        assert len(now) + len(still_open) == len(everyone)
        before = now
    assert len(before) == 60 and {outcome for *_, outcome, _ in before} == {0.0, 1 / 3, 0.5, 2 / 3, 1.0}


def test_06_who_does_not_count_yet_and_what_came_too_late_is_reported(tmp_path: Path) -> None:
    looks, seen = Looks(tmp_path, TWO_DAYS), visits(4, users=60, days=8)
    url = looks.filled(seen)
    (versions,) = in_force(url)
    early, late = report_on(url, versions, 2.3 * DAY, []), report_on(url, versions, 12 * DAY, [])
    counted = sum(arm.users for arm in early.analysis.arms)
    assert counted == (seen.at[:, 0] + 2 < 2.3 - 5 / 86_400).sum() and early.analysis.still_open == 60 - counted
    closes = seen.at[:, :1] + 2
    inside = seen.at < closes
    assert late.late == Late(int((~inside).sum()), int((inside & seen.liked & (seen.heard >= closes)).sum()))
    assert late.analysis.still_open == 0 and late.late.reactions > 0
