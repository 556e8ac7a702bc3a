"""Active learning: which rows to label next. A strategy is a function from arrays to row numbers, called by `select`.

`mixed` is what labelling uses; `make bench NAME=annotation` compares it with others. Knows no model, file or server.

Shapes: M members (an ensemble, bootstrap fits, or passes with dropout on; one plain model is M = 1), N rows, C classes,
D features. Labelled rows stay in the arrays and are marked, since where labels are is half of what a strategy needs.
Ties are broken by the generator, so that the order of the rows decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import NearestNeighbors

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]
Rows = NDArray[np.intp]
# Rows are positions in the arrays; `labelled_N` leaves at least `count` of them free, and `count` is 1 or more.
Strategy = Callable[[Floats, Floats, Mask, int, np.random.Generator], Rows]

NEIGHBOURS = 20  # of TypiClust, as in the paper
# `mixed` weighs candidates, the most uncertain tenth, by how much uncertainty they cover among landmarks. The bounds
# keep its arrays at 2 million values for a pool of any size.
CANDIDATES, LANDMARKS, UNCERTAIN_SHARE, PER_PLACE = 1000, 2000, 0.1, 10


def select(
    strategy: Strategy,
    probabilities_MNC: Floats,
    embeddings_ND: Floats,
    labelled_N: Mask,
    count: int,
    rng: np.random.Generator,
) -> Rows:
    """The next `count` rows to label by the strategy, or all that are left where those are fewer.

    Never a labelled row and never one twice. Where no model exists yet, any constant probabilities will do.
    """
    free = np.flatnonzero(~labelled_N)
    if count >= len(free):  # nothing is left to choose between
        return rng.permutation(free)
    if count < 1:
        return np.empty(0, np.intp)
    return strategy(probabilities_MNC, embeddings_ND, labelled_N, count, rng)


def least_covered(candidates_BD: Floats, covered_RD: Floats, count: int, near: float) -> list[int]:
    """Positions of at most `count` candidates, each the farthest from what is covered and from those chosen before it.

    The greedy core-set of Sener and Savarese (2018, arXiv:1708.00489) on unit vectors, by cosine; ends where every
    candidate that is left has a similarity of `near` to something covered (infinite: only where none is left).
    """
    if not len(candidates_BD):
        return []
    closest_B = (candidates_BD @ covered_RD.T).max(axis=1) if len(covered_RD) else np.full(len(candidates_BD), -1.0)
    chosen: list[int] = []
    while len(chosen) < count:
        farthest = int(closest_B.argmin())
        if closest_B[farthest] >= near:
            break
        chosen.append(farthest)
        closest_B = np.maximum(closest_B, candidates_BD @ candidates_BD[farthest])
        closest_B[farthest] = np.inf  # never again, even where all that are left are its equals
    return chosen


def typiclust(_: Floats, embeddings_ND: Floats, labelled_N: Mask, count: int, rng: np.random.Generator) -> Rows:
    """The most typical row of each of the largest clusters without a label (Hacohen et al. 2022, arXiv:2202.02794).

    Needs no model, so it serves the cold start. Typical is who has the nearest neighbours in its own cluster.
    """
    clusters = min(int(labelled_N.sum()) + count, len(np.unique(embeddings_ND, axis=0)))
    cluster_N = KMeans(clusters, n_init=1, random_state=int(rng.integers(2**31))).fit_predict(embeddings_ND)
    labels_C = np.bincount(cluster_N[labelled_N], minlength=clusters)
    free_C = np.bincount(cluster_N[~labelled_N], minlength=clusters)
    chosen: list[int] = []
    while len(chosen) < count:
        # The fewest labels first, then the largest; a cluster comes again only once all others have come.
        cluster = np.lexsort((-free_C, labels_C, free_C == 0))[0]
        mine = np.setdiff1d(np.flatnonzero((cluster_N == cluster) & ~labelled_N), chosen)
        chosen.append(int(mine[_typical(embeddings_ND[mine])]))
        labels_C[cluster] += 1
        free_C[cluster] -= 1
    return np.array(chosen, np.intp)


def mixed(
    probabilities_MNC: Floats, embeddings_ND: Floats, labelled_N: Mask, count: int, rng: np.random.Generator
) -> Rows:
    """Of the most uncertain rows those that stand for the most other uncertain rows.

    Uncertainty herding (Bae, Oliveira and Sutherland 2025, arXiv:2412.20644): greedily the row whose kernel adds most
    to the covered uncertainty; what a label or an earlier choice covers counts no more, so a batch has no two alike.
    Candidates are few as in cluster-margin (Citovsky et al. 2021, arXiv:2107.14263), uncertainty is squared (measured:
    `make bench NAME=annotation`), and the first batch is TypiClust's. The kernel is as wide as the way to the nearest
    label, so it narrows as labels come.
    """
    if not labelled_N.any():
        return typiclust(probabilities_MNC, embeddings_ND, labelled_N, count, rng)
    free = rng.permutation(np.flatnonzero(~labelled_N))
    weights_N = uncertainty(probabilities_MNC) ** 2
    most = min(max(int(UNCERTAIN_SHARE * len(free)), PER_PLACE * count), CANDIDATES)
    candidates = free[np.argsort(-weights_N[free], kind="stable")[: max(most, count)]]
    landmarks = free[:LANDMARKS]
    to_label_L = _nearest(embeddings_ND[landmarks], embeddings_ND[labelled_N])
    width = 2 * np.median(to_label_L**2) or 1.0
    distances_LB = pairwise_distances(embeddings_ND[landmarks], embeddings_ND[candidates], metric="sqeuclidean")
    kernel_LB = np.exp(-distances_LB / width).astype(np.float32)
    covered_L = np.exp(-(to_label_L**2) / width).astype(np.float32)
    weights_L = weights_N[landmarks].astype(np.float32)
    chosen: list[int] = []
    while len(chosen) < count:
        gains_B = weights_L @ np.maximum(kernel_LB - covered_L[:, None], 0)
        gains_B[chosen] = -1
        chosen.append(int(gains_B.argmax()))
        covered_L = np.maximum(covered_L, kernel_LB[:, chosen[-1]])
    return candidates[chosen]


def uncertainty(probabilities_MNC: Floats) -> Floats:
    """1 minus the lead of the likeliest class over the second, of the members' mean: N values from 0 (sure) to 1."""
    mean_NC = probabilities_MNC.mean(0)
    if mean_NC.shape[1] < 2:
        return np.zeros(len(mean_NC))
    best_N2 = np.partition(mean_NC, -2, axis=1)[:, -2:]
    return 1 - (best_N2[:, 1] - best_N2[:, 0])


def _nearest(from_ND: Floats, to_KD: Floats) -> Floats:
    """Distance of each row to the nearest of the others."""
    return NearestNeighbors(n_neighbors=1).fit(to_KD).kneighbors(from_ND)[0][:, 0]


def _typical(members_ND: Floats) -> int:
    """Which row has the smallest mean distance to its neighbours among these."""
    neighbours = min(NEIGHBOURS, len(members_ND) - 1)
    if not neighbours:
        return 0
    return int(NearestNeighbors(n_neighbors=neighbours).fit(members_ND).kneighbors()[0].mean(1).argmin())
