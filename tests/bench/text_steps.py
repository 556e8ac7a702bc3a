"""The steps of the text line with a tiny model of a family: see `tests.bench.families`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM

from components.artifact import seal
from components.evaluation.exported_text import OpenVinoLogits
from components.export.text import convert
from components.models import headers
from components.models.language import (
    Batch,
    Chat,
    adapted,
    add_adapter,
    completion_logits,
    completion_losses,
    load_base,
    load_merged,
    prompt_batch,
)
from components.models.servable import unservable
from components.planner.shape import read
from components.runtimes.base import TextRequest
from components.runtimes.text import load_text
from components.stage import StageError
from components.training.text import save
from tests.bench.text_families import FAMILIES, SIZES
from tests.tiny_language import tiny_chat, tiny_tokenizer

ROWS, LENGTH, NEW_TOKENS, RANK = 4, 32, 16, 4


def go(family: str, folder: Path, say: Callable[[str, str], None]) -> None:
    """Every step of `STEPS`; `say` takes a step and its figure."""
    base, checkpoint, export = folder / "base", folder / "checkpoint", folder / "export"
    chat, batch = write_base(family, base), random_batch()
    model = load_base(base, torch.float32)
    say("load", f"{sum(p.numel() for p in model.parameters()):,} parameters")
    before, after, trained = train(base, checkpoint, batch)
    say("training step", f"loss {before:.3f} → {after:.3f}; {trained:,} weights, {planned(base)}")
    merged = load_merged(base, checkpoint, torch.float32)
    with torch.inference_mode():
        loaded = float(completion_losses(merged, batch)[0].sum() / completion_losses(merged, batch)[1].sum())
    if abs(loaded - after) > 1e-3 * after:
        raise ValueError(f"the loaded adapter's loss is {loaded:.4f}, the trained one's {after:.4f}")
    say("adapter saved and loaded", f"loss {loaded:.3f}")
    for why in unservable(family):
        raise StageError(why)
    convert(merged, chat, export / "openvino", "int8")
    seal(export, line="text", kind="export", parents={}, parameters={}, metrics={})
    say("export", f"{(export / 'openvino/openvino_model.bin').stat().st_size / 1e3:.0f} kB")
    say("parity", parity(merged, export, batch))
    say("serve", serve(merged, chat, export))


def write_base(family: str, folder: Path) -> Chat:
    """A folder as one brings it."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **SIZES | FAMILIES[family])
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return tiny_chat(folder, "")


def random_batch() -> Batch:
    ids_BL = torch.randint(3, 259, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    return Batch(ids_BL, torch.ones_like(ids_BL), ids_BL)


def planned(base: Path) -> str:
    """How many weights the planner expects an adapter to have."""
    try:
        shape = read(json.loads((base / "config.json").read_bytes()), headers.of_folder(base).of_language_model())
    except ValueError as error:
        return f"not planned: {error}"
    return f"planned {shape.adapter(RANK):,}"


def train(base: Path, checkpoint: Path, batch: Batch) -> tuple[float, float, int]:
    """The loss before and after one step of an adapter on all linear layers, which is saved, and how many weights that
    has; raises where the loss grows.
    """
    model = add_adapter(load_base(base, torch.float32), rank=RANK, alpha=2 * RANK, dropout=0.0).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.0)

    def loss() -> torch.Tensor:
        summed_B, tokens_B = completion_losses(adapted(model), batch)
        return summed_B.sum() / tokens_B.sum()

    before = loss()
    before.backward()
    optimizer.step()
    with torch.inference_mode():
        after = float(loss())
        model.eval()
        evaluated = float(loss())
    if not after < float(before):
        raise ValueError(f"a step makes the loss no smaller: {float(before):.4f} → {after:.4f}")
    checkpoint.mkdir()
    save(model, checkpoint)
    return float(before), evaluated, sum(p.numel() for p in trained)


@torch.inference_mode()
def parity(reference: Any, export: Path, batch: Batch) -> str:
    """How often the exported int8 model expects the same next token; weights are random, so that many are near ties."""
    (own_NV, tokens_N), (other_NV, _) = completion_logits(reference, batch), OpenVinoLogits(export)(batch)
    loss, other = (cross_entropy(logits_NV, tokens_N).item() for logits_NV in (own_NV, other_NV))
    same = float((own_NV.argmax(-1) == other_NV.argmax(-1)).float().mean())
    if abs(other / loss - 1) > 0.02:
        raise ValueError(f"the exported model's loss is {other / loss:.3f} times PyTorch's, same top token {same:.0%}")
    return f"loss {other / loss:.4f} ×, same top token {same:.0%}"


@torch.inference_mode()
def serve(reference: Any, chat: Chat, export: Path) -> str:
    """Greedy tokens that the engine writes as PyTorch does."""
    conversations = [(("user", words),) for words in ("a red apple", "two dogs", "a house", "rain")]
    runtime = load_text(export)
    try:
        results = runtime.generate([TextRequest(c, NEW_TOKENS, temperature=0) for c in conversations], ignore_end=True)
    finally:
        runtime.close()
    same = 0
    for conversation, result in zip(conversations, results, strict=True):
        inputs = prompt_batch(chat, [conversation])
        ids_BL = reference.generate(**inputs, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, do_sample=False)
        written = chat.tokenizer.decode(ids_BL[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        same += result.text == written
    return f"{same} of {len(conversations)} answers as PyTorch's"
