"""What a pipeline's folder says of itself is enough to train it, or it is refused by name before anything is read."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from components.artifact import MANIFEST, ArtifactError, read_manifest
from components.models import base_image
from components.models.brought import Source
from components.models.brought_pipeline import digests, examine, opened
from components.paths import IMAGE_BASE, IMAGE_SOURCE
from components.stage import StageError
from tests.components.training.test_pipeline import configure
from tests.conftest import ROOT
from tests.tiny_pipelines import write_tiny_sd3, write_tiny_sdxl

Spoil = Callable[[Path], None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_sd3(tmp_path_factory.mktemp("brought") / "sd3")


@pytest.fixture
def pipeline(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "sd3"))


def with_index(**changes: Any) -> Spoil:
    return with_keys("model_index.json", **changes)


def with_keys(name: str, **changes: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        document = json.loads((folder / name).read_text()) | changes
        (folder / name).write_text(json.dumps(document))

    return spoil


def without(name: str) -> Spoil:
    return lambda folder: shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()


def cut_off(folder: Path) -> None:
    path = folder / "transformer/diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


def pickle(folder: Path) -> None:
    weights = folder / "vae/diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))


def fp16(folder: Path) -> None:
    weights = folder / "vae/diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".fp16.safetensors"))


def promise_shards(folder: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "text_encoder_3/model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "text_encoder_3/model.safetensors").unlink()


def bring_code(folder: Path) -> None:
    (folder / "transformer/my_transformer.py").write_text("print('hello')")


def one_file(folder: Path) -> None:
    (folder / "model_index.json").unlink()
    shutil.copy(folder / "vae/diffusion_pytorch_model.safetensors", folder / "sd3_medium.safetensors")


def lone_adapter(folder: Path) -> None:
    (folder / "model_index.json").unlink()
    save_file({"transformer.a.lora_A.weight": torch.zeros(2, 2)}, folder / "mine.safetensors")


FAULTS: dict[str, tuple[Spoil, str]] = {
    "no index": (without("model_index.json"), "has no model_index.json: it is no pipeline's folder"),
    "one file": (one_file, "sd3_medium.safetensors alone is none: save it as a folder"),
    "an adapter": (lone_adapter, "mine.safetensors alone is none: it is an adapter: fuse it"),
    "no VAE": (with_index(vae=[None, None]), "it has no vae"),
    "no tokenizer": (with_index(tokenizer_2=[None, None]), "it has no tokenizer_2"),
    "no folder": (without("vae"), "the folder of its vae is missing"),
    "no weights": (without("vae/diffusion_pytorch_model.safetensors"), "has 0 of 1 files of weights"),
    "pickle": (pickle, "diffusion_pytorch_model.bin is a pickle, which can run code"),
    "cut off": (cut_off, "bytes of"),
    "shards": (promise_shards, "has 0 of 2 files of weights"),
    "own code": (bring_code, "its transformer (SD3Transformer2DModel) brings code of its own"),
    "own class": (with_index(transformer=["my_module", "Mine"]), "its transformer (Mine) brings code of its own"),
    "own pipeline": (with_index(_class_name=["pipeline", "Mine"]), "the pipeline Mine brings code of its own"),
    "unknown": (
        with_index(_class_name="KandinskyPipeline"),
        "a KandinskyPipeline cannot be trained here; these can: StableDiffusionXLPipeline, StableDiffusion3Pipeline",
    ),
    "tried": (with_index(_class_name="PixArtSigmaPipeline"), "docs/models.md says how far others come"),
    "channels": (
        with_keys("transformer/config.json", in_channels=16),
        "its VAE makes 8 latent channels and its transformer reads 16",
    ),
    "sampler": (
        with_index(scheduler=["diffusers", "DPMSolverMultistepScheduler"]),
        "diffusers does with DPMSolverMultistepScheduler: name FlowMatchEulerDiscreteScheduler in model_index.json",
    ),
    "noise": (
        with_keys("scheduler/scheduler_config.json", stochastic_sampling=True),
        "its scheduler draws noise between steps (stochastic_sampling)",
    ),
    "variant": (fp16, "diffusion_pytorch_model.fp16.safetensors is the variant fp16, which is not read"),
    "no licence": (without("README.md"), "names no licence: write under base.image.licence which it is"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_folder_that_is_no_use_is_refused_by_what_is_wrong(pipeline: Path, fault: str) -> None:
    spoil, words = FAULTS[fault]
    spoil(pipeline)
    with pytest.raises(StageError, match=re.escape(words)) as refused:
        examine(pipeline, None)
    assert str(refused.value).startswith("base.image.model: ")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"beta_end": None}, "scheduler_config.json names no beta_end"),
        ({"prediction_type": "flow_prediction"}, "prediction_type is 'flow_prediction'; these are known: epsilon"),
    ],
)
def test_a_noise_schedule_that_nobody_knows_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    base = write_tiny_sdxl(tmp_path / "sdxl")
    path = base / "scheduler/scheduler_config.json"
    given = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in given.items() if value is not None}))
    with pytest.raises(StageError, match=re.escape(words)):
        examine(base, None)


def test_a_folder_is_described_by_its_own_files(pipeline: Path) -> None:
    facts = examine(pipeline, None)
    assert (facts.family, facts.licence, facts.size) == ("sd3", "apache-2.0", 64)
    assert {"model_index.json", "vae/config.json", "tokenizer_3/tokenizer.json"} <= facts.files.keys()
    assert 10_000 < facts.parameters < 200_000
    assert examine(pipeline, "our-own").licence == "our-own"


def test_what_nothing_will_judge_is_said_before_training(
    project: Path, pipeline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(pipeline)
    base_image.main()
    assert "a later release cannot be compared with the champion" in capsys.readouterr().out


def test_sd3_may_come_without_its_largest_encoder(pipeline: Path) -> None:
    with_index(text_encoder_3=[None, None], tokenizer_3=[None, None])(pipeline)
    assert examine(pipeline, None).family == "sd3"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def test_a_folder_is_sealed_where_it_lies_and_a_changed_one_is_refused(project: Path, pipeline: Path) -> None:
    configure(pipeline)
    base_image.main()
    folder, manifest = opened(IMAGE_SOURCE)
    assert folder == pipeline and [file.name for file in IMAGE_SOURCE.iterdir()] == [MANIFEST]
    assert (manifest.line, manifest.kind, manifest.parameters["family"]) == ("image", "base", "sd3")
    assert manifest.parameters["files"] == digests(pipeline)
    for other in ("vae/model.fp16.safetensors.index.json", "vae/README.md"):  # as `atelier model show` might bring
        (pipeline / other).write_text("{}")
    assert opened(IMAGE_SOURCE)[0] == pipeline
    with_keys("scheduler/scheduler_config.json", shift=1.0)(pipeline)
    with pytest.raises(ArtifactError, match=r"scheduler_config.json changed since .*dvc repro -f base_image"):
        opened(IMAGE_SOURCE)
    shutil.rmtree(pipeline)
    with pytest.raises(ArtifactError, match="changed since"):
        opened(IMAGE_SOURCE)


def test_the_built_in_one_is_the_shipped_base(project: Path) -> None:
    shutil.copytree(ROOT / IMAGE_BASE, project / IMAGE_BASE)
    configure("sticker")
    base_image.main()
    manifest = read_manifest(IMAGE_SOURCE)
    assert manifest.parents == {"base": read_manifest(ROOT / IMAGE_BASE).digest}
    assert manifest.parameters["source"] == "sticker"


@pytest.mark.parametrize(
    ("named", "kind"),
    [("sticker", "built-in"), ("./mine", "folder"), ("owner/name@" + "a" * 40, "hub")],
)
def test_a_pipeline_is_named_as_a_folder_or_a_repository(named: str, kind: str) -> None:
    assert Source.of(named, "image").kind == kind


@pytest.mark.parametrize("named", ["smollm2", "a b", "model.gguf"])
def test_what_names_no_pipeline_is_refused(named: str) -> None:
    with pytest.raises(StageError, match=r"base\.image\.model: .*neither sticker nor a repository"):
        Source.of(named, "image")


def test_a_pipeline_larger_than_the_machine_is_refused_with_the_arithmetic(
    pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    configure(pipeline)
    monkeypatch.setattr(base_image, "host_memory", lambda: (10**6, 4 * 10**4))
    with pytest.raises(
        StageError, match=r"M parameters with 4 bytes each.* of the 0.00 GB of memory that this machine"
    ):
        base_image.main()
    assert not IMAGE_SOURCE.exists()
