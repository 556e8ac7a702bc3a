"""Pipelines that somebody brings are trained by the stage's own command, in a folder like a clone of this project."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from components import config
from components.artifact import read_manifest, seal
from components.config.document import read_yaml, write_yaml
from components.data import sample
from components.data.sample import Sample
from components.models import base_image
from components.models.pipelines import FAMILIES, adapted, adapters, family_of
from components.paths import IMAGE_CHECKPOINT, IMAGE_METRICS, IMAGE_SPLIT
from components.stage import StageError
from components.training import image, pipeline
from tests.conftest import ROOT
from tests.tiny_pipelines import WRITERS

SETTINGS: dict[str, Any] = {
    "lora_rank": 2,
    "max_steps": 2,
    "batch_size": 2,
    "learning_rate": 0.01,
    "checkpoint_every": 1,
    "precision": "fp32",
    "ema_decay": 0.5,
}


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pipelines")
    return {name: write(folder / name) for name, write in WRITERS.items()}


def picture(width: int, height: int, colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A split of five pictures of two shapes, and two to check on."""
    root = tmp_path / "project"
    shapes = [(64, 64, "red"), (64, 64, "blue"), (96, 48, "green"), (100, 48, "grey"), (64, 62, "pink")]
    rows = [
        Sample(f"s{number}", f"a {colour} flat", image=picture(width, height, colour))
        for number, (width, height, colour) in enumerate(shapes)
    ]
    sample.write(root / IMAGE_SPLIT / "train.parquet", rows)
    sample.write(root / IMAGE_SPLIT / "validation.parquet", rows[:2])
    seal(root / IMAGE_SPLIT, line="image", kind="split", parents={}, parameters={}, metrics={})
    monkeypatch.chdir(root)
    yield root
    config.load.cache_clear()


def configure(base: Path | str, **changes: Any) -> None:
    """`params.yaml` as shipped, but for the base and these settings of the training."""
    document = read_yaml(ROOT / "params.yaml")
    document["base"]["image"]["model"] = str(base)
    document["train"]["image"] |= {**SETTINGS, **changes}
    write_yaml(Path("params.yaml"), document)
    config.load.cache_clear()  # it remembers by relative path


def run(base: Path | str, **changes: Any) -> dict[str, Any]:
    """Both stages, as `dvc repro` runs them; returns the metrics."""
    configure(base, **changes)
    base_image.main()
    image.main()
    metrics: dict[str, Any] = json.loads((IMAGE_METRICS / "train.json").read_text())
    return metrics


def paint(made: diffusers.DiffusionPipeline, seed: int = 3) -> np.ndarray[Any, Any]:
    family = FAMILIES[type(made).__name__]
    states, empty = family.encode(made, ["a red flat"]), family.unconditional(made)
    return family.paint(made, states, empty, size=64, steps=2, guidance=3.0, seeds=[seed]).numpy()


@pytest.mark.parametrize("name", ["sdxl", "sd3", "flux"])
def test_a_brought_pipeline_is_trained_and_its_adapter_paints_the_same_in_plain_diffusers(
    project: Path, bases: dict[str, Path], name: str
) -> None:
    metrics = run(bases[name])
    assert metrics["steps"] == 2 and metrics["samples"] == 5 and metrics["buckets"] == 2
    assert metrics["validation_loss"] != metrics["validation_loss_before"] != metrics["validation_loss_uncaptioned"]
    manifest = read_manifest(IMAGE_CHECKPOINT)
    assert manifest.parameters["base"] == {"source": str(bases[name]), "family": name, "licence": "apache-2.0"}
    assert adapters.WEIGHTS in manifest.files
    ours = paint(adapted(bases[name], IMAGE_CHECKPOINT))
    plain = diffusers.DiffusionPipeline.from_pretrained(bases[name], use_safetensors=True)
    untouched = paint(plain)
    plain.load_lora_weights(str(IMAGE_CHECKPOINT), weight_name=adapters.WEIGHTS)
    assert np.abs(ours - paint(plain)).max() < np.abs(ours - untouched).max() / 20


