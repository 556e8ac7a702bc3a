"""Which samples are nearly the same: pairs of similar texts and of similar pictures, joined into groups.

Pure: texts and pixels in, pairs of positions out. No pair at or above the similarity asked for is missed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

Pair = tuple[int, int]
# Four characters rather than words: independent of whether a language puts spaces between its words.
SHINGLE = 4
# Rows compared with all others at once: 512 × 100,000 similarities are 200 MB.
_BLOCK = 512
# Candidates looked at together, and those of them that are compared shingle by shingle.
_CANDIDATES, _VERIFIED = 4_000_000, 50_000
_PAIRS = 100_000  # joined at once


def groups(count: int, pairs: Iterable[Pair]) -> list[int]:
    """The group of each of `count` positions, named by its smallest member.

    Holds a part of the pairs at a time, as there may be as many as the square of `count`.
    """
    group_N, rest = np.arange(count), iter(pairs)
    while len(part := np.fromiter(islice(rest, _PAIRS), np.dtype((np.int64, 2)))):
        group_N = joined(group_N, *part.T)
    return [int(position) for position in group_N]


def same_key(keys: Sequence[str]) -> Iterator[Pair]:
    """Pairs that join all positions with one key; an empty key joins nothing."""
    first: dict[str, int] = {}
    for position, key in enumerate(keys):
        if key and first.setdefault(key, position) != position:
            yield first[key], position


def similar_texts(texts: Sequence[str], similarity: float) -> Iterator[Pair]:
    """Pairs that join all texts whose sets of four-character shingles have at least that Jaccard similarity.

    Exact, by prefix filtering (Bayardo, Ma and Srikant 2007): of two such sets, each with its rarest shingles first,
    the first |set| − ⌈similarity · |set|⌉ + 1 have one in common. A pair that others have joined already is left out.
    """
    if not texts:
        return
    shingles_NV = _shingle_matrix(texts)
    sizes_N = np.diff(shingles_NV.indptr)
    prefixes_NV = _prefixes(shingles_NV, sizes_N, similarity)
    group_N = np.arange(len(texts))
    start = 0
    while start < len(texts):
        prefixes_NV = _undecided(prefixes_NV, group_N)
        end = _block_end(prefixes_NV, start)
        candidates = (prefixes_NV[start:end] @ prefixes_NV.T).tocoo()
        left, right = candidates.row + start, candidates.col
        short, long = np.minimum(sizes_N[left], sizes_N[right]), np.maximum(sizes_N[left], sizes_N[right])
        possible = (left < right) & (group_N[left] != group_N[right]) & (short >= similarity * long - 1e-9)
        left, right = left[possible], right[possible]
        for part in range(0, len(left), _VERIFIED):
            first, second = left[part : part + _VERIFIED], right[part : part + _VERIFIED]
            apart = group_N[first] != group_N[second]
            first, second = _verified(shingles_NV, sizes_N, first[apart], second[apart], similarity)
            yield from zip(first.tolist(), second.tolist(), strict=True)
            group_N = joined(group_N, first, second)
        start = end


def similar_pictures(thumbnails: NDArray[np.float32], similarity: float) -> Iterator[Pair]:
    """Pairs that join all thumbnails (samples × values in 0 to 1) whose root mean square difference is at most
    1 − similarity.

    Compares all with all, in blocks: quadratic, a minute for 100,000 pictures. A pair that others have joined already
    is left out, or pictures that are all alike would make half the square of their number.
    """
    group_N = np.arange(len(thumbnails))
    squares = (thumbnails**2).sum(axis=1)
    limit = _limit(similarity, thumbnails.shape[1])
    for start in range(0, len(thumbnails), _BLOCK):
        block = thumbnails[start : start + _BLOCK]
        distances = squares[start : start + _BLOCK, None] + squares[None] - 2 * block @ thumbnails.T
        for left, near_N in enumerate(distances <= limit, start):
            right = left + 1 + np.flatnonzero(near_N[left + 1 :])
            right = right[group_N[right] != group_N[left]]
            if len(right):
                joined, first = np.unique(group_N[right], return_index=True)
                yield from ((left, position) for position in right[first].tolist())
                group_N[np.isin(group_N, joined)] = group_N[left]


def yielding(
    group_of: Sequence[int], rank: Callable[[int], Any], is_similar: Callable[[int, int], bool]
) -> Iterator[Pair]:
    """Positions that give way, each beside the one that stays and is similar to it, the first by its rank.

    In a group of which some are similar only to one that goes, several stay.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for position, group in enumerate(group_of):
        members[group].append(position)
    for alike in members.values():
        staying: list[int] = []
        for position in sorted(alike, key=rank) if len(alike) > 1 else ():
            best = next((one for one in staying if is_similar(one, position)), None)
            if best is None:
                staying.append(position)
            else:
                yield position, best


