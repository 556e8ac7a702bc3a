"""The commands put in force, tell, refuse, end and rank; Thompson's step; and what the report makes of it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from components.config import Experiment, Params, load
from components.events.database import opened
from components.events.schema import Accepted, Event, Feedback, Finished, Outcome
from components.events.store import commit
from components.experiments.assignment import inside, variant_of
from components.experiments.versions import history, running
from components.stage import StageError
from flows import cli, commands, experiments
from monitoring.report import write_report
from tests.components.experiments.examples import experiment

FIXED = experiment()
FOLLOWING = FIXED.model_copy(update={"policy": "thompson", "floor": 0.05})


class Project:
    """Parameters with a database of their own, and users who ask and like as a gateway would record them."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.asked = folder, 0
        patch.setattr(commands, "load", lambda: self.params)
        patch.setattr(experiments, "logger", lambda: logging.getLogger("experiments"))
        self.declare(FIXED)

    def declare(self, *declared: Experiment) -> None:
        params = load()
        self.params: Params = params.model_copy(
            update={
                "events": params.events.model_copy(update={"url": f"sqlite:///{self.folder / 'events.db'}"}),
                "monitor": params.monitor.model_copy(update={"report": str(self.folder / "reports")}),
                "experiments": declared,
            }
        )

    def call(self, *arguments: str) -> list[str]:
        answer = CliRunner().invoke(cli.app, ["experiment", *arguments])
        if answer.exception and not isinstance(answer.exception, SystemExit):
            raise answer.exception
        assert answer.exit_code == 0, answer.output
        return answer.output.splitlines()

    def visit(self, users: int, rates: dict[str, float], short: dict[str, float] | None = None) -> None:
        """New users ask once, a long time ago, and like by their variant; half of the prompts are short."""
        rng, rows = np.random.default_rng(self.asked), list[Event]()
        with opened(self.params.events.url) as engine:
            places = [version.placed for version in running(engine)]
            for number in range(self.asked, self.asked + users):
                user, name, at = f"u{number}", f"r{number}", 1000.0 + number
                given, _ = variant_of(inside(places, "text", user, {}), user)
                assert given is not None
                prompt = "a fox" if number % 2 else "a very long wish for a picture"
                rate = (short or rates if number % 2 else rates)[given.variant]
                known: dict[str, Any] = {"request_id": name, "user_key": user}
                rows.append(
                    Accepted(**known, **vars(given), time=at, line="text", deployment="text-1", model="atelier-text")
                )
                ended = {"latency_s": 0.1, "outcome": Outcome.OK, "status": 200, "prompt": prompt, "output": "a"}
                rows.append(Finished(request_id=name, time=at + 0.1, **ended))
                if rng.random() < rate:
                    rows.append(Feedback(**known, time=at + 1, key=name, kind="like", value=1.0))
            commit(engine, rows)
        self.asked += users


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(tmp_path, monkeypatch)


def test_declared_listed_changed_refused_and_ended(project: Project) -> None:
    with pytest.raises(StageError, match="made when the gateway first starts"):
        project.call("list")
    assert project.call("apply", "--why", "to see") == ["colours begins: 1 of text users; treatment 0.5, control 0.5"]
    assert project.call("apply", "--why", "again") == ["all of params.yaml is in force already"]
    (told,) = project.call("list")
    assert "colours version 1, 100.00% of text users, fixed: treatment 50.00%, control 50.00%; by " in told
    project.declare(FIXED.weighted({"control": 0.4, "treatment": 0.6}))
    project.call("apply", "--why", "it is liked")
    project.declare(FIXED.model_copy(update={"salt": "new"}))
    with pytest.raises(StageError, match="colours runs, and its salt cannot change from salt to new"):
        project.call("apply", "--why", "oops")
    assert project.call("end", "colours", "--why", "decided") == [
        "colours has ended: its users get the line's defaults"
    ]
    assert project.call("list") == ["no experiment runs"]
    first, second, last = project.call("history", "colours")
    assert first.endswith(": to see") and second.endswith(": it is liked") and "version 3, ended; by" in last
    with pytest.raises(StageError, match="no experiment 'colors'; there is colours"):
        project.call("history", "colors")
    assert CliRunner().invoke(cli.app, ["experiment", "apply"]).exit_code == 2  # a reason is asked for


def test_flows_put_it_in_force_by_themselves_and_only_once(project: Project) -> None:
    experiments.declare(project.params)
    assert experiments.declare(project.params) == []
    with opened(project.params.events.url) as engine:
        assert [version.why for version in history(engine)] == ["declared in params.yaml"]


