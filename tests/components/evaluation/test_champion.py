"""Equal models pass, worse ones are refused, and a verdict is found once for the same packages and data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from components import config
from components.artifact import verify
from components.data.pairs import Pair, distinct_pairs
from components.evaluation import by_answers, champion
from components.evaluation.champion import (
    image_checks,
    mean_difference,
    recognised,
    text_checks,
)
from components.evaluation.image import Captions
from components.models.judge import Judge
from components.models.text_encoder import TextEncoder
from components.runtimes.image import Sampler, load_sampler
from components.stage import StageError
from tests.components.evaluation.test_image import PAINTING, drawn
from tests.tiny_image import StraightBackend
from tests.tiny_language import write_tiny_export, write_tiny_pairs

GATE = config.load().gate
THINGS = ("apple", "heart", "rocket", "dog")
PAIRS = [Pair(f"draw {thing}", f"{thing}: flat sticker", thing) for thing in THINGS]


@pytest.fixture(scope="module")
def worse(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the tiny export, but surer of its random guesses."""
    return write_tiny_export(tiny_base, tmp_path_factory.mktemp("worse") / "export", certainty=4)


def share_that_passes(loss: float, seeds: int = 200, pictures: int = 120) -> float:
    """How often a model passes that recognises `loss` fewer pictures than a champion that recognises 60 %.

    A quarter of the pictures is a fresh draw, so that an eighth differs between equal models: more than between two
    fine-tunings, a little less than between two seeds of the noise (see `params.yaml`).
    """
    passed = 0
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        old, fresh = rng.random((2, pictures)) < 0.6
        new = np.where(rng.random(pictures) < 0.25, fresh, old) & (rng.random(pictures) >= loss / 0.6)
        _, lower = mean_difference(new.astype(float), old.astype(float), "lower", seed)
        passed += lower >= -GATE.image.max_recognition_loss
    return passed / seeds


def test_an_equal_model_passes_and_a_much_worse_one_is_refused() -> None:
    assert share_that_passes(0.0) >= 0.9
    assert share_that_passes(0.25) <= 0.05


def test_a_bound_lies_on_the_asked_side_and_holds_95_of_100_times() -> None:
    held = {"lower": 0, "upper": 0}
    for seed in range(200):
        a, b = np.random.default_rng(seed).normal(size=(2, 60))
        low, high = (mean_difference(a + 0.3, b, side, seed) for side in ("lower", "upper"))
        assert low[1] < low[0] == high[0] < high[1]
        held["lower"] += low[1] <= 0.3
        held["upper"] += high[1] >= 0.3
    assert min(held.values()) >= 0.91 * 200


def test_models_that_never_differ_have_no_uncertainty() -> None:
    same = np.array([0.0, 1.0, 1.0])
    assert mean_difference(same, same, "lower", 7) == (0.0, 0.0)


def test_only_one_pair_speaks_for_a_concept_or_where_there_is_none_for_a_group_of_the_split() -> None:
    chosen = distinct_pairs([*PAIRS, Pair("paint dog", "dog: flat sticker", "dog")], seed=7)
    assert sorted(pair.concept for pair in chosen) == sorted(THINGS)
    answered = [Pair(f"is {n} odd?", "yes" if n % 2 else "no", meta={"split_group": f"g{n // 3}"}) for n in range(12)]
    assert sorted(pair.group for pair in distinct_pairs(answered, seed=7)) == ["g0", "g1", "g2", "g3"]


def test_a_picture_counts_where_its_own_name_is_the_best(tiny_encoder: Path) -> None:
    torch.manual_seed(0)
    judge = Judge().eval().requires_grad_(False)
    names = TextEncoder(tiny_encoder).embed(["red", "dog"])
    picture = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8).repeat(2, 1, 1, 1)
    assert sorted(recognised(judge, picture, names)) == [0, 1]  # equal pictures: one of the names, for both


@pytest.fixture
def held_out(tiny_encoder: Path) -> Captions:
    """Red pictures of "red" and black ones of other things, as `StraightBackend` paints them."""
    samples = [drawn(name, 0) for name in ("red", "dog", "blue", "apple")]
    captions = Captions.of(samples, TextEncoder(tiny_encoder), 8)
    captions.real_BCHW[0, 0] = 255
    return captions


