"""Data with known labels to compare strategies on: four that come with the project, or anybody's file of arrays."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from sklearn.datasets import load_digits

from components.annotation.acquisition import Floats
from components.annotation.batch import reduced
from components.data import openmoji, sample
from components.paths import ASSETS, TEXT_SPLIT
from components.stage import StageError
from tests.bench.annotation_replay import Dataset

PHRASES = tuple(TEXT_SPLIT / f"{split}.parquet" for split in ("train", "validation", "test"))
PIXELS = 64
PER_CONCEPT = 2  # phrases: near-duplicates, as users' are, but not five of each
RARE = 20  # rows; smaller groups (flags, components) are left out


def from_file(path: Path) -> Dataset:
    """`x` (rows x features), `y` (a label of each row) and, where rows belong together, `groups`, of an .npz file."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            x, y = arrays["x"], arrays["y"]
            groups = arrays["groups"] if "groups" in arrays else np.arange(len(x))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise StageError(f"{path}: expected an .npz file with the arrays x and y ({error})") from error
    if not (x.ndim == 2 and y.ndim == 1 and len(x) == len(y) == len(groups)):
        raise StageError(
            f"{path}: x {x.shape}, y {y.shape}, groups {groups.shape}; expected rows x features, rows, rows"
        )
    if not (np.issubdtype(x.dtype, np.number) and np.isfinite(x).all()):
        raise StageError(f"{path}: x has values that are no finite numbers; drop or fill those rows")
    return _dataset(path.stem, x, y, groups)


def built_in() -> Iterator[Dataset]:
    """Digits, OpenMoji's groups by picture and by caption, and the groups that users' phrases ask for."""
    from components.models.text_encoder import TextEncoder

    digits = load_digits()
    yield _dataset("digits", digits.data, digits.target, np.arange(len(digits.target)))
    encoder = TextEncoder()
    drawings = _common([one for one in openmoji.samples(ASSETS, PIXELS, None) if isinstance(one, sample.Sample)])
    labels, concepts = _meta(drawings, "group"), _meta(drawings, "concept")
    yield _dataset("OpenMoji captions", encoder.embed([one.text for one in drawings]).numpy(), labels, concepts)
    yield _dataset("OpenMoji pictures", _looks(drawings), labels, concepts)
    seen: Counter[str] = Counter()
    phrases = []
    for phrase in _common([one for path in PHRASES for one in sample.iterate(path)]):
        seen[phrase.meta["concept"]] += 1
        phrases += [phrase] if seen[phrase.meta["concept"]] <= PER_CONCEPT else []
    x_ND = encoder.embed([one.text for one in phrases]).numpy()
    yield _dataset("phrases", x_ND, _meta(phrases, "group"), _meta(phrases, "concept"))


def _dataset(name: str, x_ND: Floats, y: ArrayLike, groups: ArrayLike) -> Dataset:
    classes, y_N = np.unique(np.asarray(y), return_inverse=True)
    if len(classes) < 2:
        raise StageError(f"{name}: {len(classes)} classes in y; a comparison needs at least 2")
    return Dataset(name, reduced(x_ND), y_N, np.asarray(groups))


def _common(samples: Sequence[sample.Sample]) -> list[sample.Sample]:
    """Without rare groups, country flags (told apart by names alone) and the same drawing in other skin tones."""
    plain = [s for s in samples if not s.meta.get("tone") and s.meta.get("subgroup") not in openmoji.FLAGS]
    sizes = Counter(one.meta["group"] for one in plain)
    return [one for one in plain if sizes[one.meta["group"]] >= RARE]


def _meta(samples: Sequence[sample.Sample], key: str) -> list[str]:
    return [one.meta[key] for one in samples]


def _looks(samples: Sequence[sample.Sample]) -> Floats:
    """The picture judge's features, ND; it has seen other artists' drawings only."""
    import torch

    from components.data.picture import decode
    from components.models import judge

    pixels_NHWC = np.stack([decode(one.image or b"", PIXELS) for one in samples])
    pixels_NCHW = torch.from_numpy(pixels_NHWC).permute(0, 3, 1, 2).contiguous()
    network = judge.load()
    with torch.inference_mode():
        return torch.cat([network(batch) for batch in pixels_NCHW.split(256)]).numpy()
