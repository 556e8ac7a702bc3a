"""Whether an answer names the picture that its pair means: of pairs with a concept alone.

`naming` is the share of answers whose MiniLM cosine with the concept's name reaches a threshold. To repeat a phrase
that contains the name wins there, so that such phrases are counted apart.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.data.pairs import Pair
from components.evaluation.answers import Scores
from components.evaluation.paired import Values
from components.models.text_encoder import TextEncoder

Chosen = NDArray[np.bool_]


class Naming:
    """The phrases of an evaluation, N in all, of which those count whose pair has a concept."""

    def __init__(self, pairs: Sequence[Pair], encoder: TextEncoder, threshold: float) -> None:
        self.encoder, self.threshold = encoder, threshold
        self.concepts = [pair.concept for pair in pairs]
        self.counted_N: Chosen = np.array([bool(pair.concept) for pair in pairs])
        self.named_N: Chosen = np.array([bool(p.concept) and names(p.phrase, p.concept) for p in pairs])

    def similarity(self, texts: Sequence[str]) -> Values:
        """Of each text and its concept's name."""
        return np.array(similarities(self.encoder, texts, self.concepts))

    def row(self, scores: Scores, similarity_N: Values) -> dict[str, Any]:
        """One writer's figures over all phrases that count, and over those apart that contain the name and do not."""
        apart = {
            "phrases_with_the_name": self.named_N,
            "phrases_without_the_name": self.counted_N & ~self.named_N,
        }
        groups = {
            name: {metric: float(values_N[chosen_N].mean()) for metric, values_N in scores.items()}
            | self._share(similarity_N[chosen_N])
            for name, chosen_N in apart.items()
            if chosen_N.any()
        }
        return self._share(similarity_N[self.counted_N]) | groups

    def document(self) -> dict[str, Any]:
        """What the figures rest on."""
        counts = {
            "samples_with_a_concept": int(self.counted_N.sum()),
            "samples_with_the_name": int(self.named_N.sum()),
        }
        return {"threshold": self.threshold, **counts}

    def _share(self, similarity: Values) -> dict[str, float]:
        return {"naming": float((similarity >= self.threshold).mean()), "similarity": float(similarity.mean())}


def similarities(encoder: TextEncoder, texts: Sequence[str], concepts: Sequence[str]) -> list[float]:
    """Cosine of each text and its concept's name; an empty text names nothing and scores 0."""
    cosines = (encoder.embed(texts) * encoder.embed(concepts)).sum(-1).tolist()
    return [cosine if text else 0.0 for text, cosine in zip(texts, cosines, strict=True)]


def names(phrase: str, concept: str) -> bool:
    """Whether the concept's name stands in the phrase, word by word."""
    return f" {' '.join(_words(concept))} " in f" {' '.join(_words(phrase))} "


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())
