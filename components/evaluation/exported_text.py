"""The exported graph beside the trained model, on equal tokens: how far apart their logits are, and may be.

What may be follows from the precision of the export (`rounding`), so that no bound has to be set by hand for a model.
Shapes as in `components.models.language`; C likely candidates of a position.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from components.evaluation.replay import root_mean_square
from components.evaluation.rounding import rounded
from components.models.language import IGNORED, Batch, completion_logits
from components.runtimes.text import PRECISION
from components.stage import StageError

CANDIDATES = 8  # likeliest tokens of a position: what may be written lies among them
TIE_QUANTILE = 0.999
UNROUNDED = {**PRECISION, "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}  # inputs of matrices as they are

Logits = Callable[[Batch], tuple[Tensor, Tensor]]


class OpenVinoLogits:
    """The exported graph run directly, to see the logits that the serving pipeline keeps to itself."""

    def __init__(self, folder: Path, precision: Mapping[str, str] = PRECISION) -> None:
        model = folder / "openvino" / "openvino_model.xml"
        self._request = ov.Core().compile_model(model, "CPU", dict(precision)).create_infer_request()
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
def parity(reference: Logits, exported: Logits, batches: Sequence[Batch]) -> dict[str, Any]:
    """How far the exported model is from the reference on the completions' tokens; raises `StageError` where it puts
    out NaN or infinity."""
    losses, agreed, count = [0.0, 0.0], 0, 0
    for batch in batches:
        (loss, expects_N), (other_loss, other_N) = summed(*reference(batch)), summed(*exported(batch))
        losses[0] += loss
        losses[1] += other_loss
        agreed += int((expects_N == other_N).sum())
        count += len(expects_N)
    if not math.isfinite(losses[1]):
        raise StageError("the exported model puts out NaN or infinity; export it again (dvc repro -f export_text)")
    return {
        "perplexity_ratio": math.exp((losses[1] - losses[0]) / count),
        "top1_agreement": agreed / count,
        "perplexity_pytorch": math.exp(losses[0] / count),
        "perplexity_openvino": math.exp(losses[1] / count),
        "tokens": count,
    }


@dataclass(frozen=True)
class Distances:
    """What an export's precision does to the trained model on some completions, and how far the export is.

    `rounding`, `graph`: root mean square of how far the rounded model, and the exported graph, move a likely token's
    distance from the likeliest, in logits. `tie`: how far rounding may move one: up to there it decides between two
    tokens. `log_prob`: root mean square error (nats) of rounding at the completions' own tokens.
    `unexplained`: the distance of the export's weights from rounded ones, as a share of these' from exact ones.
    """

    rounding: float
    graph: float
    tie: float
    log_prob: float
    unexplained: float


@torch.inference_mode()
def distances(folder: Path, reference: PreTrainedModel, batch: Batch, weight_format: str) -> Distances:
    """Of the export in `folder` from the model that it was made of."""
    own_NV, tokens_N = completion_logits(reference, batch)
    with rounded(reference, weight_format):
        coarse_NV, _ = completion_logits(reference, batch)
    with rounded(reference, weight_format, inputs=False):
        weights_NV, _ = completion_logits(reference, batch)
    graph_NV, _ = OpenVinoLogits(folder)(batch)
    exact_NV, _ = OpenVinoLogits(folder, UNROUNDED)(batch)
    moved_NC = gaps(own_NV, coarse_NV)
    return Distances(
        rounding=root_mean_square(moved_NC),
        graph=root_mean_square(gaps(own_NV, graph_NV)),
        tie=float(np.quantile(moved_NC.abs().numpy(), TIE_QUANTILE)),
        log_prob=root_mean_square(log_probs(coarse_NV, tokens_N) - log_probs(own_NV, tokens_N)),
        unexplained=root_mean_square(gaps(weights_NV, exact_NV)) / root_mean_square(gaps(own_NV, weights_NV)),
    )


def gaps(own_NV: Tensor, other_NV: Tensor) -> Tensor:
    """How much further from the likeliest token (by `own`) the next likely ones are in `other`, in logits."""
    likely_NC = own_NV.topk(CANDIDATES).indices
    own_NC, other_NC = own_NV.gather(1, likely_NC), other_NV.gather(1, likely_NC)
    return ((other_NC - other_NC[:, :1]) - (own_NC - own_NC[:, :1]))[:, 1:]


def log_probs(logits_NV: Tensor, tokens_N: Tensor) -> Tensor:
    """Of the tokens, in nats."""
    return -functional.cross_entropy(logits_NV, tokens_N, reduction="none")
