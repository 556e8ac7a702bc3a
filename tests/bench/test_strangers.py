"""A package of icons becomes the folder that a user would bring."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.artifact import canonical, write_text
from components.config import load
from infra.figures import models
from tests.bench import strangers
from tests.conftest import ROOT

CIRCLE = '<circle cx="8" cy="8" r="6" fill="red"/>'


def test_icons_become_captioned_pictures_and_only_the_training_changes(tmp_path: Path) -> None:
    icons = {name: {"body": CIRCLE} for name in ("red-apple", "smiley-face-2", "add-row")}
    write_text(tmp_path / "package/icons.json", canonical({"icons": icons}))
    folder = tmp_path / "pictures"
    strangers.write_folder(tmp_path, 3, {"redapple": "red apple: fruit"}, folder)
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows] == ["add row", "red apple: fruit", "smiley face"]
    assert all((folder / row["file_name"]).read_bytes().startswith(b"\x89PNG") for row in rows)
    strangers.write_parameters(ROOT, tmp_path, strangers.RECIPES["plain"], folder)
    changed, shipped = load(tmp_path / "params.yaml"), load(ROOT / "params.yaml")
    assert changed.prepare.image.path == folder and changed.train.image.rehearsed == 0
    assert changed.model_copy(update={"prepare": shipped.prepare, "train": shipped.train}) == shipped


def test_the_next_recipe_is_read_from_the_same_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for recipe, steps in (("kept", 150), ("plain", 300)):
        strangers.write_parameters(ROOT, tmp_path, strangers.RECIPES[recipe], tmp_path)
        assert load().train.image.max_steps == steps


def test_every_set_has_a_row_of_figures() -> None:
    assert tuple(strangers.SETS) == models.SETS
