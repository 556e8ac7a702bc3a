"""A brought pipeline is evaluated by its held-out loss, and by an encoder where the user names one."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.config import Params, load
from components.data import sample
from components.data.sample import Sample
from components.evaluation import pipeline
from components.stage import StageError
from tests.conftest import ROOT, TinyPipeline
from tests.tiny_clip import write_tiny_clip


def drawing(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((64, 64)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_pipeline: TinyPipeline) -> Path:
    monkeypatch.chdir(tmp_path)
    for side, numbers in {"train": range(6), "test": range(6, 10)}.items():
        rows = [Sample(f"{side}-{n}", f"thing {n}", image=drawing(n)) for n in numbers]
        sample.write(tmp_path / f"data/image/split/{side}.parquet", rows)
    for name in ("export", "base"):
        shutil.copytree(tiny_pipeline.export, tmp_path / "artifacts/image" / name)
    (tmp_path / "metrics/image").mkdir(parents=True)
    (tmp_path / "metrics/image/train.json").write_text('{"validation_loss_before": 1.5, "validation_loss": 1.2}')
    return tmp_path


def params(encoder: Path | None = None, sheet: int = 32) -> Params:
    given = load(ROOT / "params.yaml")
    image = given.evaluate.image.model_copy(update={"samples": 4, "encoder": encoder, "sheet": sheet})
    evaluate = given.evaluate.model_copy(update={"image": image})
    serving = given.serving.model_copy(update={"image_steps": 2})
    return given.model_copy(update={"evaluate": evaluate, "serving": serving})


def test_without_an_encoder_it_says_what_was_not_measured(project: Path) -> None:
    pipeline.evaluate(params())
    document = json.loads((project / "metrics/image/evaluate.json").read_bytes())
    assert document["after"]["loss"] == 1.2 and document["before"]["loss"] == 1.5
    assert "name the folder of a CLIP or SigLIP model" in document["not_measured"][0]
    assert document["after"]["nearest_training_rmse"] > 0 and "alignment" not in document["after"]
    sheets = {path.name for path in (project / "artifacts/image/sheets").iterdir()}
    assert sheets == {"seen.png", "held_out.png", "nearest.png", "before.png"}


def test_an_encoder_gives_alignment_and_kid_beside_what_nobody_painted(project: Path) -> None:
    pipeline.evaluate(params(write_tiny_clip(project / "clip")))
    document = json.loads((project / "metrics/image/evaluate.json").read_bytes())
    assert document["features"] == "clip, clip" and "not_measured" not in document
    for row in ("before", "after", "nearest_training_picture"):
        assert -1 <= document[row]["alignment"] <= 1 and document[row]["kid_standard_error"] >= 0
    assert document["before"]["alignment"] == document["after"]["alignment"]  # one export stands for both
    assert document["shuffled_real_pictures"]["alignment"] != document["real_pictures"]["alignment"]


def test_without_anything_that_measures_it_paints_what_is_shown_and_says_how_long_that_takes(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline.evaluate(params(sheet=3))
    assert json.loads((project / "metrics/image/evaluate.json").read_bytes())["pictures"] == 3
    said = capsys.readouterr().out
    assert "artifacts/image/base: a picture of 2 steps took" in said and "; 3 will take about" in said
    assert "; 6 will take about" in said  # after training, of as many seen captions too
    with Image.open(project / "artifacts/image/sheets/held_out.png") as page:
        assert page.width == 8 * 256


def test_real_pictures_are_cropped_to_their_middle() -> None:
    wide = Image.new("RGB", (96, 32), "red")
    wide.paste("blue", (32, 0, 64, 32))
    buffer = io.BytesIO()
    wide.save(buffer, "PNG")
    (picture_CHW,) = pipeline.squares([Sample("a", "a", image=buffer.getvalue())], 32)
    assert (picture_CHW[:, 16, 16]).tolist() == [0, 0, 255] and picture_CHW[0].float().mean() < 5


def test_losses_that_training_did_not_write_are_asked_for(project: Path) -> None:
    (project / "metrics/image/train.json").write_text("{}")
    with pytest.raises(StageError, match="run train_image again"):
        pipeline.evaluate(params())
