"""What the shipped base is: whole, of the shape the parameters name, and trained on no held-out sample."""

from __future__ import annotations

import json

from components.artifact import verify
from components.config import load
from components.data.concept import concept, draw
from components.data.sample import Sample
from components.models import denoiser as denoisers
from components.paths import IMAGE_BASE as BASE
from infra.base import emoji_sets
from infra.base.image import RECIPE, captions
from tests.conftest import ROOT


def test_a_picture_is_learnt_with_and_without_its_style() -> None:
    rocket = Sample("a", "rocket: ship", meta={"name": "rocket", "style": "noto"})
    assert captions(rocket) == ["rocket: ship", "rocket", "noto style: rocket: ship", "noto style: rocket"]


def test_the_shipped_base_is_whole_and_of_the_shape_that_fine_tuning_expects() -> None:
    manifest = verify(ROOT / BASE)
    ids = json.loads((ROOT / BASE / "training_ids.json").read_text())
    assert len(ids) == len(set(ids)) == manifest.metrics["samples"]
    assert denoisers.load(ROOT / BASE).shape == RECIPE.model == load(ROOT / "params.yaml").train.image.model


def test_the_base_has_seen_no_drawing_of_the_test_side_in_the_style_it_is_tested_in() -> None:
    """By the rule of the split alone, so that no data is needed: the draw of a concept decides its side."""
    ids = json.loads((ROOT / BASE / "training_ids.json").read_text())
    held_out = [i for i in ids if draw(concept(i.partition("-")[2]), emoji_sets.SPLIT.seed) < emoji_sets.SPLIT.test]
    assert "openmoji-1F680" in ids and held_out
    assert not [i for i in held_out if i.startswith(emoji_sets.OWN_STYLE)]
