"""A model's card holds what its files say, and what its stage would refuse, without reading its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from components.models import brought, described, headers
from components.models.brought import INDEX, examine
from components.models.described import card_of
from components.stage import StageError
from tests.components.models.test_brought import CARD, COMMIT, SHARDS, split
from tests.tiny_language import write_tiny_base
from tests.tiny_pipelines import write_tiny_sdxl


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = write_tiny_base(tmp_path / "model")
    (folder / "manifest.json").unlink()
    (folder / "README.md").write_text(CARD)
    return folder


def test_a_folder_is_described_and_nothing_is_missing(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brought, "file_digest", None)  # digests of 20 GB take minutes
    found = card_of(str(model))
    assert found.missing == []
    assert found.facts["family"] == "llama"
    assert found.facts["licence"].startswith("apache-2.0: known")
    assert found.facts["context"] == "512 tokens"
    assert found.facts["end tokens"].startswith("'<|im_end|>'")
    assert "takes a system message" in found.facts["template"]
    monkeypatch.undo()
    assert found.shape and found.shape.parameters == examine(model, None).parameters


def test_shards_are_read_by_their_index(model: Path) -> None:
    whole = card_of(str(model)).shape
    split(model)
    assert card_of(str(model)).shape == whole


@pytest.mark.parametrize(
    ("file", "change"), [("chat_template.jinja", None), ("README.md", "# none\n"), (SHARDS[1], None), (INDEX, "{")]
)
def test_what_is_missing_is_said_in_the_words_of_the_refusal(model: Path, file: str, change: str | None) -> None:
    if file not in ("chat_template.jinja", "README.md"):
        split(model)
    (model / file).unlink() if change is None else (model / file).write_text(change)
    with pytest.raises(StageError) as refused:
        examine(model, None)
    try:
        (missing,) = card_of(str(model)).missing
    except StageError as error:  # a broken index leaves nothing to describe
        missing = str(error)
    assert missing.removeprefix("base.text.model: ") in str(refused.value)


def test_a_template_that_takes_no_system_message_is_described(model: Path) -> None:
    template = (model / "chat_template.jinja").read_text()
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    (model / "chat_template.jinja").write_text(refusing + template)
    assert "takes no system message: leave train.text.system_prompt empty" in card_of(str(model)).facts["template"]


def test_a_pointer_in_place_of_weights_is_refused(model: Path) -> None:
    """Its first eight bytes would be a header of 5 EB."""
    (model / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(StageError, match=r"model.safetensors is no safetensors file: bring it again"):
        headers.of_folder(model).headers("model.safetensors")


@pytest.mark.parametrize("asked", ["owner/name", f"owner/name@{COMMIT}"])
def test_of_a_repository_come_the_small_files_and_the_headers(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    """The hub is a stand-in of three methods."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # put back afterwards
    place = Path(f".atelier/models/owner--name@{COMMIT}")
    tensors = headers.of_folder(model).headers("model.safetensors")

    class Hub:
        def model_info(self, name: str, revision: str | None) -> Any:
            return type("Info", (), {"sha": COMMIT, "siblings": [type("File", (), {"rfilename": "model.safetensors"})]})

        def parse_safetensors_file_metadata(self, name: str, path: str, revision: str) -> Any:
            assert (name, path, revision) == ("owner/name", "model.safetensors", COMMIT)
            return type("File", (), {"tensors": {n: type("T", (), h._asdict()) for n, h in tensors.items()}})

    def download(
        name: str, revision: str, local_dir: Path, allow_patterns: list[str], ignore_patterns: list[str]
    ) -> None:
        assert local_dir == place and not any("safetensors" in pattern for pattern in allow_patterns)
        assert "*.fp16.*" in ignore_patterns  # no base's digests know of such an index
        place.mkdir(parents=True)
        for file in model.iterdir():
            if file.suffix != ".safetensors":
                (place / file.name).write_bytes(file.read_bytes())

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    found = card_of(asked)
    assert found.shape == card_of(str(model)).shape
    said = f"owner/name may be another model tomorrow; write what it is today: owner/name@{COMMIT}"
    assert found.missing == ([] if "@" in asked else [said])


def test_a_pipeline_is_described_by_its_parts(tmp_path: Path) -> None:
    found = card_of(str(write_tiny_sdxl(tmp_path / "sdxl", prediction="v_prediction")))
    assert found.line == "image" and found.missing == []
    assert found.facts["family"] == "StableDiffusionXLPipeline (sdxl)"
    assert "unet" in found.facts["parameters"] and "UNet2DConditionModel" in found.facts["parameters"]
    assert found.facts["native size"] == "64 × 64 pixels"
    assert found.facts["schedule"].endswith("predicts v_prediction")


def test_a_pipeline_of_no_family_is_described_and_refused(tmp_path: Path) -> None:
    folder = write_tiny_sdxl(tmp_path / "sdxl")
    index = json.loads((folder / described.PIPELINE).read_bytes())
    (folder / described.PIPELINE).write_text(json.dumps(index | {"_class_name": "SanaPipeline"}))
    found = card_of(str(folder))
    assert found.missing[0].startswith("a SanaPipeline cannot be trained here; these can: StableDiffusionXL")
    assert "text_encoder_2" in found.facts["parameters"]


def test_the_shipped_image_model_is_described() -> None:
    assert card_of("sticker").facts["native size"] == "64 × 64 pixels"


def test_what_names_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="there is no folder"):
        card_of(str(tmp_path / "none"))
