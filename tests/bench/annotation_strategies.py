"""The strategies that the project's own is compared with, each a function as in `acquisition.py`."""

from __future__ import annotations

import numpy as np

from components.annotation.acquisition import (
    Floats,
    Mask,
    Rows,
    Strategy,
    least_covered,
    mixed,
    typiclust,
    uncertainty,
)
from components.annotation.acquisition import select as select_by

DEFAULT = "mixed"


def select(
    name: str,
    probabilities_MNC: Floats,
    embeddings_ND: Floats,
    labelled_N: Mask,
    count: int,
    rng: np.random.Generator,
) -> Rows:
    """The next rows by the strategy of that name; raises `ValueError` for a name that is none."""
    if name not in STRATEGIES:
        raise ValueError(f"strategy {name!r}: not one of {', '.join(STRATEGIES)}")
    return select_by(STRATEGIES[name], probabilities_MNC, embeddings_ND, labelled_N, count, rng)


def random(_: Floats, __: Floats, labelled_N: Mask, count: int, rng: np.random.Generator) -> Rows:
    """By chance: what every other strategy has to beat."""
    return rng.permutation(np.flatnonzero(~labelled_N))[:count]


def entropy(probabilities_MNC: Floats, _: Floats, labelled_N: Mask, count: int, rng: np.random.Generator) -> Rows:
    """The greatest entropy of the predicted classes (Settles 2009, Active Learning Literature Survey, 2.1)."""
    return _highest(_entropy(probabilities_MNC.mean(0)), labelled_N, count, rng)


def margin(probabilities_MNC: Floats, _: Floats, labelled_N: Mask, count: int, rng: np.random.Generator) -> Rows:
    """The smallest lead of the likeliest class over the second (Scheffer, Decomain and Wrobel 2001)."""
    return _highest(uncertainty(probabilities_MNC), labelled_N, count, rng)


def bald(probabilities_MNC: Floats, _: Floats, labelled_N: Mask, count: int, rng: np.random.Generator) -> Rows:
    """What the members disagree on: mutual information of label and model (Houlsby et al. 2011, arXiv:1112.5745).

    With members from dropout as in Gal, Islam and Ghahramani (2017, arXiv:1703.02910); a single member knows no
    disagreement, and the choice is then by chance.
    """
    disagreement_N = _entropy(probabilities_MNC.mean(0)) - _entropy(probabilities_MNC).mean(0)
    return _highest(disagreement_N.round(12), labelled_N, count, rng)


def core_set(_: Floats, embeddings_ND: Floats, labelled_N: Mask, count: int, rng: np.random.Generator) -> Rows:
    """The farthest from all labels by cosine, one after the other (`least_covered`)."""
    units_ND = embeddings_ND / np.maximum(np.linalg.norm(embeddings_ND, axis=1, keepdims=True), 1e-12)
    free = rng.permutation(np.flatnonzero(~labelled_N))
    return free[least_covered(units_ND[free], units_ND[labelled_N], count, near=np.inf)]


def badge(
    probabilities_MNC: Floats, embeddings_ND: Floats, labelled_N: Mask, count: int, rng: np.random.Generator
) -> Rows:
    """k-means++ over the last layer's gradients, were the likeliest class right (Ash et al. 2020, arXiv:1906.03671).

    A gradient is the outer product of (probabilities - one-hot) and the embedding, so distances need no N x CD array.
    """
    free = np.flatnonzero(~labelled_N)
    errors_NC = probabilities_MNC.mean(0)[free]
    errors_NC[np.arange(len(free)), errors_NC.argmax(1)] -= 1
    embeddings_ND = embeddings_ND[free]
    norms_N = (errors_NC**2).sum(1) * (embeddings_ND**2).sum(1)
    chosen: list[int] = []
    nearest_N = norms_N.copy()  # squared distance to the nearest chosen gradient; to zero before there is one
    while len(chosen) < count:
        nearest_N[chosen] = 0
        open_N = np.ones(len(free), bool)
        open_N[chosen] = False
        weights_N = nearest_N if nearest_N.sum() > 0 else open_N.astype(float)
        new = int(rng.choice(len(free), p=weights_N / weights_N.sum()))
        chosen.append(new)
        products_N = (errors_NC @ errors_NC[new]) * (embeddings_ND @ embeddings_ND[new])
        distances_N = np.maximum(norms_N + norms_N[new] - 2 * products_N, 0)
        nearest_N = distances_N if len(chosen) == 1 else np.minimum(nearest_N, distances_N)
    return free[chosen]


def _entropy(probabilities: Floats) -> Floats:
    return -(probabilities * np.log(np.maximum(probabilities, 1e-12))).sum(-1)


def _highest(scores_N: Floats, labelled_N: Mask, count: int, rng: np.random.Generator) -> Rows:
    free = rng.permutation(np.flatnonzero(~labelled_N))
    return free[np.argsort(-scores_N[free], kind="stable")[:count]]


STRATEGIES: dict[str, Strategy] = {
    "random": random,
    "entropy": entropy,
    "margin": margin,
    "bald": bald,
    "core-set": core_set,
    "badge": badge,
    "typiclust": typiclust,
    "mixed": mixed,
}
