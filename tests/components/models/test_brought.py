"""What a brought model's files must hold, what is said where they do not, and that a change of them is noticed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from components.artifact import ArtifactError, file_digest, seal
from components.models.brought import INDEX, WEIGHTS, Source, digests, download, examine, opened
from components.stage import StageError
from tests.tiny_language import write_tiny_base

CARD = "---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\n"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
Spoil = Callable[[Path], object]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as hubs have them: nothing in it is to blame."""
    folder = write_tiny_base(tmp_path_factory.mktemp("brought") / "model")
    (folder / "manifest.json").unlink()
    (folder / "README.md").write_text(CARD)
    return folder


@pytest.fixture
def model(whole: Path, tmp_path: Path) -> Path:
    """A copy of that folder, to change."""
    return shutil.copytree(whole, tmp_path / "model")


def without(*names: str) -> Spoil:
    return lambda folder: [(folder / name).unlink() for name in names]


def with_text(name: str, text: str) -> Spoil:
    return lambda folder: (folder / name).write_text(text)


def with_keys(*names: str, **changes: Any) -> Spoil:
    """The JSON files of these names with keys set."""

    def spoil(folder: Path) -> None:
        for name in names:
            document = json.loads((folder / name).read_bytes())
            (folder / name).write_text(json.dumps(document | changes))

    return spoil


