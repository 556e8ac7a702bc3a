"""Nearly equal texts among many: candidates by MinHash, each of them compared in full.

Time and memory grow with the number of texts, where `duplicates.similar_texts` misses no pair and takes the square.
Texts in, pairs of positions out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from daft import Series
from numpy.typing import NDArray

from components.data.duplicates import SHINGLE, Pair, is_similar_text, joined

_HASHES = 128
_MISSED = 0.01  # of the pairs that are just as similar as asked for, at most; of more similar ones fewer
_CHUNK = 20_000  # texts hashed at once: 10 MB of hashes
_NEIGHBOURS = 4  # with which a text of a band is compared: a band that very many share takes no square of time
_COMPARED = 10_000  # pairs between two looks at what is joined already
_SPACE = "\u2423"  # stands for a space, at which MinHash would end a shingle
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def similar_texts(texts: Sequence[str], similarity: float) -> Iterator[Pair]:
    """Pairs that join nearly all texts whose sets of four-character shingles have at least that Jaccard similarity.

    Broder 1997 for the hashes, Indyk and Motwani 1998 for their bands: two texts are candidates where all hashes of a
    band are equal. None below the similarity is joined. A pair that others have joined already is left out.
    """
    group_N, count = np.arange(len(texts)), len(texts)
    refuted = np.empty(0, np.int64)
    for band_N in _bands(texts, _rows(similarity)):
        order_N = np.argsort(band_N, kind="stable")
        sorted_N = band_N[order_N]
        for gap in range(1, _NEIGHBOURS + 1):
            same = np.flatnonzero(sorted_N[gap:] == sorted_N[:-gap])
            left, right = order_N[same], order_N[same + gap]
            fresh = ~np.isin(left * count + right, refuted)
            left, right = left[fresh], right[fresh]
            for part in range(0, len(left), _COMPARED):
                first, second = left[part : part + _COMPARED], right[part : part + _COMPARED]
                apart = group_N[first] != group_N[second]
                first, second = first[apart], second[apart]
                similar = _similar(texts, first, second, similarity)
                refuted = np.union1d(refuted, first[~similar] * count + second[~similar])
                first, second = first[similar], second[similar]
                yield from zip(first.tolist(), second.tolist(), strict=True)
                group_N = joined(group_N, first, second)


def _rows(similarity: float) -> int:
    """The most hashes to a band of which all differ for no more than `_MISSED` of the pairs of that similarity."""
    return max(rows for rows in range(1, _HASHES + 1) if (1 - similarity**rows) ** (_HASHES // rows) <= _MISSED)


def _bands(texts: Sequence[str], rows: int) -> NDArray[np.uint64]:
    """Of each band, one number for each text: bands × texts."""
    count = _HASHES // rows
    bands_BN = np.empty((count, len(texts)), np.uint64)
    for start in range(0, len(texts), _CHUNK):
        spaced = [" ".join(text.casefold().replace(" ", _SPACE)) for text in texts[start : start + _CHUNK]]
        hashes = Series.from_pylist(spaced).minhash(num_hashes=count * rows, ngram_size=SHINGLE, hash_function="xxhash")
        hashes_NBR = hashes.to_arrow().flatten().to_numpy().reshape(len(spaced), count, rows).astype(np.uint64)
        band_NB = hashes_NBR[:, :, 0]
        for row in range(1, rows):
            band_NB = band_NB * _FACTOR + hashes_NBR[:, :, row]  # modulo 2 ** 64
        bands_BN[:, start : start + len(spaced)] = band_NB.T
    return bands_BN


def _similar(
    texts: Sequence[str], left: NDArray[np.int64], right: NDArray[np.int64], similarity: float
) -> NDArray[np.bool_]:
    pairs = zip(left.tolist(), right.tolist(), strict=True)
    return np.array([is_similar_text(texts[one], texts[other], similarity) for one, other in pairs], bool)
