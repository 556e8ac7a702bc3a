"""The search over sampling parameters: judged as served, repeatable, and checked on phrases it never saw."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from components.artifact import seal
from components.config import load
from components.data import sample
from components.data.pairs import Pair
from components.data.sample import Sample
from components.models import judge as judges
from components.models.judge import Judge, alignment
from components.models.text_encoder import TextEncoder
from components.runtimes.base import TextRequest, TextResult
from components.runtimes.image import Sampler, load_image
from components.runtimes.text import load_text
from components.stage import StageError
from components.tuning import sampling
from components.tuning.sampling import SPACE, Chain, compare, phrases
from components.tuning.trials import read_search
from tests.components.evaluation.test_image import PAINTING
from tests.tiny_image import CAPTIONS, StraightBackend

COLD = {"temperature": 0.2, "top_p": 0.5, "guidance": 1.0, "steps": 2}
HOT = {"temperature": 1.2, "top_p": 1.0, "guidance": 3.0, "steps": 4}
PAIRS = [Pair(f"draw {caption}", caption, caption) for caption in CAPTIONS]


class Parrot:
    """Writes `red` for what is red while it is cold, and `dog` for all when it is hot."""

    def generate(self, requests: Sequence[TextRequest]) -> list[TextResult]:
        texts = ["red" if r.temperature < 1 and "red" in r.messages[-1][1] else "dog" for r in requests]
        return [TextResult(text, 1, 1, "stop") for text in texts]

    def stream(self, request: TextRequest) -> Iterator[str]:  # type: ignore[override]
        raise NotImplementedError


@pytest.fixture(scope="module")
def judge() -> Judge:
    torch.manual_seed(0)
    return Judge().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def real(tiny_export: Path, tiny_image_export: Path, tiny_encoder: Path, judge: Judge) -> Iterator[Chain]:
    """Both lines as exported and served, tiny."""
    with closing(load_text(tiny_export)) as writer:
        painter = load_image(tiny_image_export, "openvino")
        yield Chain(writer, painter, judge, TextEncoder(tiny_encoder), PAINTING, 8)


def test_each_phrase_is_judged_by_the_picture_of_what_was_written_for_it(tiny_encoder: Path, judge: Judge) -> None:
    encoder = TextEncoder(tiny_encoder)
    chain = Chain(Parrot(), Sampler(StraightBackend(), 4), judge, encoder, PAINTING, 8)  # type: ignore[arg-type]
    pictures_BCHW = torch.zeros(len(PAIRS), 3, 4, 4, dtype=torch.uint8)
    pictures_BCHW[[pair.concept.startswith("red") for pair in PAIRS], 0] = 255
    expected = alignment(judge, pictures_BCHW, encoder.embed(CAPTIONS))["alignment"]
    assert chain.alignments(PAIRS, COLD).mean() == pytest.approx(expected, abs=1e-5)
    compared = compare(chain, PAIRS, COLD, HOT, seed=7)
    assert compared["winner"] == pytest.approx(expected, abs=1e-5)
    assert compared["difference"] == pytest.approx(compared["winner"] - compared["default"], abs=1e-6)
    low, high = compared["interval"]
    assert low < compared["difference"] < high


def test_a_trial_repeated_is_the_same_and_equal_parameters_are_no_difference(real: Chain) -> None:
    once = real.alignments(PAIRS, HOT)
    assert once.shape == (len(PAIRS),) and once.std() > 0
    assert np.array_equal(once, real.alignments(PAIRS, HOT))
    assert not np.array_equal(once, real.alignments(PAIRS, COLD))
    compared = compare(real, PAIRS, HOT, HOT, seed=7)
    assert (compared["difference"], compared["interval"]) == (0, [0, 0])


def test_5_the_reward_sees_every_parameter_of_its_space(real: Chain) -> None:
    between = {"temperature": 0.8, "top_p": 0.9, "guidance": 2.0, "steps": 3}
    assert between.keys() == HOT.keys() == SPACE.keys()
    reward = real.alignments(PAIRS, between).mean()
    for name in SPACE:
        assert real.alignments(PAIRS, {**between, name: COLD[name]}).mean() != reward, name


def write_split(folder: Path, sides: dict[str, list[str]]) -> None:
    """Three phrases per concept."""
    for side, concepts in sides.items():
        samples = [
            Sample(
                f"{concept}-{i}", f"draw {concept} {i}", label=concept, meta={"completion": concept, "concept": concept}
            )
            for concept in concepts
            for i in range(3)
        ]
        sample.write(folder / f"{side}.parquet", samples)
    seal(folder, line="text", kind="split", parents={}, parameters={}, metrics={})


def test_no_concept_is_asked_for_twice_and_one_is_too_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "SPLIT", tmp_path)
    write_split(tmp_path, {"validation": CAPTIONS, "test": ["red dog"]})
    assert {pair.concept for pair in phrases("validation", 99, 7)} == set(CAPTIONS)
    assert phrases("validation", 3, 7) == phrases("validation", 99, 7)[:3]
    with pytest.raises(StageError, match="one concept on the test side"):
        phrases("test", 99, 7)
    sample.write(tmp_path / "test.parquet", [Sample("a", "capital of Chad?", meta={"completion": "N'Djamena"})])
    with pytest.raises(StageError, match="no pair on the test side has a concept"):
        phrases("test", 99, 7)


def test_the_search_leaves_its_curve_its_winner_and_both_comparisons(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_export: Path,
    tiny_image_export: Path,
    tiny_encoder: Path,
    judge: Judge,
) -> None:
    params = load()
    settings = params.tune_sampling.model_copy(update={"trials": 4, "phrases": 3, "step_cost": 0.5})
    monkeypatch.setattr(sampling.config, "load", lambda: params.model_copy(update={"tune_sampling": settings}))
    for name, value in {"SPLIT": tmp_path / "split", "TEXT": tiny_export, "IMAGE": tiny_image_export}.items():
        monkeypatch.setattr(sampling, name, value)
    for name in ("CURVE", "RESULT", "STATE"):
        monkeypatch.setattr(sampling, name, tmp_path / name)
    monkeypatch.setattr(judges, "load", lambda: judge)
    monkeypatch.setattr(sampling, "TextEncoder", lambda: TextEncoder(tiny_encoder))
    write_split(tmp_path / "split", {"validation": CAPTIONS[:4], "test": CAPTIONS[4:]})
    sampling.main()
    rows = list(csv.DictReader(sampling.CURVE.read_text().splitlines()))
    assert [float(row["best"]) for row in rows] == [
        max(float(row["reward"]) for row in rows[: i + 1]) for i in range(4)
    ]
    for row in rows:
        assert float(row["reward"]) == pytest.approx(float(row["alignment"]) - 0.5 * int(row["steps"]), abs=2e-4)
    document = json.loads(sampling.RESULT.read_bytes())
    assert document["winner"] == read_search(sampling.RESULT).best.parameters
    assert int(document["winner"]["steps"]) == min(int(row["steps"]) for row in rows)  # at this price
    assert document["default"].keys() == document["winner"].keys() == SPACE.keys()
    assert [document[side]["phrases"] for side in ("validation", "test")] == [3, 3]
    assert not list(sampling.STATE.iterdir())
