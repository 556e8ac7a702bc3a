"""The model that `base.text.model` names becomes the line's base, or is refused and the base stays as it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from components import config
from components.artifact import MANIFEST, read_manifest, seal
from components.config.document import read_yaml, write_yaml
from components.models import base_text, servable
from components.models.brought import opened
from components.paths import TEXT_BASE
from components.stage import StageError
from tests.components.models.test_brought import with_keys
from tests.conftest import ROOT
from tests.tiny_language import write_tiny_base


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model's folder, as it is brought."""
    folder = write_tiny_base(tmp_path / "model")
    (folder / MANIFEST).unlink()
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    return folder


@pytest.fixture
def bring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """The stage, run in a folder like a clone of this project whose text line starts from a given model."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")

    def run(named: str) -> None:
        document = read_yaml(ROOT / "params.yaml")
        document["base"]["text"]["model"] = named
        write_yaml(Path("params.yaml"), document)
        config.load.cache_clear()  # it remembers by relative path
        base_text.main()

    yield run
    config.load.cache_clear()


def test_a_folder_is_sealed_where_it_lies(bring: Callable[[str], None], model: Path) -> None:
    bring(str(model))
    folder, manifest = opened(TEXT_BASE)
    assert folder == model and [file.name for file in TEXT_BASE.iterdir()] == [MANIFEST]
    assert (manifest.line, manifest.kind) == ("text", "base")
    described = {name: manifest.parameters[name] for name in ("source", "family", "licence")}
    assert described == {"source": str(model), "family": "llama", "licence": "mit"}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= manifest.parameters["files"].keys()


def test_an_api_has_no_weights_to_train_from(monkeypatch: pytest.MonkeyPatch) -> None:
    params = config.load(ROOT / "params.yaml")
    base = params.base.text.model_copy(update={"endpoint": "https://api.example.com/v1"})
    monkeypatch.setattr(
        config, "load", lambda: params.model_copy(update={"base": params.base.model_copy(update={"text": base})})
    )
    with pytest.raises(StageError, match=r"api\.example\.com/v1 is an API, with no weights .*atelier pipeline run"):
        base_text.main()


def lose_the_licence(model: Path) -> None:
    (model / "README.md").unlink()


def become(family: str, **shape: int) -> Callable[[Path], None]:
    """The folder's weights and configuration replaced by those of a tiny model of this family."""

    def change(model: Path) -> None:
        sizes = {"vocab_size": 259, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
        heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "eos_token_id": 2}
        made = AutoConfig.for_model(family, **(sizes | heads | shape))
        AutoModelForCausalLM.from_config(made).save_pretrained(model)

    return change


def end_answers_with_nothing_that_is_written(model: Path) -> None:
    """The template closes them with <|im_end|>, which is token 2."""
    ends: dict[str, dict[str, object]] = {
        "config.json": {"eos_token_id": 0},
        "generation_config.json": {"eos_token_id": 0},
        "tokenizer_config.json": {"eos_token": "<|endoftext|>"},
    }
    for name, changes in ends.items():
        document = json.loads((model / name).read_bytes())
        (model / name).write_text(json.dumps(document | changes))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lose_the_licence, "names no licence"),
        (end_answers_with_nothing_that_is_written, "nothing would end what it writes"),
        (with_keys("config.json", num_attention_heads="two"), "transformers makes no model of its config.json"),
        (become("gemma3_text"), "OpenVINO GenAI, which serves, does not run it: its export takes transformers up to"),
        (become("mixtral", num_local_experts=2), "MixtralExperts holds all experts in one block of weights"),
    ],
)
def test_a_model_that_cannot_be_used_leaves_the_base_as_it_was(
    bring: Callable[[str], None], model: Path, spoil: Callable[[Path], None], words: str
) -> None:
    previous = seal(TEXT_BASE, line="text", kind="base", parents={}, parameters={"source": "before"}, metrics={})
    spoil(model)
    with pytest.raises(StageError, match=words):
        bring(str(model))
    assert read_manifest(TEXT_BASE) == previous


def test_a_model_larger_than_memory_is_refused_with_the_arithmetic(
    bring: Callable[[str], None], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servable, "host_memory", lambda: (1000, 2000))
    with pytest.raises(StageError, match=r"it has 0 M parameters, of 4 bytes each .* 0.00 GB of memory: take"):
        bring(str(model))
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda *_, **__: pytest.fail("it was read"))
    monkeypatch.setattr(base_text, "SOURCE", ROOT / base_text.SOURCE)
    with pytest.raises(StageError, match=r"it has 135 M parameters, of 6 bytes each while it is dequantised: 0.81 GB"):
        bring("smollm2")


def test_a_gguf_file_that_is_missing_or_another_kind_of_file_is_named(
    bring: Callable[[str], None], tmp_path: Path
) -> None:
    with pytest.raises(StageError, match=r"mine\.gguf: missing"):
        bring(str(tmp_path / "mine.gguf"))
    (tmp_path / "mine.gguf").write_bytes(b"<!doctype html>" * 9)
    with pytest.raises(StageError, match=r"mine\.gguf: not a readable GGUF file"):
        bring(str(tmp_path / "mine.gguf"))
