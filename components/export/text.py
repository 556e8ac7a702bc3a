"""Stage `export_text`: adapter and base become one model in OpenVINO's representation with int8 or int4 weights.

Beside the model stand its tokenizer and detokenizer as OpenVINO graphs and the Hugging Face tokenizer files: everything
that serving needs, and nothing that needs PyTorch.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from optimum.exporters.openvino.convert import export_tokenizer
from optimum.intel import OVModelForCausalLM, OVWeightQuantizationConfig
from transformers import PreTrainedModel

from components import config
from components.artifact import seal, staged, verify
from components.models.brought import opened
from components.models.language import Chat, load_merged
from components.paths import TEXT_BASE, TEXT_EXPORT
from components.paths import TEXT_CHECKPOINT as CHECKPOINT
from components.stage import StageError, run

WEIGHTS: dict[str, dict[str, Any]] = {
    "int8": {"bits": 8, "sym": False},
    # 64 weights share a scale: 64 divides this model's hidden width of 576, the usual 128 does not.
    "int4": {"bits": 4, "sym": False, "group_size": 64, "ratio": 1.0},
}


def convert(model: PreTrainedModel, chat: Chat, target: Path, weight_format: str) -> None:
    """Write `model` with compressed weights, its tokenizer in both forms and its chat format into `target`."""
    target.mkdir(parents=True)
    tokenizer = chat.tokenizer
    with tempfile.TemporaryDirectory(dir=target.parent) as merged:
        model.save_pretrained(merged)
        tokenizer.save_pretrained(merged)
        compression = OVWeightQuantizationConfig(**WEIGHTS[weight_format])
        exported = OVModelForCausalLM.from_pretrained(merged, export=True, quantization_config=compression)
    exported.save_pretrained(target)
    (target / "openvino_config.json").unlink()  # names the temporary folder, and the runtime does not read it
    tokenizer.save_pretrained(target)
    chat.format.write(target)
    export_tokenizer(tokenizer, target, task="text-generation-with-past")


def main() -> None:
    """Write `artifacts/text/export`; a full disk or an interruption leaves the previous export, or none."""
    settings = config.load().export.text
    parents = {"checkpoint": verify(CHECKPOINT).digest}
    base, _ = opened(TEXT_BASE)
    model = load_merged(base, CHECKPOINT, torch.float32)
    with staged(TEXT_EXPORT) as folder:
        try:
            convert(model, Chat.read(base, CHECKPOINT), folder / "openvino", settings.weight_format)
        except (OSError, RuntimeError) as error:
            # A full disk reaches us as any of the two, with the system's words inside.
            raise StageError(f"{TEXT_EXPORT} was not written: {error}; free disk space and run it again") from error
        seal(folder, line="text", kind="export", parents=parents, parameters=settings.model_dump(), metrics={})
    size = sum(file.stat().st_size for file in TEXT_EXPORT.rglob("*") if file.is_file())
    print(f"{TEXT_EXPORT}: {settings.weight_format} weights, {size / 1e6:.0f} MB")


if __name__ == "__main__":
    run(main)
