"""Which samples of `clean` are nearly the same as a better one, and give way to it.

The better text is the longer one, the better picture the larger one, and of two as good ones the smaller id. What users
taught gives way to nothing, and nothing to it: it is there because it differs a little.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from components.data import minhash
from components.data.duplicates import groups, is_similar_picture, is_similar_text, similar_pictures, yielding
from components.data.filters import Drop, NearDuplicate, normalise
from components.data.picture import thumbnail
from components.data.sample import LEARNED

_BATCH = 1024


def near_texts(samples: Path, dropped: Container[str], similarity: float) -> dict[str, Drop]:
    """Of a file of samples of the text line without those already dropped: which are nearly the same as another one.

    Compared is all that a sample says, normalised: earlier messages, prompt and answer.
    """
    ids, texts = list[str](), list[str]()
    for row in _rows(samples, dropped, "text", "meta"):
        meta = json.loads(row["meta"])
        said = [*(message["content"] for message in meta.get("history", ())), row["text"], str(meta["completion"])]
        ids.append(row["id"])
        texts.append(normalise(" ".join(said)))
    pairs = yielding(
        groups(len(ids), minhash.similar_texts(texts, similarity)),
        lambda place: (-len(texts[place]), ids[place]),
        lambda one, other: is_similar_text(texts[one], texts[other], similarity),
    )
    return _drops(ids, pairs)


def near_pictures(samples: Path, dropped: Container[str], similarity: float) -> dict[str, Drop]:
    """The same of the image line, by thumbnails; a picture with several captions or masks is no duplicate of itself."""
    ids, areas, digests, thumbnails = list[str](), list[int](), list[bytes](), list[Any]()
    for row in _rows(samples, dropped, "image"):
        ids.append(row["id"])
        with Image.open(io.BytesIO(row["image"])) as picture:
            areas.append(picture.width * picture.height)
        digests.append(hashlib.sha256(row["image"]).digest())
        thumbnails.append(thumbnail(row["image"]))
    thumbnails_NV = np.stack(thumbnails) if thumbnails else np.empty((0, 0), np.float32)
    pairs = yielding(
        groups(len(ids), similar_pictures(thumbnails_NV, similarity)),
        lambda place: (-areas[place], ids[place]),
        lambda one, other: (
            digests[one] != digests[other] and is_similar_picture(thumbnails_NV[one], thumbnails_NV[other], similarity)
        ),
    )
    return _drops(ids, pairs)


def _rows(samples: Path, dropped: Container[str], *columns: str) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(samples) as file:
        for batch in file.iter_batches(_BATCH, columns=["id", "source", *columns]):
            for row in batch.to_pylist():
                if row["id"] not in dropped and row["source"] not in LEARNED:
                    yield row


def _drops(ids: list[str], pairs: Iterator[tuple[int, int]]) -> dict[str, Drop]:
    judge = NearDuplicate()
    return {ids[place]: drop for place, best in pairs if (drop := judge(ids[place], ids[best]))}
