from __future__ import annotations

import pytest

from components.data.writing import continues, is_unspaced


@pytest.mark.parametrize(
    ("text", "goes_on"),
    [("ab", True), ("a ", False), ("a你", False), ("你好", False), ("a1", True), ("कि", True), ("е\u0301ж", True)],
)
def test_words_end_at_spaces_at_marks_never_and_between_scripts_with_and_without_spaces(
    text: str, goes_on: bool
) -> None:
    assert continues(text, len(text) - 1) == goes_on
    assert not continues(text, 0) and not continues(text, len(text))


def test_scripts_without_spaces_are_known() -> None:
    assert all(map(is_unspaced, "你々ひカไລབမខ𠀀")) and not any(map(is_unspaced, "aд한क א"))
