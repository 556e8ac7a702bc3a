"""Which samples annotators get next, what is proposed for each, and whether more labels are worth having.

The chooser is a logistic regression on embedded captions, trained on settled verdicts alone. A sample's own label
counts as one more answer, as good as a new annotator's: where it contradicts the chooser, both are in doubt.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, learning_curve
from sklearn.neighbors import NearestNeighbors
from sqlalchemy import Engine, select, update

from components.annotation import task_store
from components.annotation.acquisition import Floats, Mask, Rows, mixed
from components.annotation.acquisition import select as select_rows
from components.annotation.label_studio import NewTask, title
from components.annotation.stopping import CurveError, Outlook, outlook
from components.annotation.task_store import PROJECTS, Task
from components.annotation.template import LABELS
from components.annotation.workflow import ENDED, State, Tier
from components.artifact import verify
from components.config import Annotation
from components.data.picture import encode_png, load
from components.data.sample import Sample, iterate
from components.events.database import writing
from components.stage import StageError

SIDE = 512  # pixels: the longest side an annotator is sent
STRENGTH = 1.0  # inverse regularisation, the middle of what `make bench NAME=annotation` searches
NEIGHBOURS = 10  # captions nearest to a sample's; where all carry its label, the sample is gold
FOLDS, POINTS = 5, 6
ENOUGH = 30  # verdicts before which a learning curve says nothing
COMPONENTS = 64  # principal components of the embedded captions


@dataclass(frozen=True)
class Pool:
    """Every sample of the data version, by its id among labelling tasks: its label (or none) and its caption.

    Beside it stands `x_ND`: the captions, embedded and `reduced`.
    """

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    texts: tuple[str, ...]
    categories: tuple[str, ...]


def identity(sample: Sample) -> str:
    """A sample's id among labelling tasks, which it keeps when a reconciled version becomes the source."""
    first = sample.meta.get("atelier_id")
    return first if isinstance(first, str) else sample.id


def read_pool(split: Path, template: str) -> Pool:
    """The samples of a data version; raises `StageError` where they carry fewer than two labels to choose from."""
    rows = [(identity(s), s.label, s.text) for s in samples_of(split)]
    ids, labels, texts = zip(*rows, strict=True) if rows else ((), (), ())
    if fixed := LABELS[template]:
        return Pool(ids, ("",) * len(ids), texts, fixed)  # whether a sample is good, its own label does not say
    categories = tuple(sorted(set(labels) - {""}))
    if len(categories) < 2:
        raise StageError(f"{split}: {len(categories)} different labels; annotation needs samples of at least two")
    return Pool(ids, labels, texts, categories)


def choose(
    pool: Pool, x_ND: Floats, likely_NC: Floats, excluded: AbstractSet[str], count: int, gold_share: float
) -> dict[str, str]:
    """The next samples, by uncertainty and diversity, none of `excluded`; gold ones among them, with their label.

    The same state chooses the same samples.
    """
    excluded_N = np.array([name in excluded for name in pool.ids])
    rng = np.random.default_rng(int(excluded_N.sum()))
    gold = _gold(pool, x_ND, excluded_N, round(count * gold_share), rng)
    gold_labels = {pool.ids[row]: pool.labels[row] for row in gold}
    excluded_N[gold] = True
    rows = select_rows(mixed, likely_NC[None], x_ND, excluded_N, count - len(gold), rng)
    return {pool.ids[row]: "" for row in rows} | gold_labels


def propose(pool: Pool, likely_NC: Floats, samples: Mapping[str, str]) -> dict[str, tuple[str, float]]:
    """The category proposed for each of these samples (empty where all are equally likely), and how likely it is.

    `samples`: the gold label of each, empty where it has none. Every other gold sample proposes what is wrong, as
    confidently: it shows who only submits what is proposed.
    """
    proposals = {}
    for name, likely_C in zip(pool.ids, likely_NC, strict=True):
        if name in samples:
            likeliest = np.argsort(-likely_C, kind="stable")
            wrong = samples[name] and hashlib.sha256(name.encode()).digest()[0] % 2
            score = float(likely_C[likeliest[0]])
            category = pool.categories[likeliest[1 if wrong else 0]] if score > likely_C.min() else ""
            proposals[name] = category, round(score, 3)
    return proposals


