from __future__ import annotations

import pytest

from monitoring.descriptors import describe, leave_one_out, vocabulary


def test_a_text_is_described_by_length_script_and_words() -> None:
    frame = describe(["Red fox red", "狐 fox", ""], vocabulary(["a red fox"]))
    assert frame["words"].tolist() == [3, 2, 0]
    assert frame["unknown word share"].tolist() == [0, 0.5, 0]
    assert frame["non-ASCII share"][1] == pytest.approx(0.2)
    assert frame["repeated word share"].tolist() == [pytest.approx(1 / 3), 0, 0]


def test_the_reference_does_not_know_its_own_words_by_construction() -> None:
    assert leave_one_out(["red fox", "red hen"])["unknown word share"].tolist() == [0.5, 0.5]