def test_pictures_unlike_the_real_ones_are_refused_with_the_numbers(
    held_out: Captions, tiny_image_export: Path
) -> None:
    torch.manual_seed(0)
    judge = Judge().eval().requires_grad_(False)
    noisy, perfect = load_sampler(tiny_image_export, "openvino"), Sampler(StraightBackend(), 8)
    same = image_checks(noisy, noisy, judge, held_out, PAINTING, GATE.image)
    assert all(check.passed and check.estimate == 0 and check.pairs == 4 for check in same)
    recognition, kid = image_checks(noisy, perfect, judge, held_out, PAINTING, GATE.image)
    assert not kid.passed and kid.value > kid.estimate > GATE.image.max_kid_increase
    assert recognition.value <= recognition.estimate
    with pytest.raises(StageError, match="the candidate paints 8 pixels, the champion 4"):
        image_checks(noisy, Sampler(StraightBackend(), 4), judge, held_out, PAINTING, GATE.image)


def test_a_higher_perplexity_is_refused_and_a_lower_one_is_welcome(tiny_export: Path, worse: Path) -> None:
    (refused,) = text_checks(worse, tiny_export, PAIRS, 7, GATE.text)
    assert not refused.passed and refused.value > refused.estimate > 1.2
    (welcome,) = text_checks(tiny_export, worse, PAIRS, 7, GATE.text)
    assert welcome.passed and welcome.estimate == pytest.approx(1 / refused.estimate)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(champion, "DATA", tmp_path / "data")
    write_tiny_pairs(tmp_path / "data" / "text" / "split", THINGS)
    return tmp_path / "data" / "text" / "split"


def test_a_verdict_carries_its_evidence_and_is_found_anew_for_other_data(
    data: Path, tiny_export: Path, worse: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "verdict.json"
    champion.main("text", worse, tiny_export, output)
    document = json.loads(output.read_bytes())
    assert (document["candidate"], document["champion"]) == (verify(worse).digest, verify(tiny_export).digest)
    assert document["data"] == verify(data).digest
    (row,) = document["checks"]
    assert document["passed"] is row["passed"] is False and row["pairs"] == len(THINGS)
    assert "may be worse: perplexity_ratio_upper is" in capsys.readouterr().out
    champion.main("text", worse, tiny_export, output)
    assert "judged already" in capsys.readouterr().out
    write_tiny_pairs(data, THINGS[:3])
    champion.main("text", worse, tiny_export, output)
    assert json.loads(output.read_bytes())["checks"][0]["pairs"] == 3


def test_the_champion_itself_is_not_compared(data: Path, tiny_export: Path, tmp_path: Path) -> None:
    champion.main("text", tiny_export, tiny_export, tmp_path / "verdict.json")
    assert not (tmp_path / "verdict.json").exists()


def test_what_cannot_be_compared_is_named_with_what_to_do(
    data: Path, tiny_export: Path, tiny_image_export: Path, tmp_path: Path
) -> None:
    with pytest.raises(StageError, match=r"champion .*image-export.* atelier release start --force 'the reason'"):
        champion.main("text", tiny_export, tiny_image_export, tmp_path / "verdict.json")
    write_tiny_pairs(data, THINGS[:1])
    with pytest.raises(StageError, match="1 held-out pairs that differ, 2 are needed"):
        champion.main("text", tiny_image_export, tiny_export, tmp_path / "verdict.json")


def test_pairs_longer_than_a_model_holds_are_left_out_and_counted(
    tiny_export: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = Pair("draw " + "apples " * 90, "apple: flat sticker")
    assert champion.short_enough([long, *PAIRS], tiny_export, tiny_export) == PAIRS
    assert "1 of 5 held-out pairs are left out" in capsys.readouterr().out
    texts, wanted = by_answers.similarities((tiny_export, tiny_export), [long, *PAIRS], config.load())
    assert len(texts) == len(wanted) == len(PAIRS)
    assert "1 of 5 held-out pairs are left out" in capsys.readouterr().out
