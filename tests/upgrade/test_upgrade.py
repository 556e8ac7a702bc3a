"""What a workspace of commit 3ae1c24 left behind is read by the code of now: its parameters and its database."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from components.annotation import phrase_queue, task_store
from components.config import ConfigError, Params, load
from components.config.keys import REPLACED, nearest
from components.events.database import opened
from components.experiments.versions import running
from components.releases import store
from components.releases.machine import State
from tests.components.events.examples import read

HERE = Path(__file__).parent
PROJECT = "atelier-stickers"


@pytest.fixture
def url(tmp_path: Path) -> str:
    with sqlite3.connect(tmp_path / "events.db") as connection:
        connection.executescript((HERE / "events.sql").read_text(encoding="utf-8"))
    return f"sqlite:///{tmp_path / 'events.db'}"


def test_each_key_that_was_renamed_is_refused_with_its_new_name() -> None:
    with pytest.raises(ConfigError) as refused:
        load(HERE / "params.yaml")
    for key, now in REPLACED.items():
        assert f"{key} {now}" in str(refused.value)
    assert "there is no such parameter" not in str(refused.value)  # none without a word of what became of it
    for added in ("base", "train.text.system_prompt", "serving.text_max_prompt_tokens"):
        assert f"{added}: is missing" in str(refused.value)


def test_what_replaced_a_key_is_a_parameter() -> None:
    for now in REPLACED.values():
        if now.startswith("is now "):
            section = now.removeprefix("is now ").split(" ")[0].rstrip(",")
            assert nearest(Params, tuple(section.split("."))) == section


def test_champions_serve_on_and_keep_their_history(url: str) -> None:
    with opened(url) as engine:
        for line in ("text", "image"):
            (champion,) = store.current(engine, line)
            assert (champion.deployment, champion.state) == (f"{line}-v1", State.CHAMPION)
            moves = store.history(engine, line)
            assert [move.target for move in moves] == [State.REGISTERED, State.VALIDATED, State.CHAMPION]
            assert {(move.who, move.why) for move in moves} == {("ops", "the first release")}


def test_the_experiment_runs_on_for_the_same_users(url: str) -> None:
    with opened(url) as engine:
        (version,) = running(engine)
    assert version.placed.experiment.weights == {"control": 0.5, "treatment": 0.5}
    assert version.placed.users and set(version.placed.variants) == {"control", "treatment"}
    with opened(url) as engine:
        assert store.history(engine, "text")
    accepted = read(url, "accepted")
    assert len(accepted) == len(read(url, "finished")) == len(read(url, "feedback")) == 12
    assert {row["variant"] for row in accepted} == {"control", "treatment"}


def test_labels_are_kept(url: str) -> None:
    with opened(url) as engine:
        tasks = {task.sample: task for task in task_store.read_tasks(engine, PROJECT)}
        assert {sample: task.state.value for sample, task in tasks.items()} == {
            "s1": "review",
            "s2": "annotate",
            "g1": "annotate",
        }
        assert [label.completion for label in phrase_queue.read_labels(engine)] == ["a red boat, sticker"]
        assert [task.phrase for task in phrase_queue.open_tasks(engine)] == ["生日蛋糕"]