def likely(pool: Pool, x_ND: Floats, settled: Mapping[str, str], right: float) -> Floats:
    """How likely each category of each sample is (NC): the chooser, with one count more of everything, and the label.

    `right`: how often a sample's own label is right.
    """
    column = {category: number for number, category in enumerate(pool.categories)}
    rows, size = _rows(pool, settled), len(column)
    likely_NC = np.full((len(pool.ids), size), 1 / size)
    if len(rows):
        y_K = np.array([column[settled[pool.ids[row]]] for row in rows], np.intp)
        predicted_NC = probabilities(x_ND[rows], y_K, x_ND, size, STRENGTH)
        likely_NC = (len(rows) * predicted_NC + 1) / (len(rows) + size)
    labelled = np.array([row for row, label in enumerate(pool.labels) if label], np.intp)
    own = np.array([column[pool.labels[row]] for row in labelled], np.intp)
    evidence_LC = np.full((len(labelled), size), (1 - right) / (size - 1))
    evidence_LC[np.arange(len(labelled)), own] = right
    likely_NC[labelled] *= evidence_LC
    return likely_NC / likely_NC.sum(axis=1, keepdims=True)


def expected_gain(pool: Pool, x_ND: Floats, settled: Mapping[str, str]) -> Outlook | None:
    """What the labels that are left would still add to the chooser's accuracy; None while verdicts are too few.

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
    trained = np.isfinite(scores).all(axis=1)  # a part with one category only trains no model
    left = len(pool.ids) - len(rows)
    try:
        curve = counts[trained].astype(float), scores[trained].mean(axis=1)
        return outlook(*curve, held_out=len(rows), left=left, rng=np.random.default_rng(0))
    except CurveError:
        return None


def payloads(split: Path, proposals: Mapping[str, tuple[str, float]]) -> Iterator[NewTask]:
    """The tasks of these samples, with their pictures: an iterator, as all of them would not fit into memory."""
    for sample in samples_of(split):
        if proposal := proposals.get(identity(sample)):
            image = load(sample.image or b"")
            image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
            picture = "data:image/png;base64," + base64.b64encode(encode_png(image)).decode()
            yield NewTask(identity(sample), {"image": picture}, sample.text, *proposal)


def samples_of(split: Path) -> Iterator[Sample]:
    """Every sample of a data version."""
    return (sample for file in sorted(split.glob("*.parquet")) for sample in iterate(file))


def reduced(x_ND: Floats) -> Floats:
    """At most 64 principal components, for speed; all together of deviation 1, so one range of regularisation fits."""
    x_ND = np.asarray(x_ND, np.float64)
    reduced_ND = PCA(min(COMPONENTS, *x_ND.shape), svd_solver="full").fit_transform(x_ND)
    return reduced_ND / (reduced_ND.std() or 1.0)


def model(strength: float) -> LogisticRegression:
    """The chooser; `strength` of the inverse regularisation."""
    return LogisticRegression(C=strength, max_iter=200, tol=1e-3)


def probabilities(x_KD: Floats, y_K: NDArray[np.intp], x_ND: Floats, classes: int, strength: float) -> Floats:
    """Class probabilities of the rows `x_ND`, NC, learned from labelled ones; a class without a label has none."""
    seen = np.unique(y_K)
    predicted_NC = np.zeros((len(x_ND), classes))
    predicted_NC[:, seen] = model(strength).fit(x_KD, y_K).predict_proba(x_ND) if len(seen) > 1 else 1.0
    return predicted_NC


def runs_short(tasks: Sequence[Task], batch: int) -> bool:
    """Whether annotators have less than half a batch before them."""
    return 2 * sum(task.state is State.ANNOTATE and not task.gold for task in tasks) < batch


def last_choice(engine: Engine, project: str) -> tuple[int, str]:
    """How many tasks had ended when samples were last chosen (-1: never), and the outlook that was written then."""
    query = select(PROJECTS.c.chosen_at, PROJECTS.c.outlook).where(PROJECTS.c.project == project)
    with engine.connect() as connection:
        row = connection.execute(query).first()
    return (row.chosen_at, row.outlook) if row else (-1, "")


def add_choice(engine: Engine, project: str, samples: Mapping[str, str], ended: int, outlook: str) -> int:
    """Add the chosen samples (gold ones with their label) as tasks; returns how many are new."""
    added = task_store.add_tasks(engine, project, samples, "the chooser")
    with writing(engine, f"choice of {project}") as connection:
        values = {"chosen_at": ended, "outlook": outlook}
        connection.execute(update(PROJECTS).where(PROJECTS.c.project == project).values(values))
    return added


class SampleSource:
    """Labelling tasks of the image line's samples, the most useful first as the chooser has learned from verdicts.

    `split`: the data version; `encoder`: the folder of the text encoder.
    """

    def __init__(self, settings: Annotation, engine: Engine, tasks: Sequence[Task], split: Path, encoder: Path) -> None:
        verify(split)
        self.settings, self.engine, self.tasks = settings, engine, tasks
        self.split, self.encoder, self.pool = split, encoder, read_pool(split, settings.template)
        self.labels = self.pool.categories
        self.settled = {task.sample: task.label for task in tasks if task.label}

    def add_batch(self) -> str:
        """Add a batch where annotators run short and it pays; returns the outlook: what the labels left are worth."""
        settings, project = self.settings, title(self.settings)
        ended = sum(task.state in ENDED for task in self.tasks)
        chosen_at, outlook = last_choice(self.engine, project)
        if not runs_short(self.tasks, settings.batch) or ended == chosen_at:
            return outlook
        x_ND, likely_NC = self._likely
        gain = expected_gain(self.pool, x_ND, self.settled)
        stop = gain is not None and gain.enough(settings.worth)
        present = {task.sample for task in self.tasks}
        share = settings.tiers.gold_share
        samples = {} if stop else choose(self.pool, x_ND, likely_NC, present, settings.batch, share)
        outlook = f"{'labelling has stopped paying: ' if stop else ''}{gain}" if gain else ""
        add_choice(self.engine, project, samples, ended, outlook)
        return outlook

    def payloads(self, missing: Sequence[Task]) -> Iterator[NewTask]:
        """What annotators see of these tasks."""
        samples = {task.sample: task.gold for task in missing}
        return payloads(self.split, propose(self.pool, self._likely[1], samples))

    @cached_property
    def _likely(self) -> tuple[Floats, Floats]:
        from components.models.text_encoder import TextEncoder  # imports PyTorch

        x_ND = reduced(TextEncoder(self.encoder).embed(self.pool.texts).numpy())
        return x_ND, likely(self.pool, x_ND, self.settled, self.settings.tiers.expected[Tier.ANNOTATE])


def _rows(pool: Pool, settled: Mapping[str, str]) -> Rows:
    """The rows of samples whose settled label is one of the pool's categories."""
    return np.array([row for row, name in enumerate(pool.ids) if settled.get(name) in pool.categories], np.intp)


def _gold(pool: Pool, x_ND: Floats, excluded_N: Mask, count: int, rng: np.random.Generator) -> Rows:
    """Samples whose label all of the nearest captions carry too: as good as known, doubted where people disagree."""
    labels_N = np.array(pool.labels)
    if not count or len(labels_N) <= NEIGHBOURS:
        return np.empty(0, np.intp)
    near_NK = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(x_ND).kneighbors()[1]
    alike_N = (labels_N[near_NK] == labels_N[:, None]).all(axis=1) & (labels_N != "")
    return rng.permutation(np.flatnonzero(alike_N & ~excluded_N))[:count]
