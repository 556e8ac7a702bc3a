"""Which samples are nearly the same: pairs of similar texts and of similar pictures, joined into groups.

Pure: texts and pixels in, pairs of positions out. Daft computes the MinHashes.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("DAFT_ANALYTICS_ENABLED", "0")
os.environ.setdefault("DAFT_PROGRESS_BAR", "0")

import daft
from daft.functions import minhash

Pair = tuple[int, int]
# Sixteen bands of four hashes find a pair of Jaccard similarity 0.8 with probability 0.9998, one of 0.6 with 0.89.
_BANDS, _ROWS = 16, 4
# Four characters rather than words: independent of whether a language puts spaces between its words.
_SHINGLE = 4
# Rows compared with all others at once: 512 × 100,000 similarities are 200 MB.
_BLOCK = 512


def groups(count: int, pairs: Iterable[Pair]) -> list[int]:
    """The group of each of `count` positions, named by its smallest member: union-find over the pairs."""
    parent = list(range(count))
    for left, right in pairs:
        low, high = sorted((_root(parent, left), _root(parent, right)))
        parent[high] = low
    return [_root(parent, position) for position in range(count)]


def same_key(keys: Sequence[str]) -> Iterator[Pair]:
    """Pairs that join all positions with one key; an empty key joins nothing."""
    first: dict[str, int] = {}
    for position, key in enumerate(keys):
        if key and first.setdefault(key, position) != position:
            yield first[key], position


def similar_texts(texts: Sequence[str], similarity: float) -> Iterator[Pair]:
    """Pairs whose sets of four-character shingles have at least that Jaccard similarity.

    Candidates share a band of MinHashes; each is checked exactly against the first text of every cluster in its band.
    """
    shingles = [_shingles(text) for text in texts]
    for bucket in _buckets(shingles):
        leaders: list[int] = []
        for position in bucket:
            leader = next((a for a in leaders if _jaccard(shingles[a], shingles[position]) >= similarity), None)
            if leader is None:
                leaders.append(position)
            else:
                yield leader, position


def similar_pictures(thumbnails: NDArray[np.float32], similarity: float) -> Iterator[Pair]:
    """Pairs of thumbnails (samples × values in 0 to 1) whose root mean square difference is at most 1 − similarity.

    Compares all with all, in blocks: quadratic, a minute for 100,000 pictures.
    """
    squares = (thumbnails**2).sum(axis=1)
    limit = (1 - similarity) ** 2 * thumbnails.shape[1] + 1e-4  # float32 rounding of equal pictures
    for start in range(0, len(thumbnails), _BLOCK):
        block = thumbnails[start : start + _BLOCK]
        distances = squares[start : start + _BLOCK, None] + squares[None] - 2 * block @ thumbnails.T
        for left, right in np.argwhere(distances <= limit):
            if start + left < right:
                yield int(start + left), int(right)


def _root(parent: list[int], position: int) -> int:
    while parent[position] != position:
        parent[position] = parent[parent[position]]
        position = parent[position]
    return position


def _shingles(text: str) -> frozenset[str]:
    folded = text.casefold().replace(" ", "_")
    return frozenset(folded[i : i + _SHINGLE] for i in range(max(len(folded) - _SHINGLE + 1, 1)))


def _jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    return len(left & right) / len(left | right)


def _buckets(shingles: Sequence[frozenset[str]]) -> Iterator[list[int]]:
    """Positions that share a band, in ascending order; bands nobody shares are left out."""
    if not shingles:
        return  # Daft types an empty column as null, which has no MinHash
    frame = daft.from_pydict({"text": [" ".join(sorted(s)) for s in shingles]})
    hashes = frame.select(minhash(daft.col("text"), num_hashes=_BANDS * _ROWS, ngram_size=1)).to_pydict()["text"]
    table: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for position, row in enumerate(hashes):
        for band in range(_BANDS):
            table[(band, *row[band * _ROWS : (band + 1) * _ROWS])].append(position)
    yield from (bucket for bucket in table.values() if len(bucket) > 1)
