"""Comparisons as labelling tasks, and settled ones as preferences."""

from __future__ import annotations

from sqlalchemy import Engine

from components.annotation import label_studio, tier_store
from components.annotation.reconcile import verdicts
from components.annotation.template import PREFERENCE
from components.config import Annotation
from components.learning import comparisons
from components.learning.comparisons import Comparison, Preference


def task(comparison: Comparison) -> label_studio.Task:
    """What people see: no origins, and nothing proposed, as nothing cheap knows which answer is better."""
    sides = {"left": comparison.left, "right": comparison.right}
    return label_studio.Task(comparison.sample, sides, comparison.phrase, "", 0.0)


def settled(engine: Engine, settings: Annotation) -> list[Preference]:
    """What stands settled in the project of the present template version, in the order of names.

    Whichever template `settings` name now: who goes on to another keeps what was settled.
    """
    project = label_studio.title(settings.model_copy(update={"template": PREFERENCE}))
    rows = tier_store.tasks(engine, project), tier_store.records(engine, project), tier_store.history(engine, project)
    compared = comparisons.known(engine)
    found, _ = verdicts(*rows, dict.fromkeys(compared, ""), PREFERENCE)
    return [Preference(compared[v.sample_id], v.new, v.people, v.kind, v.why, v.time) for v in found]