def is_similar_text(left: str, right: str, similarity: float) -> bool:
    """Whether two sets of shingles have at least that Jaccard similarity."""
    first, second = _shingles(left), _shingles(right)
    common = len(first & second)
    return common >= similarity * (len(first) + len(second) - common) - 1e-9


def is_similar_picture(left: NDArray[np.float32], right: NDArray[np.float32], similarity: float) -> bool:
    """Whether two thumbnails differ by at most 1 − similarity in root mean square."""
    return float(((left - right) ** 2).sum()) <= _limit(similarity, len(left))


def joined(group_N: NDArray[np.int64], left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """The groups (named by their smallest members) once each position on the left is in that of its right one."""
    if not len(left):
        return group_N
    count = len(group_N)
    graph = csr_array((np.ones(len(left)), (group_N[left], group_N[right])), (count, count))
    _, component_N = connected_components(graph, directed=False)
    _, smallest, index_N = np.unique(component_N[group_N], return_index=True, return_inverse=True)
    return smallest[index_N]


def _limit(similarity: float, values: int) -> float:
    """Of the sum of squared differences, with what float32 rounds equal pictures by."""
    return (1 - similarity) ** 2 * values + 1e-4


def _shingles(text: str) -> set[str]:
    folded = text.casefold()
    return {folded[i : i + SHINGLE] for i in range(max(len(folded) - SHINGLE + 1, 1))}


def _shingle_matrix(texts: Sequence[str]) -> csr_array:
    """Texts × shingles, 1 where a text has one; the columns, and with them each row, from the rarest shingle on."""
    numbers: dict[str, int] = {}
    rows = [np.fromiter((numbers.setdefault(s, len(numbers)) for s in _shingles(text)), np.int64) for text in texts]
    ends_N, columns = np.cumsum([0, *map(len, rows)]), np.concatenate(rows)
    rarest_first_V = np.argsort(np.bincount(columns), kind="stable")
    rank_V = np.empty_like(rarest_first_V)
    rank_V[rarest_first_V] = np.arange(len(rank_V))
    matrix_NV = csr_array((np.ones(len(columns), np.int32), rank_V[columns], ends_N), (len(texts), len(numbers)))
    matrix_NV.sort_indices()
    return matrix_NV


def _prefixes(shingles_NV: csr_array, sizes_N: NDArray[np.int64], similarity: float) -> csr_array:
    """Of each row those shingles, from the rarest on, of which two similar rows have one in common."""
    lengths_N = sizes_N - np.ceil(similarity * sizes_N - 1e-9) + 1
    place = np.arange(shingles_NV.nnz) - np.repeat(shingles_NV.indptr[:-1], sizes_N)
    return _only(shingles_NV, place < np.repeat(lengths_N, sizes_N))


def _undecided(prefixes_NV: csr_array, group_N: NDArray[np.int64]) -> csr_array:
    """`prefixes_NV` without the shingles that only texts of one group have: they join nothing more."""
    group = np.repeat(group_N, np.diff(prefixes_NV.indptr))
    least_V, most_V = np.full(prefixes_NV.shape[1], len(group_N)), np.full(prefixes_NV.shape[1], -1)
    np.minimum.at(least_V, prefixes_NV.indices, group)
    np.maximum.at(most_V, prefixes_NV.indices, group)
    return _only(prefixes_NV, (least_V < most_V)[prefixes_NV.indices])


def _only(matrix: csr_array, keep: NDArray[np.bool_]) -> csr_array:
    """The matrix with those of its entries alone."""
    ends = np.concatenate([[0], np.cumsum(keep)])[matrix.indptr]
    return csr_array((matrix.data[keep], matrix.indices[keep], ends), matrix.shape)


def _block_end(prefixes_NV: csr_array, start: int) -> int:
    """Where a block of rows from `start` ends that has `_CANDIDATES` at most, or one row."""
    texts_V = np.bincount(prefixes_NV.indices, minlength=prefixes_NV.shape[1])
    candidates = np.concatenate([[0], np.cumsum(texts_V[prefixes_NV.indices])])[prefixes_NV.indptr]
    return max(int(np.searchsorted(candidates, candidates[start] + _CANDIDATES, side="right")) - 1, start + 1)


def _verified(
    shingles_NV: csr_array, sizes_N: NDArray[np.int64], left: NDArray[np.int64], right: NDArray[np.int64], bound: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Those of the pairs whose Jaccard similarity is `bound` or more."""
    common = shingles_NV[left].multiply(shingles_NV[right]).sum(axis=1)
    similar = common >= bound * (sizes_N[left] + sizes_N[right] - common) - 1e-9
    return left[similar], right[similar]
