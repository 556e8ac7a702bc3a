"""What the shipped base learnt from: which samples are selected, and that none of them is held out."""

from __future__ import annotations

import json

from components.artifact import verify
from components.data.sample import Sample
from components.models import denoiser as denoisers
from components.training.base_image import RECIPE, digest, select
from components.training.image import BASE
from tests.conftest import ROOT


def test_flags_and_skin_tones_are_left_out_in_any_order_of_samples() -> None:
    kept = [Sample("b", "rocket", meta={"tone": "", "subgroup": "transport-air"}), Sample("a", "own picture")]
    left_out = [Sample("c", "a hand", meta={"tone": "1F3FB"}), Sample("d", "a flag", meta={"subgroup": "country-flag"})]
    assert [s.id for s in select(kept + left_out)] == ["a", "b"]
    assert digest(select(kept + left_out)) == digest(select(kept[::-1]))


def test_the_digest_follows_the_contents() -> None:
    versions = [Sample("a", "x", b"1"), Sample("a", "y", b"1"), Sample("a", "x", b"2"), Sample("b", "x", b"1")]
    assert len({digest([version]) for version in versions}) == 4


def test_the_shipped_base_is_whole_and_names_what_it_has_seen() -> None:
    manifest = verify(ROOT / BASE)
    ids = json.loads((ROOT / BASE / "training_ids.json").read_text())
    assert len(ids) == len(set(ids)) == manifest.metrics["samples"]
    assert denoisers.load(ROOT / BASE).shape == RECIPE.model
