"""The annotation flows: people label what the model learns most from, tiers settle it, a data version and a better
chooser come of it.

Short runs over state in the database, which may be repeated or killed at any time; nothing waits for people. What is
asked about the text line stands in `flows.preference`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

from filelock import FileLock, Timeout
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from sqlalchemy import Engine

from components import paths
from components.annotation import batch, label_studio, tier_send, tier_store
from components.annotation.active.datasets import reduced
from components.annotation.active.strategies import Floats
from components.annotation.label_studio import Project, title
from components.annotation.reconcile import prepared_labels, verdicts, write_version
from components.annotation.template import PREFERENCE
from components.annotation.tier_reconcile import reconcile as take_answers
from components.annotation.tier_schema import Task
from components.annotation.tiers import OvertakenError, State
from components.artifact import verify
from components.config import Annotation, Tiers, load
from components.events.database import opened
from flows.environment import ENCODER, ROOT, STATE
from flows.labelling import provide_token
from flows.preference import Comparisons, told_settled

DATA = ROOT / paths.DATA / "image"
LOCK = STATE / "annotate.lock"
BUSY = "another `atelier label` is at work on this project and goes on; nothing was done here"


@task(task_run_name="read-answers", persist_result=False)
def read_answers() -> str:
    """Feed the tiers with what has changed in Label Studio since the last reading."""
    params = load()
    project, tiers = Project(params.annotation), params.annotation.tiers
    labels = sorted(project.categories())
    with opened(params.events.url) as engine:
        found = take_answers(engine, project.title, project.read, labels, tiers)
        for sentence in found.refused:
            get_run_logger().warning("not counted: %s", sentence)
        counts = (
            f"{found.new} new answers, {found.edited} edited, {found.deleted} deleted, {len(found.refused)} refused"
        )
        return "\n".join([counts, *_people(engine, project.title, labels, tiers)])


@task(task_run_name="write-version", persist_result=False)
def write_verdicts() -> str:
    """Write the data version that the settled verdicts make of the prepared samples; says what to do with it."""
    params = load()
    template = params.annotation.template
    if template == PREFERENCE:
        return told_settled(params)
    labels = prepared_labels(DATA / "prepared", DATA / "split", template)
    with opened(params.events.url) as engine:
        name = title(params.annotation)
        rows = tier_store.tasks(engine, name), tier_store.records(engine, name), tier_store.history(engine, name)
    settled, refused = verdicts(*rows, labels, template)
    for sentence in refused:
        get_run_logger().warning("no verdict: %s", sentence)
    if not settled:
        return "nothing is settled yet: no data version was written"
    folder, manifest = write_version(settled, DATA / "prepared", DATA / "split", DATA / "annotated", template)
    path, size = folder.relative_to(ROOT), params.prepare.image.size
    return (
        f"{len(settled)} verdicts: {manifest.metrics['corrected']} samples corrected, "
        f"{manifest.metrics['discarded']} left out\n"
        f"data version {manifest.digest}\n"
        f"in           {path}\n"
        "to make the models from it, set in params.yaml and run `dvc repro`:\n"
        f"prepare:\n  image: {{source: folder, path: {path}, limit: null, size: {size}}}"
    )


class Drawings:
    """The image line's samples, the most useful first as a chooser says that settled verdicts teach."""

    def __init__(self, settings: Annotation, engine: Engine, known: Sequence[Task]) -> None:
        verify(DATA / "split")
        self.settings, self.engine, self.known = settings, engine, known
        self.pool = batch.read_pool(DATA / "split", settings.template)
        self.labels = self.pool.categories
        self.settled = {one.sample: one.label for one in known if one.label}

    def add(self) -> str:
        """Add a batch where annotators run short and it pays; says what the labels that are left are worth."""
        settings, project = self.settings, title(self.settings)
        ended = sum(one.state in tier_send.ENDED for one in self.known)
        chosen_at, outlook = tier_send.chosen(self.engine, project)
        if not tier_send.short(self.known, settings.batch) or ended == chosen_at:
            return outlook
        x_ND, likely_NC = self._likely
        gain = batch.expected_gain(self.pool, x_ND, self.settled)
        stop = gain is not None and gain.enough(settings.worth)
        asked = {one.sample for one in self.known}
        share = settings.tiers.gold_share
        samples = {} if stop else batch.choose(self.pool, x_ND, likely_NC, asked, settings.batch, share)
        outlook = f"{'labelling has stopped paying: ' if stop else ''}{gain}" if gain else ""
        tier_send.add_chosen(self.engine, project, samples, ended, outlook)
        return outlook

    def tasks(self, missing: Sequence[Task]) -> Iterator[label_studio.Task]:
        """What annotators see of these tasks."""
        wanted = {one.sample: one.gold for one in missing}
        return batch.tasks(DATA / "split", batch.propose(self.pool, self._likely[1], wanted))

    @cached_property
    def _likely(self) -> tuple[Floats, Floats]:
        from components.models.text_encoder import TextEncoder

        x_ND = reduced(TextEncoder(ENCODER).embed(self.pool.texts).numpy())
        return x_ND, batch.likely(self.pool, x_ND, self.settled, self.settings.tiers.expected["annotate"])


