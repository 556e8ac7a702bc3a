"""Which samples are worth a person's look, and the category that is proposed for each.

Nothing is trained: the proposal is the sample's own label, its score the share of the nearest captions (MiniLM cosine)
that carry the same label, and the samples with the lowest scores come first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components.annotation.label_studio import Task
from components.data.picture import encode_png, load
from components.data.sample import Sample, iterate
from components.stage import StageError

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
NEIGHBOURS = 10
PROPOSED_BY = f"label-minilm-{NEIGHBOURS}-neighbours"
SIDE = 512  # pixels: the longest side an annotator is sent
# Samples compared with all others at once: 512 × 100,000 cosines are 200 MB.
_BLOCK = 512


@dataclass(frozen=True)
class Proposal:
    category: str
    score: float


def identity(sample: Sample) -> str:
    """The id by which annotators know a sample: it stays when a reconciled version becomes the source."""
    kept = sample.meta.get("atelier_id")
    return kept if isinstance(kept, str) else sample.id


def tasks(split: Path, embed: Embed, count: int) -> tuple[list[str], list[Task]]:
    """The categories of a data version, and its `count` most doubtful samples as tasks.

    Raises `StageError` where the samples carry fewer than two labels.
    """
    files = sorted(split.glob("*.parquet"))
    outlines = [replace(sample, image=None) for file in files for sample in iterate(file)]
    categories = sorted({sample.label for sample in outlines} - {""})
    if len(categories) < 2:
        raise StageError(f"{split}: {len(categories)} different labels; annotation needs samples of at least two")
    proposals = propose([sample.label for sample in outlines], embed([sample.text for sample in outlines]))
    proposed = {sample.id: proposal for sample, proposal in zip(outlines, proposals, strict=True)}
    doubtful = sorted(proposed, key=lambda i: (proposed[i].score, i))[:count]
    wanted = {i: proposed[i] for i in doubtful}
    found = {s.id: _task(s, wanted[s.id]) for file in files for s in iterate(file) if s.id in wanted}
    return categories, [found[i] for i in doubtful]


def propose(labels: Sequence[str], vectors_BD: NDArray[np.float32]) -> list[Proposal]:
    """A proposal per sample from unit vectors; one without a label gets the most common of its neighbours'."""
    labelled = np.flatnonzero(np.array([bool(label) for label in labels]))
    proposals = []
    for start in range(0, len(labels), _BLOCK):
        cosines_BL = vectors_BD[start : start + _BLOCK] @ vectors_BD[labelled].T
        for row, cosines_L in enumerate(cosines_BL, start):
            cosines_L[labelled == row] = -np.inf  # nobody is their own neighbour
            count = min(NEIGHBOURS, len(labelled) - int(bool(labels[row])))
            nearest = np.argsort(-cosines_L, kind="stable")[:count]
            votes = Counter(labels[labelled[i]] for i in nearest)
            category = labels[row] or votes.most_common(1)[0][0]
            proposals.append(Proposal(category, round(votes[category] / count, 3)))
    return proposals


def _task(sample: Sample, proposal: Proposal) -> Task:
    image = load(sample.image or b"")
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return Task(identity(sample), encode_png(image), sample.text, proposal.category, proposal.score, PROPOSED_BY)
