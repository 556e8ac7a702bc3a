"""A candidate takes the place beside the champion, and the champion is found wherever it stands."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

from components import lines
from components.config import load
from components.events.schema import Deployment
from components.stage import StageError
from flows import environment, stack
from flows.environment import ROOT
from tests.components.events.examples import DEPLOYMENT


def record(name: str) -> Deployment:
    return DEPLOYMENT.model_copy(update={"deployment": name})


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "STATE", tmp_path)


def test_the_first_place_is_taken_until_the_champion_stands_there() -> None:
    assert stack.slot_beside("text", None) == "text"
    stack.place("text", record("a"))
    assert (stack.slot_beside("text", None), stack.slot_beside("text", "a")) == ("text", "text-b")
    stack.place("text-b", record("b"))
    assert (stack.slot_of("text", "b"), stack.slot_beside("text", "b")) == ("text-b", "text")


def test_users_get_the_champion_wherever_it_stands_and_else_what_there_is() -> None:
    assert stack.served("text", "a") is None
    stack.place("text-b", record("b"))
    assert stack.served("text", "a") == record("b")
    stack.place("text", record("a"))
    assert [stack.served("text", name) for name in ("a", "b", None)] == [record("a"), record("b"), record("a")]
    assert stack.occupied() == ["text", "text-b"]


def test_a_place_whose_bento_is_lost_stops_nothing_but_what_users_need_it_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path))
    (tmp_path / "bentos" / "text" / "1").mkdir(parents=True)
    stack.place("text", record("a"))
    stack.place("text-b", record("b").model_copy(update={"bento": "text:2"}))
    assert stack.startable({"text": "a", "image": None}) == (["text"], {"text-b": "text:2"})
    with pytest.raises(StageError, match="the Bento store has lost text:2, which serves text; `atelier release start`"):
        stack.startable({"text": "b", "image": None})


def test_what_was_sent_back_is_stopped_and_its_place_free(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(stack, "running", lambda: {"text", "text-b"})
    monkeypatch.setattr(stack, "control", lambda *words: asked.append(words))
    stack.place("text", record("a"))
    stack.place("text-b", record("b"))
    for _ in range(2):
        stack.vacate("text", "b")
    assert (stack.occupied(), asked) == (["text"], [("stop", "text-b")])


def test_each_place_is_a_program_with_a_port_of_its_own() -> None:
    supervisor = configparser.RawConfigParser()
    supervisor.read(ROOT / "infra" / "supervisord.conf")
    programs = [program for pair in [line.programs for line in lines.LINES.values()] for program in pair]
    for program in programs:
        assert supervisor[f"program:{program}"]["command"] == f"atelier serve {program}"
    assert len({environment.ports(load())[program] for program in programs}) == len(programs)
