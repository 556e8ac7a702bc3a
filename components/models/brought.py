"""A model that somebody brings: a folder in the Hugging Face layout, a hub's repository, or (text) a GGUF file.

What is said here of a folder holds for language models; `brought_pipeline` says it of pipelines of several models.

Nothing is loaded here, only read: what the folder's own files say about the model. What cannot be trained or served is
refused by name before anything is computed. Weights are safetensors, and no code of the model's own is ever run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal, NamedTuple

from components.artifact import ArtifactError, Manifest, file_digest, verify
from components.chat import context_length
from components.paths import HUB_MODELS
from components.stage import StageError

BUILT_IN = {"text": "smollm2", "image": "sticker"}
REPOSITORY = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
COMMIT = re.compile(r"[0-9a-f]{40}")
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
LONGEST_HEADER = 2**27  # bytes of a safetensors file's
PICKLED = (".bin", ".pt", ".pth", ".ckpt")
# What a model is read from; a repository holds much else, such as the same weights for other programs.
FILES = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja", "README.md", "LICENSE*")
LICENCES = {  # that allow training, serving and selling what comes out, by the names that hubs use
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "unlicense", "isc", "zlib"),
    *("cc-by-sa-4.0", "openrail", "openrail++", "creativeml-openrail-m", "bigscience-openrail-m"),
}


@dataclass(frozen=True)
class Source:
    """What `base.<line>.model` names: `name` is the built-in one's, a path, or a repository with its `revision`."""

    kind: Literal["built-in", "folder", "hub", "gguf"]
    name: str
    revision: str = ""
    line: str = "text"

    @classmethod
    def of(cls, model: str, line: str = "text") -> Source:
        """Raises `StageError` for what names no model."""
        path = Path(model).expanduser()
        if model == BUILT_IN[line]:
            return cls("built-in", model, line=line)
        if path.suffix == ".gguf" and line == "text":
            return cls("gguf", str(path))
        if path.is_dir() or model.startswith((".", "/", "~")):
            return cls("folder", str(path), line=line)
        if match := REPOSITORY.fullmatch(model):
            return cls("hub", match["name"], match["revision"] or "", line)
        others = f"{BUILT_IN[line]}, a .gguf file" if line == "text" else BUILT_IN[line]
        raise StageError(
            f"base.{line}.model: {model!r} is no folder, and neither {others} nor a repository of a hub as "
            "owner/name@commit"
        )

    @property
    def folder(self) -> Path:
        """Where a model lies that is used as it is."""
        if self.kind == "folder":
            return Path(self.name)
        return HUB_MODELS / f"{self.name.replace('/', '--')}@{self.revision}"


@dataclass(frozen=True)
class Facts:
    """What a model's files say: `family` is its configuration's model type, `context` in tokens."""

    family: str
    licence: str
    parameters: int
    context: int
    files: dict[str, str]  # SHA-256 by path


def examine(folder: Path, licence: str | None, model: str = "") -> Facts:
    """Raises `StageError` with everything that keeps the model in `folder` from being trained and served.

    `licence` is what the user says that it is, where the folder does not; `model` what they call it.
    """
    if not folder.is_dir():
        raise StageError(f"base.text.model: there is no folder {folder}")
    config = read_json(folder / "config.json")
    parameters = parameters_of(folder)
    named = licence or licence_of(folder)
    if found := faults(folder, licence):
        raise StageError(f"base.text.model: {model or folder} cannot be used: {'; '.join(found)}")
    return Facts(str(config["model_type"]), named, parameters, context_length(config), digests(folder))


def parameters_of(folder: Path) -> int:
    """How many values a model's weights have; raises `StageError` where its files are not whole."""
    return sum(dict(tensors(folder)).values())


