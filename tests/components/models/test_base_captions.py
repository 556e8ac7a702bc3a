"""What the base has learnt is divided: one part is rehearsed in fine-tuning, the other is asked about afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.data.openmoji import catalogue
from components.evaluation.image import base_concepts
from components.models.base_captions import base_captions
from components.paths import IMAGE_BASE as BASE
from tests.conftest import ROOT


def test_the_prompts_are_captions_the_base_has_learnt(assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    captions, again, other = (base_captions(40, seed, rehearsed=False) for seed in (7, 7, 8))
    assert len(captions) == len(set(captions)) == 40 and captions == again != other
    seen = set(json.loads((BASE / "training_ids.json").read_bytes()))
    codes = {entry.caption: entry.hexcode for entry in catalogue(assets)}
    for prompt, name in captions:
        style, _, caption = prompt.partition(" style: ")
        assert f"{style}-{codes[caption]}" in seen and caption.startswith(name)
    assert {prompt.partition(" ")[0] for prompt, _ in captions} == {"openmoji", "noto", "twemoji", "fluent"}


def test_what_is_rehearsed_is_not_asked_about(assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    asked, rehearsed = ({name for _, name in base_captions(10_000, 7, rehearsed=side)} for side in (False, True))
    concepts = base_concepts()
    known = {entry.name for entry in catalogue(assets) if entry.concept in concepts}
    assert not asked & rehearsed and asked | rehearsed <= known
    assert 0.2 < len(asked) / (len(asked) + len(rehearsed)) < 0.3
