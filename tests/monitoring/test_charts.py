from __future__ import annotations

from xml.etree import ElementTree

import pytest

from monitoring import charts


@pytest.mark.parametrize(("value", "top"), [(0.0, 1.0), (0.13, 0.2), (1.0, 1.0), (37.0, 50.0), (501.0, 1000.0)])
def test_an_axis_ends_at_the_next_round_number(value: float, top: float) -> None:
    assert charts.ceiling(value) == pytest.approx(top)


def test_charts_are_well_formed_and_escape_names() -> None:
    starts = [0.0, 60.0, 120.0]
    pictures = [
        charts.stacked_bars(starts, {"text": [1, 0, 3], "<script>": [0, 2, 1]}, "requests & more"),
        charts.lines(starts, {"text p50": [0.1, None, 0.3], "text p95": [0.2, None, 0.4]}, " s", "latency"),
        charts.interval(-0.2, 0.1, -0.05, "<b>control</b> better", "treatment better"),
        charts.intervals(starts, [(0.1, -1, 1), (0.1, -0.2, 0.4), (0.1, 0.05, 0.2)], "<b>control</b>", "treatment"),
        charts.intervals([], [], "control", "treatment"),
    ]
    for picture in pictures:
        root = ElementTree.fromstring(picture)
        assert not [element for element in root.iter() if element.tag in ("script", "b")]


def test_bars_of_a_slice_add_up_to_its_requests() -> None:
    root = ElementTree.fromstring(charts.stacked_bars([0.0], {"text": [6], "image": [4]}, "requests"))
    heights = {bar[0].text: float(bar.get("height", 0)) for bar in root.iter("rect")}
    assert heights["text: 6"] / heights["image: 4"] == pytest.approx(1.5, abs=0.02)


def test_the_newest_interval_sets_the_scale_and_wider_ones_run_out_of_the_picture() -> None:
    root = ElementTree.fromstring(charts.intervals([0.0, 60.0], [(0.1, -1, 1), (0.1, 0.05, 0.2)], "old", "new"))
    early, newest = [bar for bar in root.iter("line") if bar.get("stroke-width")]
    assert [early.get("stroke"), newest.get("stroke")] == ["var(--soft)", "var(--fine)"]  # only the second excludes 0
    assert (early.get("y1"), early.get("y2")) == ("10.0", "156.0")  # the whole height of the plot
    height = float(newest.get("y2") or 0) - float(newest.get("y1") or 0)
    assert height == pytest.approx(146 * 0.15 / 0.6, abs=0.2)
