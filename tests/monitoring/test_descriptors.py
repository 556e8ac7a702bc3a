from __future__ import annotations

import pytest

from monitoring.descriptors import describe, leave_group_out, vocabulary


def test_a_text_is_described_by_length_script_and_words() -> None:
    frame = describe(["Red fox red", "狐 fox", ""], vocabulary(["a red fox"]))
    assert frame["words"].tolist() == [3, 2, 0]
    assert frame["unknown word share"].tolist() == [0, 0.5, 0]
    assert frame["non-ASCII share"][1] == pytest.approx(0.2)
    assert frame["repeated word share"].tolist() == [pytest.approx(1 / 3), 0, 0]


def test_the_reference_does_not_know_its_own_words_by_construction() -> None:
    assert leave_group_out(["red fox", "red hen"], ["1", "2"])["unknown word share"].tolist() == [0.5, 0.5]


def test_17_what_only_the_texts_about_one_thing_say_is_unknown_to_the_reference() -> None:
    found = leave_group_out(["a red fox", "the red fox", "a hen"], ["fox", "fox", "hen"])
    assert found["unknown word share"].tolist() == [pytest.approx(2 / 3), 1.0, 0.5]
