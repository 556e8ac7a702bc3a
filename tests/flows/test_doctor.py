"""`atelier data doctor`: a few lines, a page and an honest exit code."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from components.config import load
from components.planner import machine
from flows import cli, commands, doctor
from tests.components.doctor.test_judged import hostile, params_of
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def _short_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SECONDS", 0.01)


def test_the_exit_code_says_whether_to_train(tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = params_of(hostile(tmp_path / "rows.jsonl"))
    base = params.base.text.model_copy(update={"model": str(tiny_base)})
    params = params.model_copy(update={"base": params.base.model_copy(update={"text": base})})
    monkeypatch.setattr(commands, "load", lambda: params)
    page = tmp_path / "page.html"
    call = ["data", "doctor", "--line", "text", "--out", str(page)]
    answer = CliRunner().invoke(cli.app, call)
    assert answer.exit_code == 0, answer.output
    assert "text: 127 rows or pictures; all of them were read" in answer.output
    assert "clean drops 2 as duplicate" in answer.output
    assert answer.output.rstrip().endswith(str(page))
    assert "to train LoRA" in page.read_text() and "every weight" not in page.read_text()

    params.prepare.text.path.write_text('{"prompt": "a", "completion": "b"}\n' * 9)
    answer = CliRunner().invoke(cli.app, call)
    assert answer.exit_code == 1
    assert "ends   split would end: split.text: 1 samples" in answer.output
    assert "Do not train on this yet" in page.read_text()

    for wrong in (["--sample", "0"], ["--line", "sound"]):
        assert CliRunner().invoke(cli.app, [*call, *wrong]).exit_code == 2


def test_lines_whose_source_is_shipped_are_left_alone_where_another_is_a_users(tmp_path: Path) -> None:
    params = params_of(tmp_path / "rows.jsonl")
    assert doctor.lines_to_see(params) == ["text"]
    assert doctor.lines_to_see(load(ROOT / "params.yaml")) == ["text", "image"]


def test_the_first_training_on_a_users_own_data_is_led_by_the_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = params_of(hostile(tmp_path / "rows.jsonl"))
    monkeypatch.setattr(doctor, "ARTIFACTS", tmp_path)
    assert doctor.untrained(params, ["package@text"]) == ["text"]
    assert doctor.untrained(params, ["split@text", "package@image"]) == []
    assert doctor.untrained(load(ROOT / "params.yaml"), []) == []
    (tmp_path / "text/checkpoint").mkdir(parents=True)
    assert doctor.untrained(params, []) == []
