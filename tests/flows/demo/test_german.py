from __future__ import annotations

from flows.demo.german import NOUNS, TEMPLATES, phrases


def test_every_phrase_means_one_concept() -> None:
    found = phrases()
    assert len(found) == len(NOUNS) * len(TEMPLATES)
    assert found["zeig mir eine Schnecke"] == "snail" and set(found.values()) == set(NOUNS)