@pytest.mark.parametrize("name", ["sdxl", "sd3"])
def test_a_run_that_was_cut_off_goes_on_to_the_same_weights(
    project: Path, bases: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(bases[name], max_steps=3)
    whole = (IMAGE_CHECKPOINT / adapters.WEIGHTS).read_bytes()
    shutil.rmtree(IMAGE_CHECKPOINT)
    batch_of = pipeline.Encoded.batch

    def stops(self: Any, pictures: Any) -> Any:
        if len(pictures) > 1 and any(Path(pipeline.STATE).rglob("step-*.ckpt")):
            raise KeyboardInterrupt
        return batch_of(self, pictures)

    with monkeypatch.context() as patched, pytest.raises((KeyboardInterrupt, SystemExit, StageError)):
        patched.setattr(pipeline.Encoded, "batch", stops)
        image.main()
    assert not IMAGE_CHECKPOINT.exists() and list(Path(pipeline.STATE).rglob("step-*.ckpt"))
    image.main()
    assert (IMAGE_CHECKPOINT / adapters.WEIGHTS).read_bytes() == whole


def test_every_weight_is_trained_without_a_rank_and_loaded_again(project: Path, bases: dict[str, Path]) -> None:
    run(bases["sdxl"], lora_rank=None, gradient_checkpointing=True, min_snr=5.0, sizes=[64, 32])
    family = family_of(bases["sdxl"])
    trained, base = (
        family.network(made) for made in (adapted(bases["sdxl"], IMAGE_CHECKPOINT), family.read(bases["sdxl"]))
    )
    assert not torch.equal(trained.conv_in.weight, base.conv_in.weight)


def test_pictures_are_painted_while_it_trains_and_change_nothing_of_it(project: Path, bases: dict[str, Path]) -> None:
    run(bases["sdxl"])
    without = (IMAGE_CHECKPOINT / adapters.WEIGHTS).read_bytes()
    samples = {"every": 1, "prompts": ["a red flat", "a dog"], "steps": 2, "guidance": 3.0}
    run(bases["sdxl"], samples=samples)
    assert (IMAGE_CHECKPOINT / adapters.WEIGHTS).read_bytes() == without
    sheets = [Image.open(pipeline.SAMPLES / f"step-{step:06d}.png") for step in (1, 2)]
    assert {sheet.size for sheet in sheets} == {(128, 64)}
    assert np.abs(np.asarray(sheets[0], float) - np.asarray(sheets[1], float)).max() > 0


def test_what_null_leaves_open_is_decided_said_and_recorded(
    project: Path, bases: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run(bases["sdxl"], learning_rate=None)
    parameters = read_manifest(IMAGE_CHECKPOINT).parameters
    assert (parameters["learning_rate"], parameters["micro_batch"]) == (1e-4, 1)
    assert parameters["gradient_checkpointing"]
    said = capsys.readouterr().out
    assert "an adapter of rank 2 at a learning rate of 0.0001; each of 2 steps is 2 pictures, 1 at a time" in said
    assert "the pipeline's own defaults are 50 steps and a guidance of 5" in said
    run(bases["sdxl"], learning_rate=None, lora_rank=None, gradient_checkpointing=False)
    parameters = read_manifest(IMAGE_CHECKPOINT).parameters
    assert parameters["learning_rate"] == 1e-5 and not parameters["gradient_checkpointing"]


def test_a_step_in_parts_gives_the_weights_of_the_whole_step(project: Path, bases: dict[str, Path]) -> None:
    made = []
    for changes in ({"micro_batch": 4, "gradient_checkpointing": False}, {"micro_batch": 3}):
        run(bases["sdxl"], batch_size=4, learning_rate=1e-3, **changes)
        made.append(load_file(IMAGE_CHECKPOINT / adapters.WEIGHTS))
    whole, parts = made
    assert all(torch.allclose(whole[name], parts[name], atol=1e-5) for name in whole)


def test_captions_that_no_encoder_reads_and_enlarged_pictures_are_counted(
    project: Path, bases: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = sample.read(IMAGE_SPLIT / "train.parquet")
    sample.write(IMAGE_SPLIT / "train.parquet", [replace(rows[0], text="красное яблоко"), *rows[1:]])
    seal(IMAGE_SPLIT, line="image", kind="split", parents={}, parameters={}, metrics={})
    metrics = run(bases["sdxl"], sizes=[96])
    assert metrics["captions_unread"] == 1 and metrics["enlarged"] > 0
    said = capsys.readouterr().out
    assert "1 captions are mostly in letters that none of the pipeline's text encoders reads, such as 'красное" in said
    assert f"{metrics['enlarged']} of 5 pictures are smaller than they are trained at" in said


def mask(left: int) -> bytes:
    """Of 64 pixels a side, white from column `left` on."""
    found = Image.new("L", (64, 64))
    found.paste(255, (left, 0, 64, 64))
    buffer = io.BytesIO()
    found.save(buffer, format="PNG")
    return buffer.getvalue()


def rewrite(side: str, change: Callable[[Sample], Sample]) -> None:
    path = IMAGE_SPLIT / f"{side}.parquet"
    sample.write(path, [change(row) for row in sample.read(path)])
    seal(IMAGE_SPLIT, line="image", kind="split", parents={}, parameters={}, metrics={})


def test_what_a_mask_hides_is_not_learnt_and_a_white_one_changes_nothing(project: Path, bases: dict[str, Path]) -> None:
    made = []
    for left in (None, 0, 32):
        given = None if left is None else mask(left)
        rewrite("train", lambda row, given=given: replace(row, mask=given if row.id < "s2" else None))
        metrics = run(bases["sdxl"])
        assert metrics["masked"] == (0 if left is None else 2)
        made.append((metrics["train_loss"], (IMAGE_CHECKPOINT / adapters.WEIGHTS).read_bytes()))
    assert made[0] == made[1] != made[2]


def test_a_mask_that_is_cropped_away_leaves_its_picture_out_in_words(
    project: Path, bases: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    edge = Image.new("L", (70, 64))
    edge.paste(255, (0, 0, 1, 64))
    buffer = io.BytesIO()
    edge.save(buffer, format="PNG")
    hidden = Sample("s0", "a red flat", picture(70, 64, "red"), mask=buffer.getvalue(), meta={"file_name": "red.png"})
    rewrite("train", lambda row: hidden if row.id == "s0" else row)
    assert run(bases["sdxl"])["samples"] == 4
    said = capsys.readouterr().out
    assert "all that is white in their mask is cropped away in their bucket: red.png in 64×64" in said


def regularise(folder: Path, **others: bytes) -> None:
    folder.mkdir()
    rows = []
    for name, data in {"one": picture(64, 64, "brown"), "two": picture(96, 48, "orange"), **others}.items():
        (folder / f"{name}.png").write_bytes(data)
        rows.append({"file_name": f"{name}.png", "text": f"a {name}"})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_regularisation_pictures_have_their_share_and_weight_and_are_none_of_the_users_samples(
    project: Path, bases: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = sample.read(IMAGE_SPLIT / "train.parquet")
    sample.write(IMAGE_SPLIT / "test.parquet", [Sample("t", "a test", picture(64, 64, "black"))])
    alone = run(bases["sdxl"])
    regularise(project / "class", held_out=picture(64, 64, "black"), white=picture(64, 64, "white"), broken=b"no")
    wanted = {"path": str(project / "class"), "share": 0.5, "weight": 1.0}
    metrics = run(bases["sdxl"], max_steps=8, regularisation=wanted)
    said = capsys.readouterr().out
    assert "3 regularisation pictures are left out: metadata.jsonl:3: it is one of the held-out pictures" in said
    assert "white throughout" in said and "not a picture" in said
    assert (metrics["samples"], metrics["regularisation_pictures"]) == (len(rows), 2)
    assert metrics["regularisation_share"] == pytest.approx(0.5, abs=0.15)
    assert metrics["validation_loss_before"] == alone["validation_loss_before"]
    manifest = read_manifest(IMAGE_CHECKPOINT)
    assert len(manifest.parents["regularisation"]) == 64
    light = run(bases["sdxl"], max_steps=8, regularisation=wanted | {"weight": 0.1})
    assert light["train_loss"] < metrics["train_loss"] and light["validation_loss"] != metrics["validation_loss"]


def test_a_folder_without_regularisation_pictures_is_refused_by_the_name_of_its_setting(
    project: Path, bases: dict[str, Path]
) -> None:
    sample.write(IMAGE_SPLIT / "test.parquet", [])
    wanted = {"path": "nowhere", "share": 0.5, "weight": 1.0}
    with pytest.raises(StageError, match=r"train\.image\.regularisation\.path: nowhere is not a folder"):
        run(bases["sdxl"], regularisation=wanted)
    (project / "class").mkdir()
    (project / "class/metadata.jsonl").write_text('{"file_name": "a.png", "text": "a"}\n')
    with pytest.raises(StageError, match=r"holds no picture to learn from: metadata\.jsonl:1: .* does not exist"):
        run(bases["sdxl"], regularisation=wanted | {"path": str(project / "class")})


def test_sizes_that_no_picture_can_have_are_refused_by_name(project: Path, bases: dict[str, Path]) -> None:
    with pytest.raises(StageError, match=r"train\.image\.sizes: no size is a multiple of 16"):
        run(bases["sdxl"], sizes=[8])


def test_sd3_is_trained_without_its_largest_encoder(project: Path, bases: dict[str, Path]) -> None:
    base = shutil.copytree(bases["sd3"], project / "sd3")
    index = json.loads((base / "model_index.json").read_text()) | {"text_encoder_3": [None, None]}
    (base / "model_index.json").write_text(json.dumps(index))
    assert np.isfinite(run(base)["validation_loss"])


def test_bf16_trains(project: Path, bases: dict[str, Path]) -> None:
    metrics = run(bases["sd3"], precision="bf16")
    assert np.isfinite(metrics["validation_loss"])


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("sd3", {"min_snr": 5.0}, "StableDiffusion3Pipeline learns by flow matching"),
    ("sdxl", {"start_from_base": False, "lora_rank": None}, "set it to true"),
    ("sdxl", {"lora_rank": None, "lora_alpha": 4.0}, "set it to null"),
    ("sdxl", {"strategy": "deepspeed_stage_3"}, "set auto or ddp"),
]


@pytest.mark.parametrize(("name", "changes", "words"), REFUSED)
def test_a_setting_that_has_no_meaning_is_refused_before_anything_is_computed(
    project: Path, bases: dict[str, Path], name: str, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(StageError, match=words):
        run(bases[name], **changes)
    assert not Path(".atelier/cache").exists()


def test_a_setting_of_pipelines_is_refused_for_the_built_in_model(project: Path) -> None:
    regularisation = {"path": "class", "share": 0.5, "weight": 1.0}
    for changes in ({"sizes": [64]}, {"regularisation": regularisation}):
        configure("sticker", **changes)
        with pytest.raises(StageError, match=rf"train.image.{next(iter(changes))} is for pipelines"):
            image.main()
