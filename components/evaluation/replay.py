"""Served answers, looked at through the model that was trained: token by token, as they were served.

Teacher-forced: the reference reads what was served and says at each token what it would have written there. So one
token that differs does not make all that follow differ, nothing has to be sampled again, and a whole batch of answers
costs one pass. Knows no engine; the gate and the recheck of production both judge by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from components.models.language import IGNORED, Encoded, batches, collate, completion_logits, vocabulary_of

ROWS = 64  # at a time: a rounded model rounds its weights at each pass


@dataclass(frozen=True)
class Answer:
    """What was read and written, as tokens, the one that ended it included, and what the engine says of each token
    (log-probability in nats at temperature 1, before top-p). `temperature`: it was sampled with, above 0; greedy
    answers are judged by their margins."""

    prompt: Sequence[int]
    tokens: Sequence[int]
    log_probs: Sequence[float]
    temperature: float = 1.0


@dataclass(frozen=True)
class Replayed:
    """Of each token T of an answer, what the reference makes of it.

    `margins_T`: by how much its likeliest token exceeds the served one, in logits: 0 where it is that one.
    `log_probs_T`: of the served one, as in `Answer`. `surer_T`: share of the probability, at the temperature of the
    answer, that lies on tokens which it finds likelier for sure, as its logits and the engine's may differ by `bound`.
    """

    margins_T: Tensor
    log_probs_T: Tensor
    surer_T: Tensor

    @property
    def differs_at(self) -> int | None:
        """The first token that a greedy reference would not have written; None where it writes them all."""
        differing = self.margins_T.nonzero()
        return int(differing[0]) if len(differing) else None


@torch.inference_mode()
def replay(reference: PreTrainedModel, answers: Sequence[Answer], pad: int, bound: float = 0.0) -> list[Replayed]:
    """Each answer through the reference."""
    replayed: list[Replayed] = []
    pairs = [encoded(answer) for answer in answers]
    for samples in batches(pairs, ROWS, vocabulary=vocabulary_of(reference)):
        logits_NV, tokens_N = completion_logits(reference, collate(samples, pad))
        these = answers[len(replayed) : len(replayed) + len(samples)]
        counts = [len(answer.tokens) for answer in these]
        temperatures_N = torch.tensor([answer.temperature for answer in these]).repeat_interleave(torch.tensor(counts))
        columns = [column.split(counts) for column in judged(logits_NV, tokens_N, temperatures_N, bound)]
        replayed += [Replayed(*parts) for parts in zip(*columns, strict=True)]
    return replayed


def encoded(answer: Answer) -> Encoded:
    """With labels on what was served alone."""
    return [*answer.prompt, *answer.tokens], [IGNORED] * len(answer.prompt) + [*answer.tokens]


def judged(logits_NV: Tensor, tokens_N: Tensor, temperatures_N: Tensor, bound: float) -> tuple[Tensor, Tensor, Tensor]:
    """(margins, log-probabilities, share of what is surely likelier) of the tokens, as `Replayed` has them."""
    own_N1 = logits_NV.gather(1, tokens_N[:, None])
    margins_N = logits_NV.amax(1) - own_N1[:, 0]
    log_probs_N = own_N1[:, 0] - logits_NV.logsumexp(1)
    # At worst each of the likelier tokens lost `bound` to all others in the engine.
    surely_NV = logits_NV > own_N1 + bound
    worst_NV = (logits_NV - bound * surely_NV) / temperatures_N[:, None]
    return margins_N, log_probs_N, (worst_NV.softmax(1) * surely_NV).sum(1)


def root_mean_square(errors: Tensor) -> float:
    return errors.square().mean().sqrt().item()
