"""Pictures as the network gets them and captions as far as they are read, by the code that trains."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from components.config import Params, load
from components.data import picture
from components.data.sample import Sample
from components.doctor import image
from components.doctor.drawn import draw
from components.doctor.judged import judge
from components.doctor.report import Report
from components.models.text_encoder import TextEncoder
from components.paths import ENCODER
from tests.conftest import ROOT
from tests.tiny_pipelines import write_tiny_sdxl

LONG = "a lantern that is described at such a length that no encoder of few tokens reads what comes at its very end"


def drawing(seed: int, size: tuple[int, int] = (120, 90)) -> Image.Image:
    drawn = np.random.default_rng(seed)
    made = Image.new("RGB", size, tuple(drawn.integers(0, 255, 3).tolist()))
    for _ in range(8):
        left, top = drawn.integers(0, 60, 2).tolist()
        ImageDraw.Draw(made).ellipse([left, top, left + 30, top + 25], fill=tuple(drawn.integers(0, 255, 3).tolist()))
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for n in range(30):
        drawing(n, (120, 90) if n % 2 else (90, 120)).save(pictures / f"{n:02}.png")
        (pictures / f"{n:02}.txt").write_text(LONG if n < 3 else f"a lantern and {n} cups")
    return pictures


def report_of(folder: Path, model: str = "sticker", **settings: Any) -> tuple[Report, Params]:
    params = load(ROOT / "params.yaml")
    source = params.prepare.image.model_copy(update={"source": "folder", "path": folder})
    base = params.base.image.model_copy(update={"model": model, "licence": "mit"})
    params = params.model_copy(update={
        "prepare": params.prepare.model_copy(update={"image": source}),
        "base": params.base.model_copy(update={"image": base}),
        "train": params.train.model_copy(update={"image": params.train.image.model_copy(update=settings)}),
    })  # fmt: skip
    drawn = draw("image", source, 100, seed=7)
    return image.examine(drawn, judge("image", drawn, params), params), params


def opened(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB")


def test_the_built_in_model_is_shown_as_it_sees_and_reads(folder: Path, assets: Path) -> None:
    report, params = report_of(folder)
    size = params.train.image.model.size
    first = next(own for own in report.pictures if own.place == "00.png")
    expected = picture.decode((folder / "00.png").read_bytes(), size)
    assert np.abs(np.asarray(opened(first.seen), int) - expected).mean() < 8  # of a lossy thumbnail
    assert f"90 × 120 → {size} × {size}, 25% of it white" in first.words
    encoder = TextEncoder(ENCODER, params.train.image.model.text_tokens)
    cut = [own for own in report.pictures if own.captions[0].cut]
    assert len(cut) == encoder.cut([LONG] * 3 + ["a lantern and 7 cups"]) == 3
    read = cut[0].captions[0]
    assert read.read + read.cut == LONG and encoder.cut([read.read]) == 0
    assert encoder.cut([read.read + read.cut[:2]]) == 1  # not a word piece more
    assert any(
        finding.count == 3 and "longer than the text encoder reads" in finding.words for finding in report.findings
    )


def test_a_pipeline_is_shown_in_its_buckets_with_its_mask(folder: Path, tmp_path: Path) -> None:
    base = write_tiny_sdxl(tmp_path / "base")
    mask = Image.new("L", (90, 120), 255)
    mask.paste(0, (0, 60, 90, 120))
    mask.save(folder / "00-mask.png")
    lines = [f'{{"file_name": "{n:02}.png", "text": "a cup {n}"' for n in range(30)]
    lines = [line + (', "mask_file_name": "00-mask.png"}' if n == 0 else "}") for n, line in enumerate(lines)]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    report, _ = report_of(folder, str(base), sizes=(64,))
    first = report.pictures[0]
    assert first.place == "00.png" and "red is not learnt" in first.words and "cropped" in first.words
    top, bottom = (
        np.asarray(opened(first.seen), float)[part].mean((0, 1)) for part in (slice(0, 20), slice(-20, None))
    )
    assert bottom[0] - bottom[1] > top[0] - top[1] + 40
    assert {caption.encoder for caption in first.captions} == {"tokenizer", "tokenizer_2"}
    assert list(report.wrong()) == []


def test_a_pipeline_that_is_not_here_is_no_fault_of_the_data(folder: Path) -> None:
    report, _ = report_of(folder, "nobody/nothing@main")
    assert [finding.severity for finding in report.findings if "on this machine yet" in finding.words] == ["note"]


def test_blank_blurred_and_tiny_pictures_are_told_from_drawings() -> None:
    def slugs(made: Image.Image) -> list[str]:
        return [slug for slug, *_ in image.of_picture(Sample("a", "x", picture.encode_png(made)), 64)]

    assert [slugs(drawing(n, (200, 200))) for n in range(20)] == [[]] * 20
    assert slugs(Image.new("RGB", (200, 200), (9, 90, 9))) == ["blank"]
    blurs = (drawing(1, (200, 200)).filter(ImageFilter.GaussianBlur(radius)) for radius in (2, 4, 9))
    assert [slugs(blurred) for blurred in blurs] == [["blurred"]] * 3
    assert slugs(drawing(1, (20, 30))) == ["tiny"]
