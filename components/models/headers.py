"""The names and shapes of a model's tensors without its weights: of a folder, a hub's repository, a GGUF file."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.models.brought import INDEX, WEIGHTS, Source, read_header, read_json
from components.models.brought_pipeline import OTHER_FORMS
from components.planner.shape import Header
from components.stage import StageError

SMALL = ("*.json", "*.jinja", "*.txt", "*.model", "README.md", "LICENSE*")  # of a repository: all but the weights
# What GGUF files call the tensors, and transformers; after the number of the block.
GGUF = {
    r"^token_embd\.": "model.embed_tokens.",
    r"^output\.": "lm_head.",
    r"^blk\.": "model.layers.",
    r"ffn_(gate|up|down)_exps\.": r"mlp.experts.\1_proj.",
    r"ffn_gate_inp\.": "mlp.gate.",
    r"ffn_(gate|up|down)\.": r"mlp.\1_proj.",
    r"attn_([qk])_norm\.": r"self_attn.\1_norm.",
    r"attn_([qkv])\.": r"self_attn.\1_proj.",
}
GGUF_SIZES = {
    "num_hidden_layers": "block_count",
    "hidden_size": "embedding_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "num_experts": "expert_count",
    "num_experts_per_tok": "expert_used_count",
    "max_position_embeddings": "context_length",
}


@dataclass(frozen=True)
class Files:
    """A model's files: the small ones in `folder`; the headers of any of its `weights`, paths below it, on request."""

    folder: Path
    weights: list[str]
    headers: Callable[[str], dict[str, Header]]

    def of_language_model(self) -> dict[str, Header]:
        """Every tensor of the weights that transformers would load; empty where there are none."""
        index = self.folder / INDEX
        shards = set(read_json(index)["weight_map"].values()) if index.is_file() else {WEIGHTS}
        return {
            name: header for path in sorted(shards & {*self.weights}) for name, header in self.headers(path).items()
        }

    def of_part(self, part: str) -> dict[str, Header]:
        """Every tensor of one component of a pipeline."""
        own = [
            path
            for path in self.weights
            if path.startswith(f"{part}/") and not re.search(r"\.(fp16|bf16|non_ema)\.", path)
        ]
        return {name: header for path in own for name, header in self.headers(path).items()}


def of_folder(folder: Path) -> Files:
    weights = [
        path.relative_to(folder) for pattern in ("*.safetensors", "*/*.safetensors") for path in folder.glob(pattern)
    ]
    return Files(folder, sorted(map(str, weights)), lambda path: _header(folder / path))


def _header(path: Path) -> dict[str, Header]:
    return {name: Header(tensor.dtype, tensor.shape) for name, tensor in read_header(path)[1].items()}


def of_hub(source: Source) -> tuple[Files, str]:
    """A repository's files and the commit that its revision means now; its weights stay where they are.

    Raises `StageError` where the hub cannot be reached, asks for consent, or has no such commit.
    """
    from huggingface_hub import HfApi, constants, errors, snapshot_download

    constants.HF_HUB_OFFLINE = False  # as set for all programs: everything but this is found on this machine
    hub = HfApi()
    try:
        info = hub.model_info(source.name, revision=source.revision or None)
        folder = Source("hub", source.name, info.sha or "").folder
        patterns = [*SMALL, *(f"*/{pattern}" for pattern in SMALL)]
        snapshot_download(
            source.name, revision=info.sha, local_dir=folder, allow_patterns=patterns, ignore_patterns=[*OTHER_FORMS]
        )
    except errors.GatedRepoError as error:
        raise StageError(
            f"{source.name} asks for its licence to be accepted: do so on the hub's page, then set HF_TOKEN to a "
            f"token of that account ({error})"
        ) from error
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError) as error:
        raise StageError(f"{source.name} did not come from the hub: {error}; run it again") from error

    def headers(path: str) -> dict[str, Header]:
        tensors = hub.parse_safetensors_file_metadata(source.name, path, revision=info.sha).tensors
        return {name: Header(tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}

    weights = sorted(file.rfilename for file in info.siblings or () if file.rfilename.endswith(".safetensors"))
    return Files(folder, weights, headers), info.sha or ""


@dataclass(frozen=True)
class Gguf:
    """What a GGUF file says, under transformers' names: `fields` are the file's own."""

    config: dict[str, Any]
    headers: dict[str, Header]
    fields: dict[str, Any]


def of_gguf(path: Path) -> Gguf:
    """Raises `StageError` where the file is missing or no GGUF."""
    from gguf import GGUFReader

    if not path.is_file():
        raise StageError(f"{path}: missing; the built-in one comes with `python -m components.data.fetch`")
    try:
        reader = GGUFReader(path)
        fields = {name: entry.contents() for name, entry in reader.fields.items()}
        kind = fields["general.architecture"]
    except (ValueError, KeyError) as error:
        raise StageError(f"{path}: not a readable GGUF file: {error}; fetch it again") from error
    config = {name: fields[f"{kind}.{key}"] for name, key in GGUF_SIZES.items() if f"{kind}.{key}" in fields}
    headers = {
        _renamed(tensor.name): Header(tensor.tensor_type.name, tuple(map(int, reversed(tensor.shape))))
        for tensor in reader.tensors
    }
    return Gguf({"model_type": kind, **config}, headers, fields)


def _renamed(name: str) -> str:
    for pattern, words in GGUF.items():
        name = re.sub(pattern, words, name)
    return name
