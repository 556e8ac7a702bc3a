"""The learning flow on real events: what it makes of reactions and labels, and when it leaves things alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from components.config import Params
from components.events.schema import Event
from components.events.store import commit
from components.learning import labels, version
from components.releases.database import opened
from components.stage import StageError
from flows import learn
from monitoring.simulated import AudienceRun, audience_folder, write_run
from tests.components.events.examples import accepted, finished, like
from tests.monitoring.test_report import params_in


class Calls:
    """The stages and the release that the flow asks for are noted instead of run."""

    def __init__(self, params: Params, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.params, self.folder, self.made = params, folder / "feedback", []
        self.made: list[Any] = []
        self.refusal: StageError | None = None
        patch.setattr(learn, "load", lambda: self.params)
        patch.setattr(learn, "FOLDER", self.folder)
        patch.setattr(learn, "pipeline", self.made.append)
        patch.setattr(learn, "release", self._release)
        patch.setattr(learn, "REACTIONS_SETTLE", 0.0)

    def _release(self, lines: list[str], canary: bool) -> dict[str, str]:
        if self.refusal:
            raise self.refusal
        self.made.append((lines, canary))
        return {"text": "text-9"}

    def write(self, *events: Event) -> None:
        with opened(self.params.events.url) as engine:
            commit(engine, events)

    def reactions(self, count: int) -> None:
        for n in range(count):
            self.write(
                accepted(f"r{n}", at=100.0 + n, user=f"u{n}"),
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
    assert learn.learn() == "fewer than 5 new pairs: nothing to train"
    assert calls.made == [] and not calls.folder.exists()
    with opened(calls.params.events.url) as engine:
        labels.enqueue(engine, [labels.task_of("ein Boot", "x", "new")], 1.0)
        labels.answer(engine, [labels.Answer(next(iter(labels.known(engine))), "boat: sea", "ada")], 2.0)
    assert "5 new pairs" in learn.learn()
    assert calls.made == [["package@text", "evaluate_feedback"], (["text"], True)]
    assert {s.text for s in version.samples(calls.folder)} == {"ein Boot", *(f"thing {n}" for n in range(4))}
    assert learn.learn() == "fewer than 5 new pairs: nothing to train"


def test_a_refused_model_is_told_and_no_failure_of_the_flow(calls: Calls, prefect_server: None) -> None:
    calls.reactions(5)
    calls.refusal = StageError("the gate says no")
    assert learn.learn() == "5 new pairs, and the model made from them is refused: the gate says no"


def test_nothing_is_learned_from_a_simulated_audience_by_default(calls: Calls, prefect_server: None) -> None:
    calls.reactions(6)
    folder = audience_folder(calls.params.monitor.report)
    ids = [f"r{n}" for n in range(6)]
    write_run(folder, AudienceRun(7, 6, 50.0, 300.0, 0.0, ids, [], 0, 6, 0, []))
    assert learn.learn().startswith("fewer than 5")
    calls.rule(simulated=True)
    assert "6 new pairs" in learn.learn()


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
        assert {task.phrase for task in labels.unanswered(engine)} == {"zeig mir eine Schnecke", "日本語"}
