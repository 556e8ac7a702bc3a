"""Adapters for segments: trained where enough is liked, tried among its users, kept for a gain and ended otherwise."""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import insert

from components.artifact import read_manifest
from components.config import Experiment, Params, load
from components.events.database import opened, writing
from components.events.read import record_deployment
from components.events.schema import ACCEPTED, FEEDBACK, FINISHED, Accepted, Event, Feedback, Finished, Outcome
from components.experiments.assignment import inside, variant_of
from components.experiments.versions import running
from components.learning.adapter_experiment import adapter_experiment
from components.paths import SEGMENTS
from components.releases.leases import held
from components.stage import StageError
from components.training import adapter
from flows import adapters, release
from flows.learn import DAY
from monitoring.report import write_report
from tests.components.events.examples import DEPLOYMENT
from tests.components.experiments.examples import in_force
from tests.tiny_adapter import SEGMENT, THINGS, TRAINING


class Project:
    """The tiny project of the adapter, with users of two plans; its package is champion."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root, self.asked, self.trained = root, 0, 0
        params = load()
        learning = params.learning.model_copy(update={"min_new": 10, "min_likes": 1, "held_out_users": 0.5})
        self.params: Params = params.model_copy(
            update={
                "events": params.events.model_copy(update={"url": f"sqlite:///{root / 'events.db'}"}),
                "monitor": params.monitor.model_copy(update={"report": str(root / "reports")}),
                "train": params.train.model_copy(update={"text": TRAINING}),
                "learning": learning,
            }
        )
        patch.chdir(root)
        changed = {"ROOT": root, "STATE": root, "PACKAGE": root / adapter.PACKAGE, "SPLIT": root / "data/text/split"}
        for name, value in changed.items():
            patch.setattr(adapters, name, value)
        patch.setattr(adapters, "load", lambda: self.params)
        patch.setattr(adapters, "logger", lambda: logging.getLogger("adapters"))
        self._make = adapter.make
        patch.setattr(adapter, "make", self._counted)
        self.promote(read_manifest(root / "artifacts/text/package").digest)

    def _counted(self, *arguments: Any) -> Any:
        self.trained += 1
        return self._make(*arguments)

    def promote(self, digest: str, name: str = DEPLOYMENT.deployment) -> None:
        record_deployment(self.params.events.url, DEPLOYMENT.model_copy(update={"digest": digest, "deployment": name}))
        with opened(self.params.events.url) as engine, held(engine, "text", "test", 30.0) as lease:
            release.promote(engine, name, {}, lease.token)

    def like(self, users: int, plan: str = "paid") -> None:
        """Each of these users once likes a woodcut of something of their own."""
        rows: list[Event] = []
        for number in range(self.asked, self.asked + users):
            prompt, thing = f"show {THINGS[number % 6]} {number}", THINGS[number % 6]
            rows += self.visit(number, prompt, f"{thing}: woodcut", 1.0, segments=f'{{"plan": "{plan}"}}')
        self.write(rows)
        self.asked += users

    def compare(self, users: int, rates: dict[str, float], days_ago: float = 2.0) -> None:
        """Users of the segment ask and like by the variant that the running experiment gives them."""
        rng, rows = np.random.default_rng(self.asked), list[Event]()
        with opened(self.params.events.url) as engine:
            places = [one.placed for one in running(engine)]
        for number in range(self.asked, self.asked + users):
            given, _ = variant_of(inside(places, "text", f"u{number}", SEGMENT), f"u{number}")
            if given:
                liked = float(rng.random() < rates[given.variant])
                rows += self.visit(
                    number, "a boat", "boat", liked, days_ago, segments='{"plan": "paid"}', **vars(given)
                )
        self.write(rows)
        self.asked += users

    def visit(
        self, number: int, prompt: str, output: str, liked: float, days_ago: float = 2.0, **asked: Any
    ) -> list[Event]:
        name, user, at = f"r{number}", f"u{number}", time.time() - days_ago * DAY + number / 1000
        known: dict[str, Any] = {"request_id": name, "user_key": user}
        return [
            Accepted(**known, time=at, line="text", deployment=DEPLOYMENT.deployment, model="atelier-text", **asked),
            Finished(
                request_id=name, time=at, latency_s=0.1, outcome=Outcome.OK, status=200, prompt=prompt, output=output
            ),
            Feedback(**known, time=at + 1, key=name, kind="like", value=liked),
        ]

    def write(self, rows: list[Event]) -> None:
        tables = {Accepted: ACCEPTED, Finished: FINISHED, Feedback: FEEDBACK}
        with opened(self.params.events.url) as engine, writing(engine, "visits") as connection:
            for kind, table in tables.items():
                if found := [row.model_dump() for row in rows if isinstance(row, kind)]:
                    connection.execute(insert(table), found)

    def runs(self) -> list[Experiment]:
        with opened(self.params.events.url) as engine:
            return [one.experiment for one in running(engine)]

    def step(self, train: bool = True) -> list[str]:
        """What the flow does, without a Prefect server."""
        return adapters.adapt.fn(train)


@pytest.fixture
def project(tiny_adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(shutil.copytree(tiny_adapter.parents[3], tmp_path / "project"), monkeypatch)


@pytest.fixture
def begun(project: Project, tiny_adapter: Path) -> str:
    """The name of the experiment that tries the project's adapter."""
    tried = adapter_experiment(project.params.release, SEGMENT, tiny_adapter.name)
    in_force(project.params.events.url, tried)
    return tried.name


