"""Two answers to one phrase, for people to say which is better: kept in the database, labelled, and settled.

People label a comparison as a task of the template `preference`, in the tiers of `workflow.py`; the comparison holds
what the task shows and where both answers are from. A phrase is compared once and names its comparison. That name also
decides which answer stands on the left: of the older and the newer one neither is favoured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, select

from components.annotation import task_store
from components.annotation.batch import runs_short
from components.annotation.data_version import verdicts
from components.annotation.label_studio import NewTask, title
from components.annotation.phrase_queue import phrase_id, prompt_key
from components.annotation.task_store import Task
from components.annotation.template import Choice, Template
from components.config import Annotation
from components.data.filters import normalise
from components.events.database import insert_new, reading, writing
from components.events.schema import COMPARISONS, storable

LONGEST = 200  # characters of a phrase: more is cut in training, and nobody reads it


@dataclass(frozen=True)
class Candidate:
    """An answer to a phrase, and where it is from."""

    phrase: str
    output: str
    origin: str


@dataclass(frozen=True)
class Comparison:
    """Two answers to a phrase side by side, and where each is from; `sample` is its name among labelling tasks."""

    sample: str
    phrase: str
    left: str
    right: str
    left_origin: str
    right_origin: str


@dataclass(frozen=True)
class Preference:
    """A settled comparison: whose answers it rests on, how the tiers came to it, why and when.

    `choice` is one of `Choice`, empty where the comparison was discarded.
    """

    comparison: Comparison
    choice: str
    people: tuple[str, ...]
    kind: str
    why: str
    time: float

    @property
    def key(self) -> str:
        return prompt_key(self.comparison.phrase)

    @property
    def pair(self) -> tuple[str, str] | None:
        """(better, worse), None where people prefer neither."""
        left, right = self.comparison.left, self.comparison.right
        if self.choice == Choice.LEFT:
            return left, right
        return (right, left) if self.choice == Choice.RIGHT else None


class ComparisonSource:
    """Labelling tasks of users' phrases with two answers each; where a phrase has one, another is generated.

    `candidates` returns the answers at hand, those that are urgent to label and the others; `generate` answers phrases.
    """

    labels = tuple(choice.value for choice in Choice)

    def __init__(
        self,
        settings: Annotation,
        engine: Engine,
        tasks: Sequence[Task],
        candidates: Callable[[], tuple[Sequence[Candidate], Sequence[Candidate]]],
        generate: Callable[[Sequence[str]], Sequence[Candidate]],
    ) -> None:
        self.settings, self.engine, self.tasks = settings, engine, tasks
        self.candidates, self.generate = candidates, generate

    def add_batch(self) -> str:
        """Add a batch where annotators run short; returns no outlook, as nobody can tell what answers will teach."""
        if runs_short(self.tasks, self.settings.batch):
            stored = read_comparisons(self.engine)
            new = [group for name, group in distinct(*self.candidates()).items() if name not in stored]
            new = new[: self.settings.batch]
            single = [group[0].phrase for group in new if len(group) == 1]
            generated = self.generate(single) if single else []
            groups = distinct([candidate for group in new for candidate in group], generated)
            # One answer twice: the model is sure. It is stored, so that it is not tried again, and nobody labels it.
            made = [compare(name, *(group * 2)[:2]) for name, group in groups.items()]
            store_comparisons(self.engine, made)
            samples = {c.sample: "" for c in [*stored.values(), *made] if c.left != c.right}
            task_store.add_tasks(self.engine, title(self.settings), samples, "the chooser")
        return ""

    def payloads(self, missing: Sequence[Task]) -> list[NewTask]:
        """What annotators see of these tasks; nothing of a comparison that was deleted to forget a user.

        No origins, and nothing is proposed, as no model here can tell which answer is better.
        """
        stored = read_comparisons(self.engine)
        shown = [stored[task.sample] for task in missing if task.sample in stored]
        return [NewTask(c.sample, {"left": c.left, "right": c.right}, c.phrase, "", 0.0) for c in shown]


def distinct(urgent: Sequence[Candidate], others: Sequence[Candidate]) -> dict[str, list[Candidate]]:
    """The different answers to each phrase by its comparison's name, the phrases to label first coming first.

    Those of `urgent` come before the others, and among equals those that got more than one answer.
    """
    first, groups = _grouped(urgent), _grouped([*urgent, *others])
    return {name: groups[name] for name in sorted(groups, key=lambda name: (name not in first, len(groups[name]) < 2))}


def _grouped(candidates: Iterable[Candidate]) -> dict[str, list[Candidate]]:
    groups: dict[str, dict[str, Candidate]] = {}
    for candidate in candidates:
        phrase, output = storable(candidate.phrase), storable(candidate.output)
        same_output = normalise(output)
        if normalise(phrase) and same_output and len(phrase) <= LONGEST:
            group = groups.setdefault(phrase_id(phrase), {})
            group.setdefault(same_output, Candidate(phrase, output, candidate.origin))
    return {name: [*group.values()] for name, group in groups.items()}


def compare(sample: str, older: Candidate, newer: Candidate) -> Comparison:
    """Two different answers to one phrase, on the sides that the name decides."""
    left, right = (older, newer) if int(sample, 16) % 2 else (newer, older)
    return Comparison(sample, older.phrase, left.output, right.output, left.origin, right.origin)


def store_comparisons(engine: Engine, made: Iterable[Comparison]) -> None:
    """Insert comparisons; one whose phrase is there already stays as it is."""
    with writing(engine, "comparisons") as connection:
        for comparison in made:
            connection.execute(insert_new(engine, COMPARISONS).values(vars(comparison)))


def read_comparisons(engine: Engine) -> dict[str, Comparison]:
    """Every comparison by its name."""
    with reading(engine, "comparisons") as connection:
        rows = connection.execute(select(COMPARISONS)).mappings()
        return {row["sample"]: Comparison(**row) for row in rows}


def settled(engine: Engine, settings: Annotation) -> list[Preference]:
    """What is settled in the project of the present template version, in the order of names.

    Whichever template `settings` name now: who goes on to another keeps what was settled.
    """
    project = title(settings.model_copy(update={"template": Template.PREFERENCE.value}))
    stored = read_comparisons(engine)
    given, _ = verdicts(*task_store.read_project(engine, project), dict.fromkeys(stored, ""), Template.PREFERENCE)
    return [Preference(stored[v.sample_id], v.new, v.people, v.kind, v.why, v.time) for v in given]


def describe(preferences: Sequence[Preference]) -> str:
    """How many comparisons are settled, and how."""
    if not preferences:
        return "nothing is settled yet"
    counts = Counter(preference.choice or "discarded" for preference in preferences)
    choices = ", ".join(f"{count} {choice}" for choice, count in counts.most_common())
    pairs = sum(preference.pair is not None for preference in preferences)
    return f"{len(preferences)} settled ({choices}): {pairs} pairs for the next `atelier learn run`"