def split(folder: Path) -> dict[str, str]:
    """Write the weights as two files with an index, as large models come; where each tensor lies."""
    tensors = load_file(folder / WEIGHTS)
    names = sorted(tensors)
    placed = {name: SHARDS[number * 2 // len(names)] for number, name in enumerate(names)}
    for shard in SHARDS:
        part = {name: tensors[name] for name in names if placed[name] == shard}
        save_file(part, folder / shard, metadata={"format": "pt"})
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    (folder / WEIGHTS).unlink()
    return placed


def lose_a_shard(folder: Path) -> None:
    split(folder)
    (folder / SHARDS[1]).unlink()


def misplace_a_tensor(folder: Path) -> None:
    placed = split(folder)
    placed["model.norm.weight"] = next(shard for shard in SHARDS if shard != placed["model.norm.weight"])
    (folder / INDEX).write_text(json.dumps({"weight_map": placed}))


def cut_off(folder: Path) -> None:
    weights = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(weights[:-100])


def pickle_weights(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")


FAULTS: dict[str, tuple[Spoil, str]] = {
    "no folder": (shutil.rmtree, "there is no folder"),
    "no configuration": (without("config.json"), "has no config.json: it is no model's folder"),
    "a configuration that is no JSON": (with_text("config.json", "{"), "config.json is not JSON"),
    "a configuration that is a list": (with_text("config.json", "[]"), "config.json holds no JSON object"),
    "code for the model": (with_keys("config.json", auto_map={"AutoModel": "my.Model"}), "it brings code of its own"),
    "code for the tokenizer": (
        with_keys("tokenizer_config.json", auto_map={"AutoTokenizer": ["my.Tokenizer", None]}),
        "it brings code of its own",
    ),
    "an unknown kind": (with_keys("config.json", model_type="mine"), "model_type 'mine' is none that transformers"),
    "an encoder and decoder": (with_keys("config.json", model_type="t5"), "model_type 't5' with architectures"),
    "no chat template": (without("chat_template.jinja"), "it has no chat template"),
    "a template with the day's date": (
        with_text("chat_template.jinja", "{{ strftime_now('%d %B %Y') }}"),
        "its chat template writes the day's date (strftime_now)",
    ),
    "no tokenizer": (without("tokenizer.json"), "it has no tokenizer"),
    "no end token": (
        with_keys("config.json", "generation_config.json", "tokenizer_config.json", eos_token_id=None, eos_token=None),
        "it names no end token (eos_token)",
    ),
    "no model card": (
        without("README.md"),
        "its README.md names no licence: write under base.text.licence",
    ),
    "no licence": (
        with_text("README.md", "# A model\n\nlicense: mit\n"),
        "its README.md names no licence",
    ),
    "another licence": (
        with_text("README.md", CARD.replace("apache-2.0", "other")),
        "its licence, other, is not known here: read it, and write base.text.licence: other if it fits",
    ),
    "pickled weights": (
        pickle_weights,
        "0 of 1 files of weights, model.safetensors is missing; pytorch_model.bin is a pickle, which can run code",
    ),
    "a lost shard": (lose_a_shard, f"1 of 2 files of weights, {SHARDS[1]} is missing"),
    "a misplaced tensor": (
        misplace_a_tensor,
        f"{INDEX} says that model.norm.weight is in {SHARDS[0]}, where it is not",
    ),
    "a file that was cut off": (cut_off, "bring it again"),
    "a file of another format": (with_text(WEIGHTS, "<!doctype html>" * 9), "is no safetensors file: bring it again"),
    "an empty file": (with_text(WEIGHTS, ""), "is no safetensors file: bring it again"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_folder_that_is_no_use_is_refused_by_what_is_wrong(model: Path, fault: str) -> None:
    spoil, words = FAULTS[fault]
    spoil(model)
    with pytest.raises(StageError, match=re.escape(words)) as refused:
        examine(model, None)
    assert str(refused.value).startswith("base.text.model: ") and str(model) in str(refused.value)


def test_a_file_that_was_cut_off_is_named_with_its_size_and_that_it_should_have(model: Path) -> None:
    size = (model / WEIGHTS).stat().st_size
    cut_off(model)
    with pytest.raises(StageError, match=rf"{WEIGHTS} has {size - 100:,} bytes of {size:,}"):
        examine(model, None)


def test_all_that_is_wrong_is_said_at_once(model: Path) -> None:
    without("chat_template.jinja", "README.md")(model)
    with_keys("config.json", model_type="mine")(model)
    with pytest.raises(StageError, match=r"model_type 'mine'.*no chat template.*names no licence"):
        examine(model, None)


def test_a_folder_is_described_by_its_own_files(model: Path) -> None:
    facts = examine(model, None)
    parameters = sum(tensor.numel() for tensor in load_file(model / WEIGHTS).values())
    assert (facts.family, facts.licence, facts.context, facts.parameters) == ("llama", "apache-2.0", 512, parameters)
    needed = {"config.json", WEIGHTS, "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "README.md"}
    assert facts.files.keys() >= needed
    assert facts.files == {name: file_digest(model / name) for name in facts.files}


def test_weights_in_several_files_are_the_same_model(model: Path) -> None:
    facts = examine(model, None)
    split(model)
    sharded = examine(model, None)
    assert replace(sharded, files=facts.files) == facts
    assert sharded.files.keys() - facts.files.keys() == {*SHARDS, INDEX}


def test_a_template_may_stand_in_the_tokenizers_configuration(model: Path) -> None:
    template = (model / "chat_template.jinja").read_text()
    (model / "chat_template.jinja").unlink()
    for written in (template, [{"name": "tools", "template": ""}, {"name": "default", "template": template}]):
        with_keys("tokenizer_config.json", chat_template=written)(model)
        assert examine(model, None).family == "llama"


@pytest.mark.parametrize("card", ["# A model\n", CARD, CARD.replace("apache-2.0", "other")])
def test_the_licence_is_what_the_user_says_that_it_is(model: Path, card: str) -> None:
    (model / "README.md").write_text(card)
    assert examine(model, "our-own").licence == "our-own"


@pytest.mark.parametrize(
    ("named", "source"),
    [
        ("smollm2", Source("built-in", "smollm2")),
        ("./mine", Source("folder", "mine")),
        ("/models/mine", Source("folder", "/models/mine")),
        ("~/mine", Source("folder", str(Path.home() / "mine"))),
        ("kept/mine", Source("folder", "kept/mine")),  # it is there
        (f"owner/name@{COMMIT}", Source("hub", "owner/name", COMMIT)),
        ("owner/name-1.5_b@refs/pr/1", Source("hub", "owner/name-1.5_b", "refs/pr/1")),
        ("owner/name", Source("hub", "owner/name")),
        ("/models/mine.gguf", Source("gguf", "/models/mine.gguf")),
        ("~/mine.gguf", Source("gguf", str(Path.home() / "mine.gguf"))),
    ],
)
def test_a_model_is_named_as_a_folder_a_file_or_a_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, source: Source
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("kept/mine").mkdir(parents=True)
    assert Source.of(named) == source


@pytest.mark.parametrize("named", ["mine", "a model", "a/b/c", "owner/name@", "https://hub.example/owner/name"])
def test_what_names_no_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StageError, match=re.escape(f"base.text.model: {named!r} is no folder")):
        Source.of(named)


def test_a_folder_is_used_where_it_lies_and_a_repository_has_a_place_for_each_commit() -> None:
    assert Source.of("/models/mine").folder == Path("/models/mine")
    places = {Source.of(f"owner/name@{commit}").folder for commit in (COMMIT, COMMIT[::-1])}
    assert places == {Path(f".atelier/models/owner--name@{commit}") for commit in (COMMIT, COMMIT[::-1])}


def test_what_was_downloaded_is_not_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = Source.of(f"owner/name@{COMMIT}")
    source.folder.mkdir(parents=True)
    (source.folder / ".complete").touch()
    monkeypatch.setattr("huggingface_hub.HfApi", None)
    assert download(source) == source


@pytest.mark.parametrize("named", ["owner/name", "owner/name@main"])
def test_a_name_that_may_mean_another_model_tomorrow_is_refused_with_todays_commit(
    monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    class Hub:
        def model_info(self, name: str, revision: str | None) -> Any:
            return type("Info", (), {"sha": COMMIT})

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # put back afterwards
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    with pytest.raises(StageError, match=rf"{named} may be another model tomorrow.*: owner/name@{COMMIT}"):
        download(Source.of(named))


@pytest.fixture
def base(model: Path, tmp_path: Path) -> Path:
    """A sealed base that refers to the folder, as the stage leaves it."""
    parameters = {"source": str(model), "files": digests(model)}
    seal(tmp_path / "base", line="text", kind="base", parents={}, parameters=parameters, metrics={})
    return tmp_path / "base"


def test_a_base_leads_to_the_folder_that_it_refers_to(base: Path, model: Path) -> None:
    folder, manifest = opened(base)
    assert folder == model and manifest.parameters["source"] == str(model)
    (model / "notes.pdf").write_bytes(b"nothing that a model is read from")
    assert opened(base) == (folder, manifest)


def test_a_base_of_its_own_files_is_its_own_folder(tiny_base: Path) -> None:
    assert opened(tiny_base)[0] == tiny_base


CHANGES: dict[str, tuple[Spoil, str]] = {
    "changed": (with_keys("config.json", rope_theta=5), "config.json changed since"),
    "lost": (without("tokenizer.json"), "tokenizer.json changed since"),
    "added": (with_text("added_tokens.json", "{}"), "added_tokens.json changed since"),
    "several": (without("tokenizer.json", "config.json"), "config.json, tokenizer.json changed since"),
    "gone": (shutil.rmtree, "config.json"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_folder_that_changed_is_refused_by_the_files_that_did(base: Path, model: Path, change: str) -> None:
    spoil, words = CHANGES[change]
    spoil(model)
    with pytest.raises(ArtifactError, match=re.escape(words)) as refused:
        opened(base)
    assert str(refused.value).startswith(f"{model}: ") and "dvc repro -f base_text" in str(refused.value)