def test_an_adapter_is_trained_where_a_segment_likes_enough_and_then_tried_on_half_of_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.like(6)
    project.like(60, plan="free")
    shutil.rmtree(project.root / SEGMENTS)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(adapters.store, "apply", killed)  # between the training and the experiment
        project.step()
    free, paid = project.step()
    assert project.trained == 1  # what the killed run had made is used
    assert free.startswith("plan=free: adapter-plan=free-") and " begins: loss on what held-out users liked" in free
    assert paid.startswith("plan=paid: ") and "pairs, 10 are needed" in paid
    (tried,) = project.runs()
    assert (tried.segment, tried.share, tried.weights) == ({"plan": "free"}, 0.5, {"control": 0.5, "treatment": 0.5})
    made = project.root / adapter.ADAPTERS / (tried.variants["treatment"].adapter or "")
    assert read_manifest(made).parameters["segment"] == {"plan": "free"}
    goes_on, runs = project.step()[:2]
    assert goes_on.startswith(f"{tried.name}: it goes on. The interval contains 0")
    assert goes_on.endswith(" 0 users, 0 more do not count yet; it wrote 0 of 0 answers of treatment")
    assert runs == f"plan=free: {tried.name} runs"


def test_where_no_package_is_made_as_beside_an_endpoint_nothing_is_trained_in_words(project: Project) -> None:
    shutil.rmtree(project.root / adapter.PACKAGE)
    said = project.step()
    assert said and all("nothing is trained: there is no" in each for each in said)


def killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_one_that_is_liked_more_is_kept_for_the_whole_segment_until_the_champion_changes(
    project: Project, begun: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.compare(1500, {"control": 0.3, "treatment": 0.7})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(adapters.store, "apply", killed)  # between the end of the one and the beginning of the other
        project.step(train=False)
    assert project.runs() == []
    assert project.step()[-1].startswith(f"plan=paid: {begun}-2 begins: it won: The whole interval lies above 0")
    (kept,) = project.runs()
    assert (kept.share, kept.weights) == (1.0, {"control": 0.1, "treatment": 0.9})
    project.compare(200, {"control": 0.3, "treatment": 0.7})
    assert project.step(train=False)[0].startswith(f"{kept.name}: kept. ") and project.runs() == [kept]
    page = write_report(project.params, time.time()).read_text()
    assert kept.name in page and "treatment" in page
    project.promote("9" * 64, "text-2")
    ended, _, paid = project.step()
    assert ended.startswith(f"{kept.name}: ended: its champion ")
    assert paid.startswith("plan=paid: nothing is trained: ") and paid.endswith("the champion's 999999999999")
    assert project.runs() == []
    project.promote(read_manifest(project.root / adapter.PACKAGE).digest, "text-3")
    assert f"plan=paid: {begun}-3 begins: loss on " in project.step()[-1]  # it was no worse, its champion was gone


def test_a_kept_adapter_that_users_come_to_dislike_is_ended(project: Project, begun: str) -> None:
    project.compare(1500, {"control": 0.3, "treatment": 0.7})
    assert f"{begun}: {begun}-2 begins: The whole interval lies above 0" in project.step(train=False)[0]
    project.compare(3000, {"control": 0.9, "treatment": 0.1})
    assert project.step(train=False)[0].startswith(f"{begun}-2: ended: The whole interval lies below 0")


def test_07_a_kept_adapter_that_was_liked_for_long_and_turns_bad_is_ended(project: Project, begun: str) -> None:
    project.compare(700, {"control": 0.3, "treatment": 0.7}, days_ago=20)
    project.step(train=False)
    for day in range(9, 6, -1):
        project.compare(600, {"control": 0.4, "treatment": 0.7}, days_ago=day)
    assert project.step(train=False)[0].startswith(f"{begun}-2: kept. The whole interval lies above 0")
    for day in range(6, 3, -1):
        project.compare(700, {"control": 0.6, "treatment": 0.3}, days_ago=day)
    (told,) = project.step(train=False)
    assert told.startswith(f"{begun}-2: ended: Since ") and "control is liked more than treatment" in told
    assert project.runs() == []


def test_06_whose_day_is_not_over_does_not_count_for_an_adapter(project: Project, begun: str) -> None:
    project.compare(1500, {"control": 0.3, "treatment": 0.7}, days_ago=0.5)
    (told,) = project.step(train=False)
    assert told.startswith(f"{begun}: it goes on. ") and " 0 users, 7" in told and " more do not count yet; " in told


def test_what_fails_for_one_stops_no_other_and_is_told(project: Project, begun: str, tiny_adapter: Path) -> None:
    project.like(60, plan="free")
    (project.root / adapter.ADAPTERS / tiny_adapter.name / "adapter_model.safetensors").write_bytes(b"other")
    with pytest.raises(StageError, match=rf"^{begun}: .* was changed"):
        project.step()
    assert {one.name.split("-")[1] for one in project.runs()} == {"plan=paid", "plan=free"}


def test_before_the_first_release_there_are_words(project: Project) -> None:
    project.params = project.params.model_copy(
        update={"events": project.params.events.model_copy(update={"url": f"sqlite:///{project.root / 'new.db'}"})}
    )
    shutil.rmtree(project.root / "artifacts")
    assert project.step()[0] == "plan=free: nothing is trained: the text line has no champion yet"


@pytest.mark.parametrize(
    ("rates", "users", "why"),
    [
        ({"control": 0.7, "treatment": 0.3}, 1500, "control is liked more than treatment"),
        ({"control": 0.5, "treatment": 0.5}, 50, "no gain in 90 days. The interval contains 0"),
    ],
)
def test_one_that_is_liked_less_or_no_more_ends_and_is_not_tried_again(
    project: Project, begun: str, monkeypatch: pytest.MonkeyPatch, rates: dict[str, float], users: int, why: str
) -> None:
    project.compare(users, rates)
    if "90 days" in why:
        assert project.step(train=False)[0].startswith(f"{begun}: it goes on.")
        monkeypatch.setattr(adapters, "DAY", 0.0)  # all that is simulated about these three months
    assert why in project.step(train=False)[0]
    assert project.runs() == []
    again = project.step()
    assert project.trained == 0 and "plan=paid: its adapter was tried: " in again[-1] and why in again[-1]
