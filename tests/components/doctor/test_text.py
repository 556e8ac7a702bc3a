"""Conversations as the model's own template encodes them: what carries loss, and what is cut, split or left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from components.config import Params
from components.doctor import text
from components.doctor.drawn import draw
from components.doctor.judged import judge
from components.doctor.report import Conversation, Report
from tests.components.doctor.test_judged import hostile, params_of

LONG = "zebra " * 60
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "first question"},
    {"role": "assistant", "content": "untaught answer", "weight": 0},
    {"role": "user", "content": "second question"},
    {"role": "assistant", "content": LONG},
    {"role": "user", "content": "third question"},
    {"role": "assistant", "content": "final answer"},
]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = hostile(tmp_path / "rows.jsonl")
    path.write_text(json.dumps({"messages": TALK}) + "\n" + path.read_text())
    return path


def report_of(path: Path, base: Path, **settings: Any) -> Report:
    params = params_of(path)
    base_text = params.base.text.model_copy(update={"model": str(base)})
    train = params.train.text.model_copy(update=settings)
    params = Params.model_construct(**{
        **dict(params),
        "base": params.base.model_copy(update={"text": base_text}),
        "train": params.train.model_copy(update={"text": train}),
    })  # fmt: skip
    drawn = draw("text", params.prepare.text, 1_000, seed=7)
    return text.examine(drawn, judge("text", drawn, params), params)


def talk(report: Report) -> Conversation:
    return next(own for own in report.conversations if any("third" in t for s in own.samples for _, t in s))


def pieces(conversation: Conversation, kind: str) -> list[str]:
    return [words for sample in conversation.samples for name, words in sample if name == kind]


def test_green_is_what_the_labels_hold(rows: Path, tiny_base: Path) -> None:
    report = report_of(rows, tiny_base, max_length=5_000, overflow="leave_out")
    found = talk(report)
    assert pieces(found, "learnt") == [f"{LONG}<|im_end|>", "final answer<|im_end|>"]
    assert "untaught answer" in "".join(pieces(found, "read")) and pieces(found, "cut") == []
    assert any("leads 122 that bring no system message" in finding.words for finding in report.findings)
    last = report_of(rows, tiny_base, max_length=5_000, answers="last")
    assert pieces(talk(last), "learnt") == ["final answer<|im_end|>"]


@pytest.mark.parametrize(("overflow", "verdict"), [("leave_out", "left out"), ("refuse", "training ends")])
def test_what_is_too_long_is_struck_from_the_bound_on(overflow: str, verdict: str, rows: Path, tiny_base: Path) -> None:
    report = report_of(rows, tiny_base, max_length=300, overflow=overflow)
    found = talk(report)
    assert found.verdict.endswith(f"more than 300: {verdict}")
    assert found is report.conversations[0]  # what is wrong comes first
    assert "third question" in "".join(pieces(found, "cut"))
    ends = [finding.words for finding in report.wrong()]
    assert any("train_text would end" in words for words in ends) == (overflow == "refuse")


def test_what_is_split_is_shown_in_its_parts(rows: Path, tiny_base: Path) -> None:
    report = report_of(rows, tiny_base, max_length=330, overflow="split")
    found = talk(report)
    assert "split into parts" in found.verdict and pieces(found, "cut") == []
    assert "final answer<|im_end|>" in pieces(found, "learnt")
    assert any("are split between turns" in finding.words for finding in report.findings)


def test_a_base_that_is_not_here_is_no_fault_of_the_data(rows: Path) -> None:
    report = report_of(rows, Path("nobody/nothing@main"))
    assert [finding.severity for finding in report.findings if "on this machine yet" in finding.words] == ["note"]
    assert report.conversations == [] and report.suspects


def test_half_of_a_source_that_is_dropped_ruins_a_training(tmp_path: Path, tiny_base: Path) -> None:
    path = hostile(tmp_path / "rows.jsonl")
    assert list(report_of(path, tiny_base).wrong()) == []
    path.write_text(path.read_text() + '{"prompt": "x"}\n' * 400)
    (finding,) = report_of(path, tiny_base).wrong()
    assert finding.severity == "ruins" and "takes no part in the training" in finding.words
