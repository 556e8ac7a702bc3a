"""An adapter for a segment: it writes what the segment likes, says what it was made of, and is made once."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from components.artifact import seal, verify
from components.models.language import load_base
from components.stage import StageError
from components.training import adapter
from components.training.lengths import Fit
from components.training.text import save
from tests.tiny_adapter import LEARNED, SEGMENT, TRAINING
from tests.tiny_language import tiny_chat


def test_held_out_users_of_the_segment_like_more_what_it_writes(tiny_adapter: Path) -> None:
    metrics = verify(tiny_adapter).metrics
    assert metrics["checks"] == 6
    assert metrics["validation_loss"] < metrics["validation_loss_without"] - 0.3


def test_it_is_named_by_its_digest_and_names_what_it_was_made_of(tiny_adapter: Path) -> None:
    manifest, project = verify(tiny_adapter), tiny_adapter.parents[3]
    assert tiny_adapter.name == manifest.digest and manifest.parameters["segment"] == SEGMENT
    assert sorted(manifest.files) == ["adapter_config.json", "adapter_model.safetensors"]
    made_of = {
        "package": project / "artifacts/text/package",
        "checkpoint": project / "artifacts/text/checkpoint",
        "data": project / "data/text/split",
        "feedback": project / LEARNED,
    }
    assert manifest.parents == {role: verify(folder).digest for role, folder in made_of.items()}
    config = json.loads((tiny_adapter / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "artifacts/text/checkpoint"  # no folder of this machine
    assert not (project / adapter.STATE).exists()  # neither the merged base nor a run's state is left


def test_it_is_known_by_what_it_was_made_of(tiny_adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_adapter.parents[3])
    assert adapter.find(SEGMENT, LEARNED, TRAINING) == verify(tiny_adapter)
    assert adapter.find({"plan": "free"}, LEARNED, TRAINING) is None
    assert adapter.find(SEGMENT, LEARNED, TRAINING.model_copy(update={"seed": 9})) is None


def test_a_run_does_not_go_on_from_one_that_less_memory_cut_to_other_samples(
    tiny_adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_adapter.parents[3])
    samples, keys = adapter._samples, set[str]()

    def stop(*_: object, key: str, **__: object) -> None:
        keys.add(key)
        raise StageError("stopped")

    monkeypatch.setattr(adapter.text, "train", stop)
    for length in (100, 200):

        def fit(*of: Any, length: int = length) -> Fit:
            made = samples(*of)
            return replace(made, metrics=made.metrics | {"max_length": length})

        monkeypatch.setattr(adapter, "_samples", fit)
        with pytest.raises(StageError, match="stopped"):
            adapter.make(SEGMENT, LEARNED, TRAINING)
    shutil.rmtree(adapter.STATE)
    assert len(keys) == 2


def test_3_what_was_run_is_sealed(tiny_adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process on one device, whatever the text line is trained on, and in how many steps it was."""
    manifest = verify(tiny_adapter)
    assert manifest.parameters["max_steps"] == manifest.metrics["steps"] > TRAINING.max_steps
    assert manifest.metrics["steps"] - manifest.metrics["steps_for_learned"] == TRAINING.max_steps
    monkeypatch.chdir(tiny_adapter.parents[3])
    spread = TRAINING.model_copy(update={"strategy": "deepspeed_stage_3", "devices": 2})
    assert adapter.find(SEGMENT, LEARNED, spread) == manifest
    assert (manifest.parameters["strategy"], manifest.parameters["devices"]) == ("auto", 1)


def test_a_checkpoint_that_the_package_was_not_made_from_is_refused(
    tiny_adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = shutil.copytree(tiny_adapter.parents[3], tmp_path / "project")
    shutil.rmtree(project / "artifacts/text/checkpoint")
    shutil.copytree(tiny_adapter, project / "artifacts/text/checkpoint")
    monkeypatch.chdir(project)
    with pytest.raises(StageError, match="is not what artifacts/text/package was made from"):
        adapter.make(SEGMENT, LEARNED, TRAINING)


def test_an_adapter_goes_on_top_of_a_champion_of_which_every_weight_was_trained(
    tiny_adapter: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is plain LoRA, which is what the engine adds, whatever the settings of the champion's training."""
    project = shutil.copytree(tiny_adapter.parents[3], tmp_path / "project")
    checkpoint, package = project / "artifacts/text/checkpoint", project / "artifacts/text/package"
    shutil.rmtree(checkpoint)
    save(load_base(tiny_base, torch.float32), checkpoint)
    tiny_chat(tiny_base).format.write(checkpoint)
    made = seal(checkpoint, line="text", kind="checkpoint", parents={}, parameters={}, metrics={})
    seal(package, line="text", kind="package", parents={"checkpoint": made.digest}, parameters={}, metrics={})
    monkeypatch.chdir(project)
    full = TRAINING.model_copy(update={"adapter": "full", "max_steps": 2})
    manifest = adapter.make(SEGMENT, LEARNED, full)
    assert manifest.parameters["adapter"] == "lora" and "adapter_model.safetensors" in manifest.files
    assert adapter.find(SEGMENT, LEARNED, full) == manifest
