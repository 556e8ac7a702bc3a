from __future__ import annotations

from dataclasses import asdict, replace

from components.annotation.quality import report
from monitoring.quality import page
from tests.components.annotation.examples import PROJECT, TIERS
from tests.components.annotation.test_quality import build


def test_the_page_shows_people_costs_and_what_is_wrong_and_fetches_nothing() -> None:
    html = page(asdict(build()))
    for words in ("no tasks", "falling", "s100", "Disputed gold", "4.58", "1 and 3", "food"):
        assert words in html
    assert "http" not in html
    assert "<script" not in html


def test_names_from_outside_are_escaped() -> None:
    found = build()
    people = (replace(found.people[0], name="<b>x</b>"), *found.people[1:])
    html = page(asdict(replace(found, people=people)))
    assert "<b>x</b>" not in html
    assert "&lt;b&gt;x&lt;/b&gt;" in html


def test_an_empty_project_has_a_page() -> None:
    html = page(asdict(report(PROJECT, [], {}, [], TIERS, 1e9)))
    assert "Nobody has answered yet" in html
