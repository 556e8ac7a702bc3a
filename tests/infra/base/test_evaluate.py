"""A base is measured on what it has seen and what not, and a picture competes with 100 names whatever its group."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from components.data.sample import Sample, write
from components.models.judge import Judge
from components.models.text_encoder import TextEncoder
from components.runtimes.image import Sampler
from components.stage import StageError
from infra.base import evaluate as base
from infra.base.evaluate import Group, group, groups, kid, measure, named, paint_all, table, write_sheets
from tests.components.evaluation.test_image import PAINTING, drawn
from tests.tiny_image import StraightBackend, write_tiny_encoder


@pytest.fixture(scope="module")
def judge() -> Judge:
    torch.manual_seed(0)
    return Judge().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    return TextEncoder(write_tiny_encoder(tmp_path_factory.mktemp("encoder")))


def of_style(sample: Sample, style: str, **meta: object) -> Sample:
    return replace(sample, meta={**sample.meta, "style": style, **meta})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two seen drawings of OpenMoji's and one of another artist; one held-out combination and two unseen concepts."""
    train = [of_style(drawn("red", 90), "openmoji"), of_style(drawn("dog", 30), "openmoji")]
    train.append(of_style(drawn("blue", 120), "noto"))
    held_out = [drawn("heart", 160), drawn("apple", 230), drawn("face", 200)]
    unseen = {"heart": False, "apple": True, "face": True}
    write(tmp_path / "train.parquet", train)
    write(tmp_path / "held_out.parquet", [of_style(s, "openmoji", unseen=unseen[s.id]) for s in held_out])
    return tmp_path


@pytest.fixture
def by_name(data: Path, encoder: TextEncoder) -> dict[str, Group]:
    return groups(data, {"red", "dog", "blue"}, encoder, 4, seed=7)


def test_seen_known_and_unseen_captions_are_groups_of_their_own(by_name: dict[str, Group]) -> None:
    texts = {name: sorted(g.texts) for name, g in by_name.items()}
    assert texts == {"seen": ["dog", "red"], "combinations": ["heart"], "unseen": ["apple", "face"]}


def test_names_of_others_compete_where_a_group_is_small(encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "NAMES", 3)
    few = group([drawn("heart", 1)], [drawn("red", 2), drawn("dog", 3), drawn("blue", 4)], encoder, 4)
    assert (few.texts, few.captions.texts) == (["heart"], ["heart", "red", "dog"])
    assert few.real.shape == (1, 3, 4, 4)


@pytest.mark.parametrize("trained_on", [{"red", "dog", "heart"}, {"red"}])
def test_a_base_of_another_split_is_refused(data: Path, encoder: TextEncoder, trained_on: set[str]) -> None:
    with pytest.raises(StageError, match=r"\['(heart|dog)'\] are on another side than in the base's training_ids"):
        groups(data, trained_on, encoder, 4, seed=7)


def test_captions_are_asked_with_and_without_the_style(by_name: dict[str, Group]) -> None:
    painted = paint_all(Sampler(StraightBackend(), 4), by_name, PAINTING)
    reds = {asked: pictures["seen"][:, 0, 0, 0].tolist() for asked, pictures in painted.items()}
    order = by_name["seen"].texts
    assert reds["no_style"] == [255 if text == "red" else 0 for text in order]
    assert reds["openmoji_style"] == [0, 0]  # "openmoji style: red" is another caption than "red"
    assert reds["real"] == [90 if text == "red" else 30 for text in order]


def test_a_share_is_counted_over_the_groups_own_pictures_and_has_an_exact_interval(encoder: TextEncoder) -> None:
    class Shade(Judge):
        """Sees a picture's shade as the number of its text."""

        def picture(self, scaled_BCHW: torch.Tensor) -> torch.Tensor:
            number = ((scaled_BCHW.mean((1, 2, 3)) + 1) * 127.5 / 10).round().long()
            return torch.nn.functional.one_hot(number, 8).float()

        def text(self, embeddings_BD: torch.Tensor) -> torch.Tensor:
            return torch.eye(8)[: len(embeddings_BD)]

    samples = [drawn(str(number), 10 * number) for number in range(8)]
    among = group(samples[:4], samples[4:], encoder, 64)
    pictures = among.real.clone()
    pictures[3] = 70  # the shade of a name that only competes
    row = named(Shade(), pictures, among)
    assert (row["named"], row["pictures"]) == (0.75, 4)
    assert (row["low"], row["high"]) == pytest.approx((0.1941, 0.9937), abs=1e-4)  # R: binom.test(3, 4)


def test_the_interval_of_kid_lies_around_it(judge: Judge, by_name: dict[str, Group]) -> None:
    other = {
        name: pictures // 4
        for name, pictures in paint_all(Sampler(StraightBackend(), 4), by_name, PAINTING)["real"].items()
    }
    row = kid(judge, other, by_name)
    assert row["pictures"] == 3 and row["low"] < row["kid"] < row["high"]
    assert row["kid"] - row["low"] == pytest.approx(row["high"] - row["kid"])


def test_every_way_of_asking_has_a_row_and_the_sheets_show_every_picture(
    judge: Judge, by_name: dict[str, Group], tmp_path: Path
) -> None:
    painted = paint_all(Sampler(StraightBackend(), 4), by_name, PAINTING)
    rows = measure(judge, painted, by_name)
    assert {asked: sorted(row) for asked, row in rows.items()} == {
        "real": ["combinations", "seen", "unseen"],
        "openmoji_style": ["combinations", "kid", "seen", "unseen"],
        "no_style": ["combinations", "kid", "seen", "unseen"],
    }
    assert [line.partition(":")[0] for line in table(rows).splitlines()] == list(rows)
    write_sheets(tmp_path, painted, by_name, shown=2)
    assert {path.name for path in tmp_path.glob("*.png")} == {"sheet.png", "held_out.png"}
