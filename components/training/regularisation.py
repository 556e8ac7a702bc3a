"""Regularisation pictures: of the class that a user's own belong to, so that a pipeline keeps what it knows of it.

Prior preservation, as in DreamBooth (Ruiz et al. 2022, arXiv:2208.12242). They are read here and learnt from, and are
no samples of the user's: no stage before sees them, and nothing is measured on them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from PIL.Image import Image

from components.artifact import canonical
from components.config import Clean, Regularisation
from components.data.filters import LARGEST_SIDE_OF_PIPELINES, Candidate, normalise, pipeline_filters
from components.data.folder import image_folder
from components.data.picture import load
from components.data.sample import Reject, Sample
from components.stage import StageError
from components.training import trainer

KEY = "train.image.regularisation.path"
SHOWN = 3


def read(wanted: Regularisation, clean: Clean, held_out: Sequence[Sample]) -> list[Sample]:
    """The folder's pictures that a pipeline can learn and that are none of the held-out ones; says which are left out.

    Raises `StageError` where there is none.
    """
    seen = {_digest(load(sample.image or b"")) for sample in held_out}
    filters, kept, faults = pipeline_filters(clean), list[Sample](), list[str]()
    for row in image_folder(wanted.path, KEY):
        if isinstance(row, Reject):
            faults.append(f"{row.sample.source}: {row.reason}")
            continue
        candidate = Candidate(normalise(row.text), data=row.image, mask_data=row.mask)
        if drop := next(filter(None, (judge(candidate) for judge in filters)), None):
            faults.append(f"{row.source}: {drop.reason}")
            continue
        if max(candidate.picture.size) > LARGEST_SIDE_OF_PIPELINES:
            candidate.shrink(LARGEST_SIDE_OF_PIPELINES)
            image, mask = candidate.encoded()
            row = replace(row, image=image, mask=mask)
        if _digest(candidate.picture) in seen:
            faults.append(f"{row.source}: it is one of the held-out pictures, which nothing is to learn from")
        else:
            kept.append(row)
    if not kept:
        raise StageError(f"{KEY}: {wanted.path} holds no picture to learn from: {_listed(faults) or 'it has no row'}")
    if faults and trainer.is_writer():
        print(f"train image: {len(faults)} regularisation pictures are left out: {_listed(faults)}", flush=True)
    return kept


def times(own: int, others: int, share: float) -> list[float]:
    """How often each of `own` and then of `others` pictures comes in an epoch, so that `share` of them are others."""
    return [1.0] * own + [share / (1 - share) * own / others] * others if others else [1.0] * own


def digest(samples: Sequence[Sample]) -> str:
    """SHA-256 of pictures, captions and masks in their order."""
    rows = [[s.text, *(hashlib.sha256(part or b"").hexdigest() for part in (s.image, s.mask))] for s in samples]
    return hashlib.sha256(canonical(rows).encode()).hexdigest()


def _digest(picture: Image) -> str:
    """Of a picture, whatever file it came in."""
    return hashlib.sha256(repr(picture.size).encode() + picture.tobytes()).hexdigest()


def _listed(faults: Sequence[str]) -> str:
    more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    return "; ".join(faults[:SHOWN]) + more
