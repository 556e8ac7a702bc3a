"""A user's picture folder with everything that goes wrong in one, through the real stages from the shipped base."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from components import config
from components.config.document import read_yaml, write_yaml
from components.data import clean, prepare, split
from components.data.sample import REJECTS, SAMPLES, read
from components.evaluation import pictures as evaluation
from components.export import image as export
from components.stage import StageError
from components.training import image as training
from tests.components.data.rejects import read_rejects
from tests.conftest import ROOT

WORDS = " ".join(f"word{n}" for n in range(500))


def blocks(seed: int, mode: str = "RGB") -> Image.Image:
    """A picture unlike that of any other seed."""
    colours = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((64, 64), Image.Resampling.NEAREST).convert(mode)


def cut_out() -> Image.Image:
    image = Image.new("RGBA", (50, 50), (0, 0, 0, 0))
    image.paste((0, 0, 255, 255), (10, 10, 40, 40))
    return image


# Caption → picture, file type and what to save it with.
KEPT: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
    "a huge green field": (Image.new("RGB", (4_000, 4_000), "green"), "png", {}),
    "a small dot": (Image.new("RGB", (9, 9), "maroon"), "png", {}),
    "a wide blue band": (Image.new("RGB", (640, 40), "blue"), "png", {}),
    "a blue tile, transparent around": (cut_out(), "png", {}),
    "an animation": (blocks(101), "gif", {"save_all": True, "append_images": [blocks(102)]}),
    "a grey photograph": (blocks(103, "L"), "png", {}),
    "sixteen bits of grey": (Image.fromarray(np.arange(64**2, dtype=np.uint16).reshape(64, 64) * 16), "png", {}),
    "a print in four inks": (blocks(104, "CMYK"), "jpg", {}),
    "ein Bär mit grünem Hut": (blocks(105), "png", {}),
    WORDS: (blocks(106), "png", {}),
}
REJECTED: dict[str, tuple[Image.Image, str, str]] = {
    "more pixels than allowed": (Image.new("1", (5_000, 5_000)), "png", "claims 5000×5000 pixels"),
    "a tiny dot": (Image.new("RGB", (4, 4), "red"), "png", "4×4 pixels, smaller than 8"),
    "a hair": (Image.new("RGB", (3_000, 10), "blue"), "png", "3000×10 pixels, narrower"),
    "nothing at all": (Image.new("RGBA", (50, 50), (9, 9, 9, 0)), "png", "white throughout"),
    "a scan": (blocks(107), "ppm", "not a picture in a supported format: save it as one of PNG, JPEG"),
    "一只红色的狐狸坐在雪地里": (blocks(108), "png", "8 of 12 word pieces are unknown"),
    "🦊🚀": (blocks(109), "png", "1 of 1 word pieces are unknown to the text encoder: translate"),
}


def write_folder(folder: Path, plain: int) -> Path:
    """An image folder of `plain` ordinary pictures; half of their captions ask for a style that nothing ever had."""
    folder.mkdir()
    pictures = {f"{'cubist style: ' * (n % 2)}thing {n}": (blocks(n), "png", {}) for n in range(plain)}
    return add(folder, pictures)


def add(folder: Path, pictures: dict[str, tuple[Image.Image, str, dict[str, Any]]]) -> Path:
    metadata = folder / "metadata.jsonl"
    rows = metadata.read_text().splitlines() if metadata.exists() else []
    for caption, (picture, suffix, options) in pictures.items():
        name = f"{len(rows)}.{suffix}"
        picture.save(folder / name, **options)
        # What a user notes beside a picture must not be taken for this project's own fields.
        rows.append(json.dumps({"file_name": name, "text": caption, "tone": "warm", "name": None}))
    metadata.write_text("\n".join(rows) + "\n")
    return folder


class Colours(torch.nn.Module):
    """Stands in for Inception, whose weights cannot be had here: a picture's features are its mean colours."""

    def forward(self, pictures_BCHW: torch.Tensor) -> torch.Tensor:
        return pictures_BCHW.float().mean((2, 3)) / 255

    def logits(self, features_BD: torch.Tensor) -> torch.Tensor:
        return features_BD


@pytest.fixture
def project(assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder like a clone of this project that learns from `pictures` in it; training and evaluation are short."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/assets").symlink_to(assets)
    (tmp_path / "components").symlink_to(ROOT / "components")
    document = read_yaml(ROOT / "params.yaml")
    document["prepare"]["image"] |= {"source": "folder", "path": "pictures", "limit": None}
    document["train"]["image"] |= {"max_steps": 2, "batch_size": 4, "precision": "fp32"}
    document["evaluate"]["image"] |= {"samples": 4, "inception": "params.yaml"}
    document["serving"] |= {"image_steps": 1, "image_guidance": 1.0}
    write_yaml(tmp_path / "params.yaml", document)
    monkeypatch.setattr(evaluation.image.inceptions, "load", lambda path: Colours())
    monkeypatch.chdir(tmp_path)
    config.load.cache_clear()  # it remembers by relative path
    yield tmp_path
    config.load.cache_clear()


def test_three_pictures_are_refused_before_anything_takes_long(project: Path) -> None:
    write_folder(project / "pictures", 3)
    prepare.main("image")
    clean.main("image")
    with pytest.raises(StageError, match=r"split\.image: 3 samples, of which 3 differ; at least \d+ are needed .* add"):
        split.main("image")


def test_fifty_pictures_of_every_kind_are_learnt_from_and_judged(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = add(write_folder(project / "pictures", 50 - len(KEPT)), KEPT)
    add(folder, {caption: (picture, suffix, {}) for caption, (picture, suffix, _) in REJECTED.items()})
    prepare.main("image")
    clean.main("image")
    split.main("image")
    told = capsys.readouterr().out
    assert "57 samples from folder, 0 rejected\n" in told
    assert "50 kept, 7 rejected: metadata.jsonl:51: picture claims 5000×5000 pixels" in told and "and 4 more" in told
    kept = {sample.text for sample in read(Path("data/image/clean") / SAMPLES)}
    assert kept >= KEPT.keys() and sum(caption.startswith("cubist style: ") for caption in kept) == 20
    reasons = {reject.sample.text: reject.reason for reject in read_rejects(Path("data/image/clean") / REJECTS)}
    assert reasons.keys() == REJECTED.keys()
    assert all(part in reasons[caption] for caption, (_, _, part) in REJECTED.items())

    training.main()
    metrics = json.loads(Path("metrics/image/train.json").read_text())
    trained = read(Path("data/image/split/train.parquet"))
    assert WORDS in {sample.text for sample in trained}
    assert (metrics["samples"], metrics["captions_cut"]) == (len(trained), 1)
    assert f"1 of {len(trained)} captions are cut after 14 word pieces" in capsys.readouterr().out

    for stage in export.STAGES:
        export.main(stage)
    evaluation.main()
    document = json.loads(Path("metrics/image/evaluate.json").read_text())
    assert document["pictures"] >= 2
    assert len(document["inception_weights"]) == 64
    assert {"kid", "fid", "alignment", "top1", "inception_fid", "inception_score"} <= document[
        "before"
    ].keys() & document["after"].keys()
    assert {path.name for path in Path("artifacts/image/sheets").iterdir()} == {
        "seen.png", "held_out.png", "nearest.png", "beside.png"
    }  # fmt: skip
