"""The learning flow on real events: what it makes of reactions and labels, and when it leaves things alone."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from components.annotation import phrase_queue
from components.config import Params
from components.data import feedback
from components.events.database import opened
from components.events.schema import Event
from components.events.store import commit
from components.releases.plan import TrafficPlan
from components.stage import StageError
from flows import learn
from monitoring.simulated import AudienceRun, audience_folder, write_run
from tests.components.events.examples import accepted, finished, like
from tests.monitoring.test_report import params_in


class Calls:
    """The stages and the release that the flow asks for are noted instead of run."""

    def __init__(self, params: Params, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.params, self.folder = params, folder / "feedback"
        self.made: list[Any] = []
        self.gate: StageError | None = None
        self.refusal: StageError | None = None
        patch.setattr(learn, "load", lambda: self.params)
        patch.setattr(learn, "FOLDER", self.folder)
        patch.setattr(learn, "STATE", folder)
        patch.setattr(learn, "pipeline", self._pipeline)
        patch.setattr(learn, "trained_on", lambda: self.trained)
        patch.setattr(learn, "release", self._release)
        self.trained: str | None = None

    def _pipeline(self, targets: list[str]) -> None:
        if self.gate:
            raise self.gate
        self.made.append(targets)
        self.trained = feedback.digest(self.folder)

    def _release(self, lines: list[str], canary: bool) -> dict[str, str]:
        if self.refusal:
            raise self.refusal
        self.made.append((lines, canary))
        return {"text": "text-9"}

    def write(self, *events: Event) -> None:
        with opened(self.params.events.url) as engine:
            commit(engine, events)

    def reactions(self, count: int) -> None:
        now = time.time()
        for n in range(count):
            self.write(
                accepted(f"r{n}", at=now - 100 + n, user=f"u{n}"),
                finished(f"r{n}", prompt=f"thing {n}", output=f"thing {n}: nice"),
                like(f"r{n}", f"k{n}", user=f"u{n}"),
            )

    def rule(self, **changes: object) -> None:
        self.params = self.params.model_copy(update={"learning": self.params.learning.model_copy(update=changes)})


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls = Calls(params_in(tmp_path), tmp_path, monkeypatch)
    calls.rule(min_new=5, min_likes=1, held_out_users=0.0)
    return calls


def test_enough_that_is_new_is_trained_on_once(calls: Calls, prefect_server: None) -> None:
    calls.reactions(4)
    assert learn.learn().message == "4 pairs have changed, 5 are needed: nothing to train"
    assert calls.made == [] and not calls.folder.exists()
    with opened(calls.params.events.url) as engine:
        task = phrase_queue.phrase_task("ein Boot", "x", "new")
        phrase_queue.enqueue(engine, [task], 1.0)
        phrase_queue.record_answers(engine, [phrase_queue.PhraseAnswer(task.task, "boat: sea", "ada")], 2.0)
    assert learn.learn().deployment == "text-9"
    assert calls.made == [["package@text", "evaluate_feedback"], (["text"], True)]
    assert {s.text for s in feedback.samples(calls.folder)} == {"ein Boot", *(f"thing {n}" for n in range(4))}
    assert learn.learn().message == "0 pairs have changed, 5 are needed: nothing to train"


def test_a_refused_model_is_told_and_no_failure_of_the_flow(calls: Calls, prefect_server: None) -> None:
    calls.reactions(5)
    calls.gate = StageError("the gate says no")
    assert learn.learn().message == "the model made from 5 pairs is not released: the gate says no"
    calls.gate, calls.refusal = None, StageError("worse than the champion")
    assert learn.learn().message.endswith("not released: worse than the champion")  # untrained: it is tried again


def test_a_version_that_a_killed_run_left_untrained_is_trained_by_the_next(calls: Calls, prefect_server: None) -> None:
    calls.reactions(5)
    calls.gate = KeyboardInterrupt()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        learn._learn(calls.params)
    calls.gate = None
    assert learn.learn().deployment == "text-9"


def test_one_learns_at_a_time(calls: Calls, prefect_server: None) -> None:
    with FileLock(calls.params.monitor.report + "/../learn.lock"), pytest.raises(StageError, match="another"):
        learn.learn()


def test_a_trial_is_waited_for(calls: Calls, prefect_server: None, monkeypatch: pytest.MonkeyPatch) -> None:
    calls.reactions(5)
    monkeypatch.setattr(learn, "plan", lambda *_: TrafficPlan("text", 3, "text-1", "text-2", 0.5, False, ""))
    assert learn.learn().message == "text-2 is on trial: learning goes on when that has ended"
    assert not calls.folder.exists()


def test_nothing_is_learned_from_a_simulated_audience_by_default(calls: Calls, prefect_server: None) -> None:
    calls.reactions(6)
    folder = audience_folder(calls.params.monitor.report)
    ids, now = [f"r{n}" for n in range(6)], time.time()
    write_run(folder, AudienceRun(7, 6, now - 200, now, 0.0, ids, [], 0, 6, 0, []))
    assert learn.learn().deployment is None
    calls.rule(simulated=True)
    assert learn.learn().deployment == "text-9"


def test_only_prompts_that_have_moved_for_long_enough_ask_for_labels(tmp_path: Path) -> None:
    for severity, name, expected in (
        ("act", "text prompts", True),
        ("watch", "text prompts", False),
        ("act", "text service", False),
    ):
        summary = {"drift": [{"name": name, "severity": severity}]}
        (tmp_path / "report.json").write_text(json.dumps(summary))
        assert learn.prompts_moved(tmp_path / "report.html") is expected


@pytest.mark.usefixtures("assets")
def test_annotators_are_asked_about_what_training_does_not_cover_once(
    calls: Calls, prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"r0": "draw a horse", "r1": "zeig mir eine Schnecke", "r2": "Zeig mir  eine Schnecke", "r3": "日本語"}
    for name, prompt in asked.items():
        calls.write(accepted(name, at=100.0), finished(name, prompt=prompt))
    from components.data import pairs

    monkeypatch.setattr(pairs, "read_pairs", lambda _: [pairs.Pair("draw a horse please", "horse", "horse")])
    assert learn.ask_annotators.fn(0.0, 1000.0) == 2
    assert learn.ask_annotators.fn(0.0, 1000.0) == 0
    with opened(calls.params.events.url) as engine:
        assert {task.phrase for task in phrase_queue.open_tasks(engine)} == {"zeig mir eine Schnecke", "日本語"}
