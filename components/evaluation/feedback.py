"""Stage `evaluate_feedback`: what held-out users thought of answers, against what the model before and after thinks.

Nothing of these users was learned from, and their prompts are none that others taught. A model that has learned what
users like gives the answers they liked a higher probability than those they disliked: `ranking` is the chance that it
does (area under the ROC curve; 0.5 says nothing), by the mean log-probability per token. `loss_liked` is the loss on
the liked ones alone, in nats per token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from sklearn.metrics import roc_auc_score
from transformers import PreTrainedModel

from components.artifact import canonical, verify, write_text
from components.data.feedback import held_out
from components.data.pairs import Pair
from components.models.brought import opened
from components.models.language import Chat, held_out_loss, load_base, load_merged
from components.paths import FEEDBACK, TEXT_BASE, TEXT_METRICS
from components.paths import TEXT_CHECKPOINT as CHECKPOINT
from components.stage import run

METRICS = TEXT_METRICS / "feedback.json"
ANSWERS = 256  # of the newest: the stage stays below a minute on a CPU

Answer = tuple[Pair, bool]  # and whether it was liked


def score(model: PreTrainedModel, chat: Chat, answers: Sequence[Answer]) -> dict[str, Any]:
    """One model's row; None where answers of only one kind leave nothing to tell."""
    losses = [held_out_loss(model, chat, [pair]) for pair, _ in answers]
    liked = [loss for loss, (_, like) in zip(losses, answers, strict=True) if like]
    both = 0 < len(liked) < len(answers)
    return {
        "loss_liked": sum(liked) / len(liked) if liked else None,
        "ranking": float(roc_auc_score([like for _, like in answers], [-loss for loss in losses])) if both else None,
    }


def main() -> None:
    """Write the metrics; before anything was learned they say so."""
    rows = held_out(FEEDBACK / "text")[-ANSWERS:]
    answers = [(Pair(row["prompt"], row["output"]), bool(row["liked"])) for row in rows]
    document: dict[str, Any] = {"answers": len(rows), "users": len({row["user_key"] for row in rows})}
    if answers:
        base, _ = opened(TEXT_BASE)
        verify(CHECKPOINT)
        chat = Chat.read(base, CHECKPOINT)
        document["before"] = score(load_base(base, torch.bfloat16), chat, answers)
        document["after"] = score(load_merged(base, CHECKPOINT, torch.bfloat16), chat, answers)
    write_text(METRICS, canonical(document))
    print(f"held-out users' answers: {document}")


if __name__ == "__main__":
    run(main)
