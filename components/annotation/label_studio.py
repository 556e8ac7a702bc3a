"""One Label Studio project through its SDK: found or created, given tasks, read back. Knows nothing of data versions.

A task is known by the sample id in its `meta` and a project by its title, so that every call may be repeated, also
after a kill. Lists are read without the pictures. Whatever goes wrong on the way is a `StageError` in words.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, timedelta
from itertools import islice
from typing import Any

from components.annotation import label_studio_show, template
from components.annotation.label_studio_client import ONCE, connect, in_words
from components.annotation.label_studio_show import PROPOSED_BY, Shown, Turn
from components.config import Annotation
from components.stage import StageError

TABS = {"annotate": "1 annotate", "review": "2 review", "arbitrate": "3 arbitrate"}  # tier, and its tab's title
HOW = (
    "Open the tab of your tier and begin with 'Label Tasks As Displayed', behind the arrow beside 'Label All Tasks', "
    "which would ignore the tab and take you through every task of the project."
)
# Tasks per request: some megabytes, with the pictures in them; and where there are none.
_CHUNK, _PAGE = 100, 500
# What a list brings back: the names count for tasks and for the annotations in them.
_LISTED = "id,meta,created_at,updated_at,annotations,result,was_cancelled,completed_by,updated_by"
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
_LATE = timedelta(minutes=1)  # a change may become visible that much after the time that it carries


@dataclass(frozen=True)
class Task:
    """A sample for an annotator: its caption or phrase, what its template shows beside that, and the category proposed
    with a score of 0 to 1.

    An empty category proposes nothing.
    """

    sample_id: str
    data: Mapping[str, str]
    text: str
    category: str
    score: float


@dataclass(frozen=True)
class Answer:
    """A submitted annotation; `sample_id` or `category` is empty where the task or its result names none.

    `task` is its task's number and when that was made, as a server that starts anew counts from 1 again. `annotator` is
    the server's number of the account: a sealed data version could never forget a mail address.
    """

    task: str
    annotation: int
    sample_id: str
    category: str
    annotator: int
    time: str
    why: str = ""


@dataclass(frozen=True)
class Polled:
    """A task that is on the server, named as in `Answer`, and every answer that counts to it now."""

    task: str
    sample_id: str
    answers: tuple[Answer, ...] = ()


@dataclass(frozen=True)
class Reading:
    """Tasks that changed since a time, or all; `until` is where the next reading goes on."""

    tasks: tuple[Polled, ...]
    until: str


def title(settings: Annotation) -> str:
    """The project's name, here and on the server; a new template is another project."""
    return f"{settings.project} ({settings.template} {template.version(template.read(settings.template))})"


