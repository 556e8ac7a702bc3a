from __future__ import annotations

import pytest

from monitoring import page


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (-3, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "119 min"),
        (7200, "2 h"),
        (172_799, "47 h"),
        (172_800, "2 d"),
    ],
)
def test_a_duration_is_told_in_whole_units(value: float, words: str) -> None:
    assert page.duration(value) == words


@pytest.mark.parametrize(("value", "words"), [(None, "–"), (0.25, "250 ms"), (1.5, "1.50 s")])
def test_a_latency_is_told_in_milliseconds_below_a_second(value: float | None, words: str) -> None:
    assert page.seconds(value) == words
