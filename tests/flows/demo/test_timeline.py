"""The timeline page: in the order of time, complete after every step, and honest about what did not hold."""

from __future__ import annotations

import json
from pathlib import Path

from flows.demo.timeline import Timeline


def test_steps_are_in_order_and_the_page_is_complete_after_each(tmp_path: Path) -> None:
    page = tmp_path / "proof.html"
    timeline = Timeline("proof", "all of it is <simulated>", page)
    timeline.add("second", "later", {"users": 60}, expected="a rise", held=False, at=100.0)
    assert "does not hold: a rise" in page.read_text() and "all of it is &lt;simulated&gt;" in page.read_text()
    timeline.add("first", "<script>", at=37.0)
    text = page.read_text()
    assert text.index("first") < text.index("second") and "+1:03" in text and "<script>" not in text
    assert [step["title"] for step in json.loads(page.with_suffix(".json").read_text())] == ["first", "second"]
    assert [step.title for step in timeline.broken] == ["second"]