class Project:
    """The project of the configured title and template version on the configured server."""

    def __init__(self, settings: Annotation) -> None:
        """Raises `StageError` where the environment holds no token."""
        self.url = settings.url
        self.name, self.title = settings.template, title(settings)
        self._client = connect(settings.url)

    def check(self) -> None:
        """Raises `StageError` where the server does not answer or refuses the token."""
        with self._in_words():
            self._find()

    def ensure(self, categories: Sequence[str]) -> str:
        """Create the project and its tabs, or add the categories that it does not know yet; returns its address.

        No category is ever taken away. How many answers a task takes is decided here, not by the server.
        """
        with self._in_words():
            found = self._find()
            known = self._labels(found) if found else set()
            if not known.issuperset(categories) or not found:
                label_config = template.fill(template.read(self.name), sorted(known.union(categories)))
                if found:
                    self._client.projects.update(found.id, label_config=label_config)
                else:
                    how = {"expert_instruction": HOW, "show_instruction": True}
                    created = self._client.projects.create(title=self.title, label_config=label_config, **how)
                    found = self._client.projects.update(created.id, maximum_annotations=100)
            there = {(view.data or {}).get("title") for view in self._client.views.list(project=found.id)}
            for tier, name in TABS.items():
                if name not in there:
                    self._client.views.create(project=found.id, data=_tab(name, tier))
            return f"{self.url}/projects/{found.id}/data"

    def categories(self) -> set[str]:
        """What an annotator may choose."""
        with self._in_words():
            return self._labels(self._require())

    def size(self) -> int:
        """How many tasks the project has."""
        with self._in_words():
            return int(self._require().task_number or 0)

    def numbers(self) -> dict[str, int]:
        """The number of every sample's task, the first where there are several.

        Such are there where an import was given up, sent again, and yet taken. They go, unless somebody has answered.
        """
        found: dict[str, int] = {}
        with self._in_words():
            project = self._require().id
            listed = self._tasks(project, include="id,meta,total_annotations", fields="task_only")
            tasks = [task for task in listed if _sample_id(task)]  # others are there by hand
            again = [task for task in tasks if found.setdefault(_sample_id(task), task.id) != task.id]
            if doubled := [task.id for task in again if not task.total_annotations]:
                label_studio_show.act(self._client, project, "delete_tasks", doubled)
        return found

    def upload(self, tasks: Iterable[Task]) -> Iterator[dict[str, int]]:
        """Add tasks with the proposed category as prediction; yields the numbers of those that are in, some by some."""
        with self._in_words():
            project, left = self._require().id, iter(tasks)
            while some := list(islice(left, _CHUNK)):
                request = [self._payload(task) for task in some]  # taken whole or not at all
                taken = self._client.projects.import_tasks(
                    project, request=request, return_task_ids=True, request_options=ONCE
                )
                # Editions that import later than they answer give no numbers: the next run finds them.
                numbers = getattr(taken, "task_ids", None) or ()
                yield dict(zip((task.sample_id for task in some), numbers, strict=False))

    def show(self, turns: Sequence[Turn]) -> None:
        """Move tasks to the tabs of their tiers, with what is shown and proposed there."""
        with self._in_words():
            label_studio_show.show(self._client, self._require().id, self.name, turns)

    def read(self, since: str) -> Reading:
        """Tasks that changed since then, all where it is empty; skipped annotations and drafts are no answers."""
        with self._in_words():
            project = self._require()
            # Asked before the tasks are read: what changes meanwhile is for the next reading.
            pager = self._client.tasks.list(project=project.id, page_size=1, include=_LISTED, query=_newest())
            newest = next(iter(pager.items or ()), None)
            if newest is None:
                return Reading((), "")
            until = (newest.updated_at.astimezone(UTC) - _LATE).strftime(_TIME)
            changed = _changed(since) if since else None
            tasks = self._tasks(project.id, include=_LISTED, fields="all", query=changed)
            return Reading(tuple(self._polled(task) for task in tasks), until)

    def _labels(self, project: Any) -> set[str]:
        control = (project.parsed_label_config or {}).get(template.CONTROL, {})
        return set(template.LABELS[self.name] or control.get("labels", ()))

    def _polled(self, task: Any) -> Polled:
        given = [self._answer(task, one) for one in task.annotations or () if not one["was_cancelled"]]
        return Polled(_name(task), _sample_id(task), tuple(given))

    def _answer(self, task: Any, annotation: dict[str, Any]) -> Answer:
        label, why = template.said(self.name, annotation["result"], str((task.meta or {}).get("text", "")))
        return Answer(
            task=_name(task),
            annotation=annotation["id"],
            sample_id=_sample_id(task),
            category=label,
            annotator=annotation["updated_by"] or annotation["completed_by"] or 0,
            time=annotation["updated_at"],
            why=why,
        )

    def _payload(self, task: Task) -> dict[str, Any]:
        result = template.proposal(self.name, task.category, task.text)
        prediction = {"model_version": PROPOSED_BY, "score": task.score, "result": result}
        return {
            "data": {**task.data, "text": task.text, **vars(Shown("annotate"))},
            "meta": {"sample_id": task.sample_id, "text": task.text},
            "predictions": [prediction] if result else [],
        }

    def _tasks(self, project: int, **options: Any) -> list[Any]:
        tasks = list(self._client.tasks.list(project=project, page_size=_PAGE, **options))
        self._client.projects.get(project)  # the SDK takes a 404 for the last page, also that of a project just deleted
        return tasks

    def _find(self) -> Any:
        """The oldest project of exactly this title, or None."""
        found = [p for p in self._client.projects.list(title=self.title) if p.title == self.title]
        return min(found, key=lambda project: project.id, default=None)

    def _require(self) -> Any:
        found = self._find()
        if found is None:
            raise StageError(
                f"no project {self.title!r} at {self.url}: never created, or deleted; run `atelier label upload`"
            )
        return found

    def _in_words(self) -> AbstractContextManager[None]:
        return in_words(self.url, self.title)


def _sample_id(task: Any) -> str:
    return str((task.meta or {}).get("sample_id", ""))


def _name(task: Any) -> str:
    return f"{task.id}@{task.created_at.timestamp():.0f}"


def _tab(name: str, tier: str) -> dict[str, Any]:
    waits = {"filter": "filter:tasks:data.tier", "operator": "equal", "type": "String", "value": tier}
    return {"title": name, "filters": {"conjunction": "and", "items": [waits]}}


def _newest() -> str:
    return json.dumps({"ordering": ["-tasks:updated_at"]})


def _changed(since: str) -> str:
    later = {"filter": "filter:tasks:updated_at", "operator": "greater_or_equal", "type": "Datetime", "value": since}
    return json.dumps({"filters": {"conjunction": "and", "items": [later]}})