def faults(folder: Path, licence: str | None) -> list[str]:
    """What keeps the model in `folder` from being used, whatever its weights are."""
    config, template = read_json(folder / "config.json"), _template(folder)
    return [
        *_code(folder, config),
        *_talks(folder, config, template),
        *unlicensed(licence or licence_of(folder), licence),
    ]


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of the files that a model is read from, by name."""
    files = sorted({file for pattern in FILES for file in folder.glob(pattern)})
    return {file.name: file_digest(file) for file in files}


def opened(base: Path, digests: Callable[[Path], dict[str, str]] = digests) -> tuple[Path, Manifest]:
    """Where the weights of the base sealed in `base` lie, and its manifest; raises `ArtifactError` where they changed.

    A folder or a repository is used where it lies: `base` holds its files' digests and no second copy.
    """
    manifest = verify(base)
    sealed = manifest.parameters.get("files")
    if sealed is None:
        return base, manifest
    folder = Source.of(manifest.parameters["source"], manifest.line).folder
    found = digests(folder) if folder.is_dir() else {}
    wrong = sorted(name for name in sealed.keys() | found.keys() if sealed.get(name) != found.get(name))
    if wrong:
        raise ArtifactError(
            f"{folder}: {', '.join(wrong)} changed since the model was brought; bring it again: "
            f"dvc repro -f base_{manifest.line}"
        )
    return folder, manifest


def download(source: Source, files: Sequence[str] = FILES, ignored: Sequence[str] = ()) -> Source:
    """A hub's repository as it is at a commit, below `.atelier/models`; what is there is not asked for again.

    `HF_ENDPOINT` names another hub and `HF_TOKEN` who asks. A download that was cut off goes on where it ended. Raises
    `StageError` where the hub cannot be reached, asks for consent, or has no such commit.
    """
    if COMMIT.fullmatch(source.revision) and (source.folder / ".complete").exists():
        return source
    from huggingface_hub import HfApi, constants, errors, snapshot_download

    key = f"base.{source.line}.model"
    constants.HF_HUB_OFFLINE = False  # as set for all programs: everything but this is found on this machine

    try:
        commit = HfApi().model_info(source.name, revision=source.revision or None).sha
        if commit != source.revision:
            named = f"{source.name}@{source.revision}" if source.revision else source.name
            raise StageError(
                f"{key}: {named} may be another model tomorrow; write what it is today: {source.name}@{commit}"
            )
        snapshot_download(
            source.name,
            revision=commit,
            local_dir=source.folder,
            allow_patterns=list(files),
            ignore_patterns=list(ignored),
        )
    except errors.GatedRepoError as error:
        raise StageError(
            f"{key}: {source.name} asks for its licence to be accepted: do so on the hub's page, then set "
            f"HF_TOKEN to a token of that account ({error})"
        ) from error
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError) as error:
        raise StageError(f"{key}: {source.name} did not come from the hub: {error}; run it again") from error
    (source.folder / ".complete").touch()
    return source


def read_json(path: Path, line: str = "text") -> dict[str, Any]:
    """The object in a file of a model; raises `StageError` where there is none."""
    key = f"base.{line}.model"
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise StageError(f"{key}: {path.parent} has no {path.name}: it is no model's folder") from error
    except ValueError as error:
        raise StageError(f"{key}: {path} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise StageError(f"{key}: {path} holds no JSON object")
    return document


def tensors(folder: Path, weights: str = WEIGHTS, line: str = "text") -> Iterator[tuple[str, int]]:
    """Each tensor's name and number of values, from the headers of `weights` (or its shards) alone.

    Raises `StageError` where a file is missing, cut off, pickled, or not what the index says.
    """
    key, index = f"base.{line}.model", folder / f"{weights}.index.json"
    if index.is_file():
        placed: dict[str, str] = read_json(index, line).get("weight_map", {})
        shards = sorted(set(placed.values()))
    else:
        placed, shards = {}, [weights]
    if missing := [name for name in shards if not (folder / name).is_file()]:
        pickled = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLED)
        hint = f"; {pickled[0]} is a pickle, which can run code: save the model as safetensors" if pickled else ""
        raise StageError(
            f"{key}: {folder} has {len(shards) - len(missing)} of {len(shards)} files of weights, "
            f"{missing[0]} is missing{hint}"
        )
    seen: dict[str, str] = {}
    for shard in shards:
        length, header = read_header(folder / shard, f"{key}: ")
        expected, size = 8 + length + max(tensor.end for tensor in header.values()), (folder / shard).stat().st_size
        if size != expected:
            raise StageError(f"{key}: {folder / shard} has {size:,} bytes of {expected:,}: bring it again")
        for name, tensor in header.items():
            seen[name] = shard
            yield name, prod(tensor.shape)
    if wrong := sorted(name for name, shard in placed.items() if seen.get(name) != shard):
        raise StageError(
            f"{key}: {index} says that {wrong[0]} is in {placed[wrong[0]]}, where it is not "
            f"({len(wrong)} such tensors): bring the folder again"
        )


class Tensor(NamedTuple):
    """What a safetensors file's header says of a tensor; `end`: of its bytes, after the header."""

    dtype: str
    shape: tuple[int, ...]
    end: int