def test_thompson_s_step_moves_weights_to_what_is_liked_and_the_report_shows_it(project: Project) -> None:
    project.declare(FOLLOWING)
    experiments.declare(project.params)
    assert experiments.step(project.params) == ["colours: the weights stay"]  # nobody has said anything
    for _ in range(6):
        project.visit(100, {"control": 0.3, "treatment": 0.5})
        experiments.step(project.params)
    with opened(project.params.events.url) as engine:
        versions = history(engine)
    weights = [version.experiment.weights["treatment"] for version in versions]
    assert weights[-1] > 0.9 and min(weights + [1 - w for w in weights]) >= 0.05
    assert {version.who for version in versions[1:]} == {"thompson"}
    assert versions[-1].why.startswith("like so far: ") and "control" in versions[-1].why
    assert experiments.step(project.params) == ["colours: the weights stay"]  # which would be a version a minute
    project.declare(FOLLOWING.model_copy(update={"share": 0.5}))
    experiments.declare(project.params)  # what is declared does not take the weights back
    with opened(project.params.events.url) as engine:
        assert running(engine)[0].experiment.weights["treatment"] == weights[-1]
    page = write_report(project.params, 2000.0).read_text()
    assert "Thompson sampling moves its weights to what is liked" in page
    assert "Difference treatment − control" not in page
    assert page.count('<td class="left">thompson</td>') == len(versions) - 1
    assert "had everybody got" in page and "Sample ratio, at every look: p = " in page and "as planned" in page


def test_a_fixed_experiment_is_left_alone_by_thompson(project: Project) -> None:
    experiments.declare(project.params)
    assert experiments.step(project.params) == []


def test_one_user_is_enough_for_a_step_and_a_report(project: Project) -> None:
    project.declare(FOLLOWING)
    experiments.declare(project.params)
    project.visit(1, {"control": 1.0, "treatment": 1.0})
    (told,) = experiments.step(project.params)
    assert told.startswith("colours: treatment ") and "stay" not in told
    page = write_report(project.params, 2000.0).read_text()
    assert "are needed" in page or "never logged" in page  # no variant can be valued from one request


CANDIDATES = """
hot for short prompts:
- {max_characters: 10, weights: {treatment: 1.0}}
- {weights: {control: 1.0}}
cold for short prompts:
- {max_characters: 10, weights: {control: 1.0}}
- {weights: {treatment: 1.0}}
half and half:
- {weights: {control: 0.5, treatment: 0.5}}
"""


def test_candidates_are_ranked_by_what_they_would_have_earned(project: Project) -> None:
    experiments.declare(project.params)
    project.visit(1500, {"control": 0.6, "treatment": 0.2}, short={"control": 0.2, "treatment": 0.6})
    file = project.folder / "candidates.yaml"
    file.write_text(CANDIDATES)
    told = project.call("rank", "colours", "--candidates", str(file))
    assert [words.partition(":")[0] for words in told] == [
        "hot for short prompts",
        "half and half",
        "cold for short prompts",
    ]
    value, low, high = (float(part.strip("()")) for part in told[0].split()[4:8] if part != "to")
    assert 0.55 < value < 0.65 and low < 0.6 < high


def test_what_the_log_cannot_tell_of_is_refused_by_name(project: Project) -> None:
    project.declare(FIXED.weighted({"control": 1.0, "treatment": 0.0}))
    experiments.declare(project.params)
    file = project.folder / "candidates.yaml"
    file.write_text(CANDIDATES)
    with pytest.raises(StageError, match="colours cannot be replayed: a log needs columns"):
        project.call("rank", "colours", "--candidates", str(file))
    project.visit(100, {"control": 0.5, "treatment": 0.5})
    told = project.call("rank", "colours", "--candidates", str(file))
    assert len(told) == 3 and all("refused, the policy takes actions" in words for words in told)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [{weights: {control: 0.7}}]", "weights sum to 0.7, not 1"),
        ("a: [{weights: {warm: 1.0}}]", "a names warm, and colours has treatment, control"),
        ("a: [{max_characters: 9, weights: {control: 1.0}}]", "the last rule of a must fit every prompt"),
        ("a: [", "cannot be read as YAML"),
        ("[]", "Input should be an object"),
    ],
)
def test_a_file_that_says_no_allocations_is_refused(project: Project, text: str, message: str) -> None:
    experiments.declare(project.params)
    file = project.folder / "candidates.yaml"
    file.write_text(text)
    with pytest.raises(StageError, match=message):
        project.call("rank", "colours", "--candidates", str(file))
