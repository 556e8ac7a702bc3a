"""What a brought pipeline's pictures are measured by: networks that the user names, loaded before anything is painted.

An encoder (CLIP or SigLIP) gives alignment with captions, and features for KID and FID; a head on its embeddings gives
aesthetics; Inception gives the published FID and score, and KID on its features. Knows nothing of who painted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from components.artifact import file_digest
from components.config import EvaluateImage
from components.evaluation.distances import frechet, inception_features, inception_score, kid
from components.models import aesthetics
from components.models import inception as inceptions
from components.models.picture_encoder import PictureEncoder

Figures = dict[str, float | int]


class Features(NamedTuple):
    """Of N pictures, by the encoder and by Inception: None of what is not named."""

    encoded: Tensor | None
    inception: Tensor | None


class Measures:
    """`names` says what measured, by name and by digest of weights."""

    def __init__(self, settings: EvaluateImage) -> None:
        head, network = settings.aesthetics, settings.inception
        self.seed = settings.seed
        self.encoder = PictureEncoder(settings.encoder) if settings.encoder else None
        self.head = aesthetics.load(head, self.encoder.width) if head and self.encoder else None
        self.network = inceptions.load(network) if network else None
        self.names = {"features": self.encoder.name} if self.encoder else {}
        self.names |= {"aesthetics_weights": file_digest(head)} if head else {}
        self.names |= {"inception_weights": file_digest(network)} if network else {}

    def __bool__(self) -> bool:
        return bool(self.names)

    def features(self, pictures_BCHW: Tensor) -> Features:
        """Of uint8 pictures."""
        return Features(
            self.encoder.pictures(pictures_BCHW) if self.encoder else None,
            inception_features(self.network, pictures_BCHW) if self.network else None,
        )

    def captions(self, captions: Sequence[str]) -> Tensor | None:
        return self.encoder.captions(captions) if self.encoder else None

    def nearest(self, captions_NF: Tensor, others: Sequence[str]) -> list[int]:
        """Of each caption the place of the nearest of the others."""
        others_TF = self.captions(others)
        return [] if others_TF is None else (captions_NF @ others_TF.T).argmax(1).tolist()

    def alignment(self, encoded_NF: Tensor, captions_NF: Tensor) -> Figures:
        """The mean cosine of picture and caption, and of SigLIP the mean probability that they belong together."""
        cosines_N = (encoded_NF * captions_NF).sum(1)
        found: Figures = {"alignment": float(cosines_N.mean())}
        if self.encoder and (probabilities_N := self.encoder.probabilities(cosines_N)) is not None:
            found["alignment_probability"] = float(probabilities_N.mean())
        return found

    @torch.inference_mode()
    def alone(self, features: Features, captions_NF: Tensor | None) -> Figures:
        """What pictures of captions score by themselves."""
        found: Figures = {}
        if features.encoded is not None and captions_NF is not None:
            found |= self.alignment(features.encoded, captions_NF)
            if self.head:
                found["aesthetics"] = float(self.head(features.encoded).mean())
        if features.inception is not None and self.network:
            found |= inception_score(self.network, features.inception, self.seed)
        return found

    def beside(self, real: Features, given: Features, captions_NF: Tensor | None, concepts: Sequence[str]) -> Figures:
        """These figures, and how far pictures are from real ones; the i-th of both sets shows `concepts[i]`."""
        found = self.alone(given, captions_NF)
        for prefix, real_NF, given_NF in zip(("", "inception_"), real, given, strict=True):
            if real_NF is not None and given_NF is not None:
                value, error = kid(real_NF, given_NF, concepts)
                found |= {f"{prefix}kid": value, f"{prefix}kid_standard_error": error}
                found[f"{prefix}fid"] = frechet(real_NF, given_NF)
        return found