@task(task_run_name="send", persist_result=False)
def send_next() -> str:
    """Show tasks to the tier that they wait for; where annotators run short, add those that are most worth asking."""
    params = load()
    settings, project = params.annotation, Project(params.annotation)
    with opened(params.events.url) as engine:
        known = tier_store.tasks(engine, project.title)
        asked = (
            Comparisons(params, engine, known) if settings.template == PREFERENCE else Drawings(settings, engine, known)
        )
        address = project.ensure(asked.labels)
        tier_send.catch_up(engine, project)
        outlook = asked.add()
        sent = tier_send.send(engine, project, asked.tasks)
        moved = tier_send.move(engine, project, asked.labels, settings.tiers)
        states = Counter(one.state for one in tier_store.tasks(engine, project.title) if not one.gold)
    waiting = ", ".join(f"{count} {state}" for state in State if (count := states[state]))
    counts = f"{sent} new tasks, {moved} moved to another tab; now {waiting or 'nothing to label'}"
    return "\n".join([counts, *filter(None, [outlook]), f"label at {address}"])


@flow(name="annotate-upload", flow_run_name="annotate-upload", persist_result=False)
def upload() -> str:
    """Give annotators what the models learn most from."""
    return _alone(lambda: [send_next()])


@flow(name="annotate-reconcile", flow_run_name="annotate-reconcile", persist_result=False)
def reconcile() -> str:
    """Count what people have answered, write the data version, and send what comes next."""
    params = load()
    with opened(params.events.url) as engine:
        if not tier_store.tasks(engine, title(params.annotation)):
            return "nobody labels yet: `atelier label upload` opens the project"
    return _alone(lambda: [read_answers(), write_verdicts(), send_next()])


def _alone(steps: Callable[[], list[str]]) -> str:
    """Take the steps unless another run is at them, on this machine or on another; says what came of it."""
    provide_token(load())
    try:
        with FileLock(LOCK, timeout=0):
            told = "\n".join(steps())
    except (Timeout, OvertakenError):
        return BUSY
    create_markdown_artifact(key="annotation", markdown=told.replace("\n", "  \n"))
    return told


def _people(engine: Engine, project: str, labels: Sequence[str], tiers: Tiers) -> list[str]:
    """What a lead should hear about: people who guess, gold that people contradict, tiers with nobody in them."""
    known = {one.task: one for one in tier_store.tasks(engine, project)}
    crowd = tier_store.crowd_of(engine, project, labels, tiers)
    told = [
        f"account {person} is right {100 * crowd.accuracy[person]:.0f} % of the time: what it says hardly counts"
        for person in sorted(crowd.unfit(tiers.min_accuracy))
    ]
    told += [
        f"gold sample {known[one].sample}: {known[one].gold!r} is contradicted, people say {label!r}; it counts for "
        "nobody until `atelier label gold` settles it"
        for one, label in crowd.disputed.items()
    ]
    for state, listed in ((State.REVIEW, tiers.reviewers), (State.ARBITRATE, tiers.arbiters)):
        count = sum(one.state is state for one in known.values())
        if count and not listed:
            told.append(f"{count} tasks wait for somebody to {state} them: list account numbers in annotation.tiers")
    return told
