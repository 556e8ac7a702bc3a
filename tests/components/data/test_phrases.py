from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from components.data.openmoji import FLAGS, Entry, catalogue
from components.data.phrases import phrases, samples

ROCKET = Entry("1F680", "🚀", "rocket", ("ship", "launch"), "Travel & Places", "transport-air", "1F680", "")


def test_a_concept_is_asked_for_by_name_and_by_its_tags_alone() -> None:
    texts = phrases(ROCKET)
    assert texts == phrases(ROCKET) and len(texts) == 5
    assert any("rocket" in text for text in texts)
    assert any("rocket" not in text and "ship" in text and "launch" in text for text in texts)


def test_the_prompt_to_write_is_the_image_lines_caption_and_flags_are_not_asked_for(assets: Path) -> None:
    drawn = {entry.hexcode: entry for entry in catalogue(assets)}
    found = samples(assets, None)
    assert all(sample.meta["completion"] == drawn[str(sample.meta["hexcode"])].caption for sample in found)
    assert not any(drawn[str(sample.meta["hexcode"])].subgroup in FLAGS for sample in found)


def test_no_phrase_means_two_concepts_and_no_skin_tone_is_asked_for(assets: Path) -> None:
    found = samples(assets, None)
    meant = defaultdict(set)
    for sample in found:
        meant[sample.text].add(sample.meta["concept"])
    assert len(found) > 5_000 and all(len(concepts) == 1 for concepts in meant.values())
    assert not any("skin" in sample.label.split() and "with" in sample.label for sample in found)
    assert len({sample.id for sample in found}) == len(found)
    assert all(sample.meta["licence"] and sample.meta["completion"] for sample in found)


def test_the_limit_keeps_that_many_spread_over_concepts(assets: Path) -> None:
    found = samples(assets, 100)
    assert len(found) == 100 and len({sample.meta["concept"] for sample in found}) > 80
