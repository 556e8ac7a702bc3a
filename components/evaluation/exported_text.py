"""The exported graph beside the trained model, on equal tokens: how far apart their logits are, and may be.

What may be follows from the precision of the export (`rounding`), so that no bound has to be set by hand for a model.
Shapes as in `components.models.language`; C likely candidates of a position.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from components.evaluation.intervals import beside_rounding, by_sample, interval, perplexity, share
from components.evaluation.replay import root_mean_square
from components.evaluation.rounding import rounded
from components.models.language import IGNORED, Batch, completion_logits
from components.runtimes.text import PRECISION
from components.stage import StageError

CANDIDATES = 8  # likeliest tokens of a position: what may be written lies among them
TIE_QUANTILE = 0.999
UNROUNDED = {**PRECISION, "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}  # inputs of matrices as they are


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


@dataclass(frozen=True)
class Compared:
    """An export beside the model that it was made of, at each token N of some completions.

    `counts`: tokens of each completion. `columns`, of the token itself (log-probability in nats): `own`, `coarse` (the
    model rounded as the export is), `graph`; of the model's C likeliest: which (`likely`), their `logits`, and how far
    (`gaps`) they are `moved` by rounding, `graph_moved` by the exported graph, `weights_moved` by rounded weights
    alone, `unexplained` between those and the export's; `agrees`: the same token comes first.
    """

    counts: list[int]
    columns: Mapping[str, Tensor]

    @property
    def rounding_errors(self) -> Tensor:
        """What rounding changes the tokens' own log-probabilities by."""
        return self.columns["coarse"] - self.columns["own"]


@torch.inference_mode()
def compare(folder: Path, reference: PreTrainedModel, batches: Sequence[Batch], weight_format: str) -> Compared:
    """The export in `folder` with the model that it was made of, on completions; raises `StageError` where it puts out
    NaN or infinity."""
    graph = OpenVinoLogits(folder)
    served = [_as_served(reference, graph, batch, weight_format) for batch in batches]
    del graph  # its weights: those of the next one take its place
    if not all(part["graph"].isfinite().all() for part in served):
        raise StageError("the exported model puts out NaN or infinity; export it again (dvc repro -f export_text)")
    exact = OpenVinoLogits(folder, UNROUNDED)
    parts = [
        part | _weights(reference, exact, batch, weight_format, part)
        for part, batch in zip(served, batches, strict=True)
    ]
    counts = [count for batch in batches for count in (batch.labels_BL[:, 1:] != IGNORED).sum(1).tolist()]
    return Compared(counts, {name: torch.cat([part[name] for part in parts]) for name in parts[0]})


def _as_served(
    reference: PreTrainedModel, graph: OpenVinoLogits, batch: Batch, weight_format: str
) -> dict[str, Tensor]:
    """Of a batch, what the model, the rounded one and the exported graph say; of their logits two are held at once."""
    own_NV, tokens_N = completion_logits(reference, batch)
    likely_NC = own_NV.topk(CANDIDATES)
    columns = {"own": log_probs(own_NV, tokens_N), "likely": likely_NC.indices, "logits": likely_NC.values}
    del own_NV
    with rounded(reference, weight_format):
        coarse_NV, _ = completion_logits(reference, batch)
    columns |= {"coarse": log_probs(coarse_NV, tokens_N), "moved": gaps(columns, coarse_NV)}
    del coarse_NV
    graph_NV, _ = graph(batch)
    columns |= {"graph": log_probs(graph_NV, tokens_N), "graph_moved": gaps(columns, graph_NV)}
    return columns | {"agrees": graph_NV.argmax(-1) == columns["likely"][:, 0]}


def _weights(
    reference: PreTrainedModel, exact: OpenVinoLogits, batch: Batch, weight_format: str, own: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Of a batch, what rounded weights alone do, and the graph with exact inputs beside them."""
    with rounded(reference, weight_format, inputs=False):
        weights_NV, _ = completion_logits(reference, batch)
    likely_NC = weights_NV.topk(CANDIDATES)
    expected = {"likely": likely_NC.indices, "logits": likely_NC.values}
    moved_NC = gaps(own, weights_NV)
    del weights_NV
    return {"weights_moved": moved_NC, "unexplained": gaps(expected, exact(batch)[0])}


def parity(compared: Compared) -> dict[str, Any]:
    """Perplexities of both, and how often both find the same token most likely; with 95 % intervals."""
    counts_S = np.array(compared.counts)
    own_S, graph_S = (-by_sample(compared.columns[name], compared.counts) for name in ("own", "graph"))
    agreed_S = by_sample(compared.columns["agrees"], compared.counts)
    return {
        "perplexity_ratio": float(perplexity(graph_S - own_S, counts_S)),
        "perplexity_ratio_interval": interval(perplexity, graph_S - own_S, counts_S),
        "top1_agreement": float(share(agreed_S, counts_S)),
        "top1_agreement_interval": interval(share, agreed_S, counts_S),
        "perplexity_pytorch": float(perplexity(own_S, counts_S)),
        "perplexity_openvino": float(perplexity(graph_S, counts_S)),
        "tokens": sum(compared.counts),
    }


@dataclass(frozen=True)
class Distances:
    """What an export's precision does to the trained model on some completions, and how far the export is.

    `graph`: how far the exported graph, and rounding, move a likely token's distance from the likeliest, in logits.
    `tie`: how far rounding may move one: up to there it decides between two tokens. `unexplained`: the distance of the
    export's weights from rounded ones, as a share of these' from exact ones.
    """

    graph: dict[str, Any]  # as `beside_rounding`
    tie: float
    unexplained: float


def distances(compared: Compared) -> Distances:
    columns = compared.columns
    return Distances(
        graph=beside_rounding(columns["graph_moved"], columns["moved"], compared.counts),
        tie=float(np.quantile(columns["moved"].abs().numpy(), TIE_QUANTILE)),
        unexplained=root_mean_square(columns["unexplained"]) / root_mean_square(columns["weights_moved"]),
    )


def gaps(own: Mapping[str, Tensor], other_NV: Tensor) -> Tensor:
    """How much further from the likeliest token the next `likely` ones are in `other` than in their own `logits`."""
    own_NC, other_NC = own["logits"], other_NV.gather(1, own["likely"])
    return ((other_NC - other_NC[:, :1]) - (own_NC - own_NC[:, :1]))[:, 1:]


def log_probs(logits_NV: Tensor, tokens_N: Tensor) -> Tensor:
    """Of the tokens, in nats."""
    return -functional.cross_entropy(logits_NV, tokens_N, reduction="none")
