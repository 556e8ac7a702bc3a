"""A text-to-image pipeline that somebody brings: a folder of diffusers' layout, or a hub's repository of one.

Nothing is loaded here, only read: what the folder's own files say. What cannot be trained or served is refused by name
before anything is computed. Weights are safetensors, and no code of the pipeline's own is ever run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from components.artifact import Manifest, file_digest
from components.models import brought
from components.models.brought import licence_of, read_header, read_json, tensors, unlicensed
from components.models.pipelines import FAMILIES
from components.models.pipelines.family import Family
from components.paths import IMAGE_SOURCE
from components.stage import StageError

INDEX = "model_index.json"
LIBRARIES = ("diffusers", "transformers")
# Of a repository: the parts' folders, not the same weights once more as one file or for other programs.
FILES = ("*/*.safetensors", "*/*.json", "*/*.model", "*/*.txt", "*/*.jinja", INDEX, "README.md", "LICENSE*")
OTHER_FORMS = ("*.fp16.*", "*.bf16.*", "*non_ema*", "*/openvino_*", "*.onnx*", "*.msgpack")
# Classes that were tried here and are no family: what held a tiny one with random weights back.


@dataclass(frozen=True)
class Facts:
    """What a pipeline's files say: its family's name, `size` the side of its native pictures in pixels."""

    family: str
    licence: str
    parameters: int
    size: int
    files: dict[str, str]  # SHA-256 by path


def examine(folder: Path, licence: str | None, model: str = "") -> Facts:
    """Raises `StageError` with everything that keeps the pipeline in `folder` from being trained and served.

    `licence` is what the user says that it is, where the folder does not; `model` what they call it.
    """
    if not folder.is_dir():
        raise StageError(f"base.image.model: there is no folder {folder}")
    index = _index(folder)
    family = _family(index)
    named = licence or licence_of(folder)
    if found := faults(folder, licence):
        raise StageError(f"base.image.model: {model or folder} cannot be used: {'; '.join(found)}")
    return Facts(family.name, named, sum(parameters(folder).values()), family.native_size(folder), digests(folder))


def parameters(folder: Path) -> dict[str, int]:
    """How many values the weights of each component have, by the headers of its files."""
    return {part: sum(_weights(folder / part)) for part in _parts(_index(folder))}


def refuse(folder: Path, licence: str | None) -> None:
    """Raise `StageError` for what the small files of a pipeline already rule out."""
    index = _index(folder)
    _family(index)
    if found := [*_code(folder, index), *unlicensed(licence or licence_of(folder), licence, "image")]:
        raise StageError(f"base.image.model: {folder} cannot be used: {'; '.join(found)}")


def faults(folder: Path, licence: str | None) -> list[str]:
    """What keeps the pipeline in `folder` from being used; raises `StageError` where it is none of a family."""
    index = _index(folder)
    family = _family(index)
    missing = list(_missing(folder, index, family))
    found = [*_code(folder, index), *missing, *unlicensed(licence or licence_of(folder), licence, "image")]
    return found if missing else [*found, *family.faults(folder)]


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that the pipeline is read from, by path: what else lies there, as another form of the
    same weights, is of no account."""
    parts = _parts(_index(folder))
    files = [path for part in parts for path in (folder / part).iterdir() if path.is_file()]
    files += [folder / INDEX, *folder.glob("README.md"), *folder.glob("LICENSE*")]
    named = {path.relative_to(folder).as_posix(): path for path in sorted(files)}
    return {name: file_digest(path) for name, path in named.items() if _matches(name, FILES, OTHER_FORMS)}


def opened(base: Path = IMAGE_SOURCE) -> tuple[Path, Manifest]:
    """Where the pipeline that is sealed in `base` lies, and its manifest; raises `ArtifactError` where it changed."""
    return brought.opened(base, lambda folder: digests(folder) if (folder / INDEX).is_file() else {})


def _matches(name: str, wanted: Sequence[str], ignored: Sequence[str]) -> bool:
    """As a hub's client takes patterns."""
    return any(fnmatchcase(name, pattern) for pattern in wanted) and not any(
        fnmatchcase(name, pattern) for pattern in ignored
    )


def _index(folder: Path) -> dict[str, Any]:
    if not (folder / INDEX).is_file():
        single = sorted(path.name for path in folder.glob("*.safetensors"))
        hint = f"; {single[0]} alone is none: {_remedy(folder / single[0])}" if single else ""
        raise StageError(f"base.image.model: {folder} has no {INDEX}: it is no pipeline's folder{hint}")
    return read_json(folder / INDEX, "image")


def _remedy(weights: Path) -> str:
    """What to do with weights that somebody takes for a pipeline."""
    if any("lora" in name for name in read_header(weights)[1]):
        return "it is an adapter: fuse it into its pipeline with diffusers (fuse_lora), and save that"
    return "save it as a folder with diffusers (from_single_file)"


def _family(index: dict[str, Any]) -> Family:
    name = index.get("_class_name")
    if isinstance(name, list):  # a module of its own, and the class in it
        raise StageError(
            f"base.image.model: the pipeline {name[-1]} brings code of its own (trust_remote_code), which is never run"
        )
    if name not in FAMILIES:
        raise StageError(
            f"base.image.model: a {name} cannot be trained here; these can: {', '.join(FAMILIES)}; docs/models.md says "
            "how far others come"
        )
    return FAMILIES[name]


def _parts(index: dict[str, Any]) -> list[str]:
    """The components that the pipeline has; one that is null was left out on purpose."""
    return sorted(name for name, entry in index.items() if isinstance(entry, list) and entry and entry[0] is not None)


def _code(folder: Path, index: dict[str, Any]) -> Iterator[str]:
    """Code of its own: a component from elsewhere, a module, a configuration that asks for one."""
    for part in _parts(index):
        library, kind = index[part]
        config = folder / part / "config.json"
        foreign = library not in LIBRARIES or any((folder / part).glob("*.py"))
        if foreign or (config.is_file() and "auto_map" in read_json(config, "image")):
            yield f"its {part} ({kind}) brings code of its own (trust_remote_code), which is never run here"


def _missing(folder: Path, index: dict[str, Any], family: Family) -> Iterator[str]:
    """Components that the family needs and the folder lacks, in whole or in part."""
    parts = _parts(index)
    tokenizers = [name.replace("text_encoder", "tokenizer") for name in family.encoders]
    for part in (family.network_name, "vae", "scheduler", *family.encoders, *tokenizers):
        if part not in parts and part not in family.optional:
            yield f"it has no {part}"
    for part in parts:
        if not (folder / part).is_dir():
            yield f"the folder of its {part} is missing"
        else:
            yield from _broken(folder / part)


def _broken(part: Path) -> Iterator[str]:
    """What is wrong with the weights of one component, if it has any."""
    try:
        if (part / "config.json").is_file():
            list(_weights(part))
    except StageError as error:
        said = str(error).removeprefix("base.image.model: ")
        if variants := sorted(path.name for path in part.glob("*.fp16*.safetensors")):
            said += (
                f"; {variants[0]} is the variant fp16, which is not read: load the pipeline with diffusers "
                "(variant='fp16') and save it again (save_pretrained)"
            )
        yield said


def _weights(part: Path) -> Iterator[int]:
    """How many values each tensor of a component holds; nothing for tokenizers and schedulers."""
    if (part / "config.json").is_file():
        of_diffusers = "_diffusers_version" in read_json(part / "config.json", "image")
        name = "diffusion_pytorch_model" if of_diffusers else "model"
        for _, count in tensors(part, f"{name}.safetensors", "image"):
            yield count
