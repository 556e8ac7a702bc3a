"""Which samples people are asked about next, what is proposed for each, and whether more labels are worth having.

The chooser is a logistic regression on embedded captions, trained on settled verdicts alone. A sample's own label
counts as one more answer, as good as a stranger's: where it contradicts the chooser, both are in doubt.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.model_selection import KFold, learning_curve
from sklearn.neighbors import NearestNeighbors

from components.annotation.active.replay import model, probabilities
from components.annotation.active.stopping import CurveError, Outlook, outlook
from components.annotation.active.strategies import DEFAULT, Floats, Mask, Rows, select
from components.annotation.label_studio import Task
from components.annotation.template import LABELS
from components.data.picture import encode_png, load
from components.data.sample import Sample, iterate
from components.stage import StageError

SIDE = 512  # pixels: the longest side an annotator is sent
STRENGTH = 1.0  # inverse regularisation, the middle of what `make bench NAME=annotation` searches
NEIGHBOURS = 10  # with the same label as a sample, all of them, where that is taken for known
FOLDS, POINTS = 5, 6
ENOUGH = 30  # verdicts before which a learning curve says nothing


@dataclass(frozen=True)
class Proposal:
    """A category and how likely it is; an empty one where nothing is known yet."""

    category: str
    score: float


@dataclass(frozen=True)
class Pool:
    """Every sample of the data version, by the id that people know it by: its label (or none) and its caption.

    Beside it stands `x_ND`: the captions, embedded and `reduced`.
    """

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    texts: tuple[str, ...]
    categories: tuple[str, ...]


def identity(sample: Sample) -> str:
    """The id by which annotators know a sample: it stays when a reconciled version becomes the source."""
    kept = sample.meta.get("atelier_id")
    return kept if isinstance(kept, str) else sample.id


def read_pool(split: Path, template: str) -> Pool:
    """The samples of a data version; raises `StageError` where they carry fewer than two labels to choose from."""
    found = [(identity(s), s.label, s.text) for file in sorted(split.glob("*.parquet")) for s in iterate(file)]
    ids, labels, texts = zip(*found, strict=True) if found else ((), (), ())
    if fixed := LABELS[template]:
        return Pool(ids, ("",) * len(ids), texts, fixed)  # whether a sample is good, its own label does not say
    categories = tuple(sorted(set(labels) - {""}))
    if len(categories) < 2:
        raise StageError(f"{split}: {len(categories)} different labels; annotation needs samples of at least two")
    return Pool(ids, labels, texts, categories)


def choose(
    pool: Pool, x_ND: Floats, likely_NC: Floats, asked: AbstractSet[str], count: int, gold_share: float
) -> dict[str, str]:
    """The next samples, by uncertainty and diversity, none of `asked`; gold ones among them with their known label.

    The same state chooses the same samples.
    """
    asked_N = np.array([name in asked for name in pool.ids])
    rng = np.random.default_rng(int(asked_N.sum()))
    gold = _gold(pool, x_ND, asked_N, round(count * gold_share), rng)
    known = {pool.ids[row]: pool.labels[row] for row in gold}
    asked_N[gold] = True
    rows = select(DEFAULT, likely_NC[None], x_ND, asked_N, count - len(gold), rng)
    return {pool.ids[row]: "" for row in rows} | known


def propose(pool: Pool, likely_NC: Floats, wanted: Mapping[str, str]) -> dict[str, Proposal]:
    """What is proposed for these samples; `wanted`: the known label of those that are gold, else empty.

    Every other gold one proposes what is wrong, as confidently: who only submits what is proposed is found out.
    """
    found = {}
    for name, likely_C in zip(pool.ids, likely_NC, strict=True):
        if name in wanted:
            likeliest = np.argsort(-likely_C, kind="stable")
            wrong = wanted[name] and hashlib.sha256(name.encode()).digest()[0] % 2
            score = float(likely_C[likeliest[0]])
            category = pool.categories[likeliest[1 if wrong else 0]] if score > likely_C.min() else ""
            found[name] = Proposal(category, round(score, 3))
    return found


def likely(pool: Pool, x_ND: Floats, settled: Mapping[str, str], right: float) -> Floats:
    """How likely each category of each sample is (NC): the chooser, with one count more of everything, and the label.

    `right`: how often a sample's own label is right.
    """
    place = {category: number for number, category in enumerate(pool.categories)}
    rows, size = _rows(pool, settled), len(place)
    likely_NC = np.full((len(pool.ids), size), 1 / size)
    if len(rows):
        y_K = np.array([place[settled[pool.ids[row]]] for row in rows], np.intp)
        found_NC = probabilities(x_ND[rows], y_K, x_ND, size, STRENGTH)
        likely_NC = (len(rows) * found_NC + 1) / (len(rows) + size)
    labelled = np.array([row for row, label in enumerate(pool.labels) if label], np.intp)
    said = np.array([place[pool.labels[row]] for row in labelled], np.intp)
    evidence_LC = np.full((len(labelled), size), (1 - right) / (size - 1))
    evidence_LC[np.arange(len(labelled)), said] = right
    likely_NC[labelled] *= evidence_LC
    return likely_NC / likely_NC.sum(axis=1, keepdims=True)


def expected_gain(pool: Pool, x_ND: Floats, settled: Mapping[str, str]) -> Outlook | None:
    """What the labels that are left would still add to the chooser's accuracy; None while verdicts are too few to say.

    The accuracy is cross-validated on the verdicts, which are the hard samples, so it is lower than on all.
    """
    rows = _rows(pool, settled)
    y_K = np.array([settled[pool.ids[row]] for row in rows])
    if len(rows) < ENOUGH or len(set(y_K)) < 2:
        return None
    folds = KFold(FOLDS, shuffle=True, random_state=0)
    sizes = np.linspace(0.2, 1, POINTS)
    counts, _, scores = learning_curve(
        model(STRENGTH), x_ND[rows], y_K, cv=folds, train_sizes=sizes, shuffle=True, random_state=0
    )
    known = np.isfinite(scores).all(axis=1)  # a part with one category only trains no model
    left = len(pool.ids) - len(rows)
    try:
        curve = counts[known].astype(float), scores[known].mean(axis=1)
        return outlook(*curve, held_out=len(rows), left=left, rng=np.random.default_rng(0))
    except CurveError:
        return None


def tasks(split: Path, proposals: Mapping[str, Proposal]) -> Iterator[Task]:
    """The samples of these ids as tasks, with their pictures: one by one, as they would not all fit into memory."""
    found = (s for file in sorted(split.glob("*.parquet")) for s in iterate(file))
    return (_task(s, proposals[identity(s)]) for s in found if identity(s) in proposals)


def _rows(pool: Pool, settled: Mapping[str, str]) -> Rows:
    """The samples whose settled label the pool knows."""
    return np.array([row for row, name in enumerate(pool.ids) if settled.get(name) in pool.categories], np.intp)


def _gold(pool: Pool, x_ND: Floats, asked_N: Mask, count: int, rng: np.random.Generator) -> Rows:
    """Samples whose label the nearest captions all carry too: as good as known, and doubted where people disagree."""
    labels_N = np.array(pool.labels)
    if not count or len(labels_N) <= NEIGHBOURS:
        return np.empty(0, np.intp)
    near_NK = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(x_ND).kneighbors()[1]
    alike_N = (labels_N[near_NK] == labels_N[:, None]).all(axis=1) & (labels_N != "")
    return rng.permutation(np.flatnonzero(alike_N & ~asked_N))[:count]


def _task(sample: Sample, proposal: Proposal) -> Task:
    image = load(sample.image or b"")
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    picture = "data:image/png;base64," + base64.b64encode(encode_png(image)).decode()
    return Task(identity(sample), {"image": picture}, sample.text, proposal.category, proposal.score)
