from __future__ import annotations

import ast
from pathlib import Path

import pytest

from components.data import openmoji
from components.data.openmoji import Entry, catalogue, render, samples
from components.data.picture import decode, load
from components.data.sample import Reject, Sample
from components.stage import StageError


@pytest.fixture(scope="module")
def entries(assets: Path) -> dict[str, Entry]:
    return {entry.hexcode: entry for entry in catalogue(assets)}


def test_names_tags_and_groups_come_together(entries: dict[str, Entry]) -> None:
    rocket = entries["1F680"]
    assert (rocket.name, rocket.group, rocket.emoji, rocket.tone) == ("rocket", "Travel & Places", "🚀", "")
    assert rocket.caption.startswith("rocket: ship, launch")


def test_the_red_heart_is_not_called_black_and_the_black_one_is(entries: dict[str, Entry]) -> None:
    assert entries["2764"].name == "heart"
    assert entries["1F5A4"].name == "black heart"


def test_five_tones_of_a_hand_are_variants_of_one_concept(entries: dict[str, Entry]) -> None:
    hands = [entry for entry in entries.values() if entry.concept == "1F44D"]
    assert len(hands) == 6 and len({hand.name for hand in hands}) == 6
    assert entries["1F44D-1F3FF"].name == "thumbs up sign with dark skin"


def test_every_drawing_is_a_sample_or_a_reject_and_the_limit_spreads(assets: Path) -> None:
    found = list(samples(assets, 32, limit=60))
    assert len(found) == 60
    kept = [record for record in found if isinstance(record, Sample)]
    assert len({sample.label for sample in kept}) >= 5
    reasons = {record.reason.partition(":")[0] for record in found if isinstance(record, Reject)}
    assert reasons == {"no name", "a flag of a country or region"}
    assert not any(s.meta["subgroup"] in openmoji.FLAGS for s in kept)
    assert all(sample.image and load(sample.image).size == (32, 32) for sample in kept)
    assert all("CC BY-SA 4.0" in str(sample.meta["licence"]) for sample in kept)
    assert found == list(samples(assets, 32, limit=60))


def test_a_drawing_fills_its_square_on_white(assets: Path) -> None:
    pixels = decode(render((assets / openmoji.SVG / "1F34E.svg").read_text(), 48), 48)
    ink = (pixels < 240).any(axis=2)
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert max(ink.any(axis=0).sum(), ink.any(axis=1).sum()) >= 44
    red, green, blue = pixels[30, 20].astype(int)
    assert red > 180 and green < 120 and blue < 120


def test_missing_or_damaged_packages_are_refused_by_file(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"db\.py.*fetch it again"):
        catalogue(tmp_path)
    aliases = tmp_path / openmoji.ALIASES
    aliases.parent.mkdir(parents=True)
    aliases.write_text('EMOJI_DB = [Emoji(["grin"], "😁", [], "Smileys", "6.1")]')
    names = tmp_path / openmoji.NAMES
    names.parent.mkdir(parents=True)
    names.write_text('[{"unified": "1F601"}]')
    with pytest.raises(StageError, match=r"emoji\.json.*fetch it again"):
        catalogue(tmp_path)


def test_the_alias_table_is_parsed_and_never_run(tmp_path: Path) -> None:
    aliases = tmp_path / openmoji.ALIASES
    aliases.parent.mkdir(parents=True)
    target = tmp_path / "ran"
    aliases.write_text(f"open({str(target)!r}, 'w')\nEMOJI_DB = [Emoji([__import__('os').getcwd()], '😁', [], '', '')]")
    assert ast.parse(aliases.read_text())
    with pytest.raises(StageError, match="cannot be read as the table"):
        catalogue(tmp_path)
    assert not target.exists()
