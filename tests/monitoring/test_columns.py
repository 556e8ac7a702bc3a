from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from monitoring.columns import (
    REACTION_S,
    TextReference,
    leave_group_out,
    once_per_user,
    service,
    text_columns,
)
from tests.monitoring.examples import like, row, running


def letters(phrases: Sequence[str]) -> NDArray[np.float32]:
    """A stand-in for MiniLM: unit vectors of letter counts."""
    counts = np.array(
        [[text.count(letter) for letter in "abcdefghijklmnopqrstuvwxyz "] for text in phrases], np.float32
    )
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def test_texts_get_the_same_columns_on_both_sides() -> None:
    reference = ["red fox", "blue hen", "green cow", "grey owl", "red bee", "blue ant", "zz"]
    known = TextReference(reference, letters)
    before, after = known.columns, known.measure(["quarterly revenue", "red hen"])
    assert list(before.columns) == list(after.columns)
    assert "meaning 5" in before.columns
    assert (len(before), len(after)) == (7, 2)
    assert after["distance from the usual"][1] < after["distance from the usual"][0]
    assert after["unknown word share"].tolist() == [1.0, 0.0]


def test_without_an_encoder_or_without_rows_only_descriptors_are_left() -> None:
    assert "distance from the usual" not in TextReference(["a fox"], None).measure(["a hen"]).columns
    assert len(TextReference([], letters).measure(["a hen"])) == 1
    assert len(TextReference(["a fox"], letters).measure([])) == 0


def test_a_client_that_repeats_itself_is_one_observation() -> None:
    rows = [row("a"), row("b"), row("c", user_key="v"), row("d", prompt="a hen"), row("e", outcome="error")]
    assert [r["prompt"] for r in once_per_user(rows)] == ["a fox", "a fox", "a hen"]


def test_service_columns_are_missing_where_they_do_not_apply() -> None:
    rows = [row("liked"), row("silent"), row("failed", outcome="error"), running("running"), row("new", time=990.0)]
    reactions = [like("liked", 0.0, at=110.0), like("liked", at=120.0), like("silent", user="stranger", at=120.0)]
    frame = service(rows, reactions, until=1000.0)
    assert len(frame) == 4  # a request that is still running has nothing to measure
    assert frame["latency (s)"].count() == 3
    assert frame["liked of those who reacted"].dropna().tolist() == [1.0]
    assert frame["reacted"].dropna().tolist() == [1.0, 0.0]  # nobody had time to react to the newest one


def test_late_reactions_and_those_before_the_request_do_not_count() -> None:
    reactions = [like("r", at=100.0 + REACTION_S + 1), like("r", at=50.0)]
    assert service([row("r")], reactions, until=1000.0)["reacted"].tolist() == [0.0]


@pytest.mark.parametrize(("line", "written"), [("text", True), ("image", False)])
def test_only_the_text_line_writes_tokens(line: str, written: bool) -> None:
    assert ("output tokens" in service([row("r", line=line)], [], 1000.0).columns) == written
    assert "latency (s)" in service([], [], 1000.0).columns


def test_a_text_is_described_by_length_script_and_words() -> None:
    frame = text_columns(["Red fox red", "狐 fox", ""], frozenset({"a", "red", "fox"}))
    assert frame["words"].tolist() == [3, 2, 0]
    assert frame["unknown word share"].tolist() == [0, 0.5, 0]
    assert frame["non-ASCII share"][1] == pytest.approx(0.2)
    assert frame["repeated word share"].tolist() == [pytest.approx(1 / 3), 0, 0]


def test_the_reference_does_not_know_its_own_words_by_construction() -> None:
    assert leave_group_out(["red fox", "red hen"], ["1", "2"])["unknown word share"].tolist() == [0.5, 0.5]


def test_17_what_only_the_texts_about_one_thing_say_is_unknown_to_the_reference() -> None:
    found = leave_group_out(["a red fox", "the red fox", "a hen"], ["fox", "fox", "hen"])
    assert found["unknown word share"].tolist() == [pytest.approx(2 / 3), 1.0, 0.5]
