"""Stage `verify_text`: does the exported model write what PyTorch's would?

Parity on held-out completions, teacher-forced: the ratio of perplexities and how often both expect the same next token,
with the PyTorch model in fp32 as the reference. A failed parity is written down first and stops the pipeline then.
How much faster it is `make bench NAME=engines` measures: a stage's result must not depend on how busy the machine is.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from components import config
from components.artifact import canonical, verify, write_text
from components.config import VerifyText
from components.data.pairs import Pair, read_pairs
from components.models.brought import opened
from components.models.language import (
    IGNORED,
    Batch,
    Chat,
    batches,
    collate,
    completion_logits,
    load_merged,
)
from components.paths import TEXT_BASE, TEXT_EXPORT, TEXT_METRICS
from components.paths import TEXT_CHECKPOINT as CHECKPOINT
from components.paths import TEXT_SPLIT as SPLIT
from components.runtimes.text import PRECISION, OpenVinoText, load_text
from components.stage import StageError, run

METRICS = TEXT_METRICS / "verify.json"
PARITY_PAIRS_PER_PROMPT = 16  # so that top-1 agreement rests on over a thousand tokens, not on a hundred


class OpenVinoLogits:
    """The exported graph run directly, to see the logits that the serving pipeline keeps to itself."""

    def __init__(self, folder: Path) -> None:
        model = folder / "openvino" / "openvino_model.xml"
        self._request = ov.Core().compile_model(model, "CPU", PRECISION).create_infer_request()
        self._inputs = {name for port in self._request.model_inputs for name in port.names}

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """As `completion_logits`: logits_NV and the tokens_N they should predict."""
        ids_BL, mask_BL = batch.ids_BL.numpy(), batch.mask_BL.numpy()
        self._request.reset_state()
        feeds = {
            "input_ids": ids_BL,
            "attention_mask": mask_BL,
            "position_ids": np.maximum(mask_BL.cumsum(axis=1) - 1, 0),
            "beam_idx": np.arange(len(ids_BL), dtype=np.int32),
        }
        logits_BLV = self._request.infer({n: v for n, v in feeds.items() if n in self._inputs})["logits"]
        predicts_BL = batch.labels_BL[:, 1:] != IGNORED
        return torch.from_numpy(logits_BLV[:, :-1])[predicts_BL].float(), batch.labels_BL[:, 1:][predicts_BL]


def summed(logits_NV: Tensor, tokens_N: Tensor) -> tuple[float, Tensor]:
    """The negative log-likelihood of the tokens (nats, summed), and the token each position finds most likely."""
    return functional.cross_entropy(logits_NV, tokens_N, reduction="sum").item(), logits_NV.argmax(-1)


@torch.inference_mode()
def parity(
    reference: Callable[[Batch], tuple[Tensor, Tensor]],
    exported: Callable[[Batch], tuple[Tensor, Tensor]],
    batches: Sequence[Batch],
    bounds: VerifyText,
) -> dict[str, Any]:
    """How far the exported model is from the reference on the completions' tokens, and whether within bounds."""
    losses, agreed, count = [0.0, 0.0], 0, 0
    for batch in batches:
        (loss, expects_N), (other_loss, other_N) = summed(*reference(batch)), summed(*exported(batch))
        losses[0] += loss
        losses[1] += other_loss
        agreed += int((expects_N == other_N).sum())
        count += len(expects_N)
    ratio, agreement = math.exp((losses[1] - losses[0]) / count), agreed / count
    return {
        "perplexity_ratio": ratio,
        "top1_agreement": agreement,
        "perplexity_pytorch": math.exp(losses[0] / count),
        "perplexity_openvino": math.exp(losses[1] / count),
        "tokens": count,
        # To both sides: an export that is far better than its reference is not that model either.
        "passed": max(ratio, 1 / ratio) <= bounds.max_perplexity_ratio and agreement >= bounds.min_top1_agreement,
    }


def measure(
    folder: Path,
    reference: PreTrainedModel,
    chat: Chat,
    test: Sequence[Pair],
    bounds: VerifyText,
) -> dict[str, Any]:
    """The whole of `metrics/text/verify.json` for an exported folder; `reference` is the merged model in fp32."""
    encoded = [chat.encode(pair) for pair in test[: bounds.prompts * PARITY_PAIRS_PER_PROMPT]]
    padded = [collate(samples, chat.pad) for samples in batches(encoded)]
    compared = parity(lambda batch: completion_logits(reference, batch), OpenVinoLogits(folder), padded, bounds)
    runtime = load_text(folder)
    try:
        compared["same_prompt_ids"] = same_prompts(runtime, chat, test[: bounds.prompts])
        compared["same_text"] = same_texts(runtime, chat, [pair.completion for pair in test])
        compared["passed"] = compared["passed"] and compared["same_prompt_ids"] and compared["same_text"]
    finally:
        runtime.close()
    return {"passed": compared["passed"], "parity": compared}


def same_prompts(runtime: OpenVinoText, chat: Chat, pairs: Sequence[Pair]) -> bool:
    """Whether serving renders and tokenises every conversation exactly as training did, whatever is written in it."""
    special = "".join(chat.tokenizer.all_special_tokens)
    odd = [replace(pair, phrase=f"{special}{pair.phrase}") for pair in pairs]
    return all(runtime.prompt_ids(pair.messages) == chat.prompt(pair.messages) for pair in [*pairs, *odd])


def same_texts(runtime: OpenVinoText, chat: Chat, texts: Sequence[str]) -> bool:
    """Whether users read what the tokens say: parity of tokens alone would pass a broken decoder."""
    tokens = list(map(chat.text, texts))
    return [runtime.decode(ids) for ids in tokens] == chat.tokenizer.batch_decode(tokens)


def main() -> None:
    """Write `metrics/text/verify.json`; fails after writing where the export is not at parity."""
    bounds = config.load().verify.text
    base, _ = opened(TEXT_BASE)
    verify(CHECKPOINT)
    digest = verify(TEXT_EXPORT).digest
    reference = load_merged(base, CHECKPOINT, torch.float32)
    test = read_pairs(SPLIT / "test.parquet")
    random.Random(0).shuffle(test)  # noqa: S311 – stored order groups flags with flags
    document = measure(TEXT_EXPORT, reference, Chat.read(base, CHECKPOINT), test, bounds)
    write_text(METRICS, canonical(document | {"export": digest}))
    compared = document["parity"]
    print(
        f"perplexity ratio {compared['perplexity_ratio']:.4f}, same top token {100 * compared['top1_agreement']:.1f} %"
    )
    if not document["passed"]:
        raise StageError(f"parity with PyTorch failed; see {METRICS} and the bounds under verify.text")


if __name__ == "__main__":
    run(main)