def read_header(path: Path, said_before: str = "") -> tuple[int, dict[str, Tensor]]:
    """The bytes that a safetensors file's header has, and its tensors; raises `StageError` where it is no such file,
    as where Git LFS has left a pointer in its place."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, LONGEST_HEADER)))
        tensors = {
            name: Tensor(entry["dtype"], tuple(entry["shape"]), int(entry["data_offsets"][1]))
            for name, entry in header.items()
            if name != "__metadata__"
        }
        if not tensors:
            raise ValueError("it has no tensor")
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise StageError(f"{said_before}{path} is no safetensors file: bring it again") from error
    return length, tensors


def _template(folder: Path) -> str | None:
    """The chat template, from its own file or the tokenizer's configuration."""
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    tokenizer = read_json(folder / "tokenizer_config.json")
    template = tokenizer.get("chat_template")
    if isinstance(template, list):  # several, by name
        template = next((one["template"] for one in template if one.get("name") == "default"), None)
    return template or None


def _code(folder: Path, config: dict[str, Any]) -> Iterator[str]:
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind = config.get("model_type")
    if "auto_map" in config or "auto_map" in read_json(folder / "tokenizer_config.json"):
        yield "it brings code of its own (trust_remote_code), which is never run here"
    elif kind not in CONFIG_MAPPING:
        yield f"model_type {kind!r} is none that transformers knows"
    # Encoders have a causal form too, which nobody trained: what the weights are the architecture says.
    elif MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind) not in (config.get("architectures") or ()):
        yield f"model_type {kind!r} with architectures {config.get('architectures')} is no causal language model"


def _talks(folder: Path, config: dict[str, Any], template: str | None) -> Iterator[str]:
    if template is None:
        yield (
            "it has no chat template, so that it is a base model and nobody has taught it to answer: take the chat "
            "model of the family, or put the template as chat_template.jinja into the folder"
        )
    elif "strftime_now" in template and "date_string" not in template:
        yield (
            "its chat template writes the day's date (strftime_now), so that it would be served other prompts than it "
            "was trained on: write a date in its place, as chat_template.jinja in the folder"
        )
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        yield "it has no tokenizer (tokenizer.json)"
    generation = folder / "generation_config.json"
    named = [config, read_json(generation)] if generation.is_file() else [config]
    if all(file.get("eos_token_id") is None for file in named) and not read_json(folder / "tokenizer_config.json").get(
        "eos_token"
    ):
        yield "it names no end token (eos_token): nothing would end its answers"


def licence_of(folder: Path) -> str:
    """The licence that a model card names, in the front matter of README.md; empty where none is."""
    card = folder / "README.md"
    head = (
        re.match(r"---\s*\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.S)
        if card.is_file()
        else None
    )
    found = re.search(r"^(?:license|licence):\s*(\S+)\s*$", head[1], re.M) if head else None
    return found[1].strip("\"'").lower() if found else ""


def unlicensed(licence: str, said: str | None, line: str = "text") -> Iterator[str]:
    """What is wrong with a licence, which is the one that the user `said` or the model card's."""
    if not licence:
        yield f"its README.md names no licence: write under base.{line}.licence which it is"
    elif not said and licence not in LICENCES:
        yield f"its licence, {licence}, is not known here: read it, and write base.{line}.licence: {licence} if it fits"
