"""How near written answers are to the wanted ones, and the answers that need no model.

`chrf` is the F-score of their character n-grams (Popovic 2015, by torchmetrics): 1 for the same text, 0 for nothing in
common, whatever the language; what is missing counts more than what is too much. `exact` asks for the same text. An
answer that names what is meant is counted apart by whether the phrase already does: to repeat that phrase names it too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torchmetrics.functional.text import chrf_score
from transformers import PreTrainedTokenizerBase

from components.data.pairs import Pair
from components.models.language import IGNORED, encode
from components.models.text_encoder import TextEncoder


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def chrf(answers: Sequence[str], references: Sequence[str]) -> list[float]:
    """The score of each answer beside its reference; a reference of under six characters keeps all below 1."""
    wanted = [[reference] for reference in references]
    _, scores_N = chrf_score(answers, wanted, n_word_order=0, return_sentence_level_score=True)
    return scores_N.tolist()


def exact(answer: str, reference: str) -> float:
    """1 for the same text, white space around it aside, else 0."""
    return float(answer.strip() == reference.strip())


def names(phrase: str, concept: str) -> bool:
    """Whether the concept's name stands in the phrase, word by word."""
    return f" {' '.join(words(concept))} " in f" {' '.join(words(phrase))} "


def nearest_answers(encoder: TextEncoder, phrases: Sequence[str], training: Sequence[Pair]) -> list[str]:
    """For each phrase the completion of the training pair whose phrase is most like it."""
    cosines_PT = encoder.embed(phrases) @ encoder.embed([pair.phrase for pair in training]).T
    return [training[number].completion for number in cosines_PT.argmax(1).tolist()]


def unigram_loss(tokenizer: PreTrainedTokenizerBase, training: Sequence[Pair], test: Sequence[Pair]) -> float:
    """Loss in nats per completion token of who knows how often each token is written in training, and nothing else."""

    def tokens(pairs: Sequence[Pair]) -> torch.Tensor:
        rows = (encode(tokenizer, pair)[1] for pair in pairs)
        return torch.tensor([token for row in rows for token in row if token != IGNORED])

    counts_V = torch.bincount(tokens(training), minlength=len(tokenizer)).double() + 1  # none is impossible
    return float(-(counts_V / counts_V.sum()).log()[tokens(test)].mean())
