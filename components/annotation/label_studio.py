"""One Label Studio project through its SDK: found or created, given tasks, read back. Knows nothing of data versions.

A task is known by the sample id in its `meta` and a project by its title, so that every call may be repeated, also
after a kill. Lists are read without the pictures. Whatever goes wrong on the way is a `StageError` in words.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Any

import httpx
from label_studio_sdk import LabelStudio
from label_studio_sdk.core.api_error import ApiError

from components.annotation import template
from components.config import Annotation
from components.stage import StageError

TOKEN = "LABEL_STUDIO_API_KEY"  # noqa: S105 - the variable's name
TABS = {"annotate": "1 annotate", "review": "2 review", "arbitrate": "3 arbitrate"}  # tier, and its tab's title
HOW = (
    "Open the tab of your tier and begin with 'Label Tasks As Displayed', behind the arrow beside 'Label All Tasks', "
    "which would ignore the tab and take you through every task of the project."
)
PROPOSED_BY = "atelier"
# Tasks per request: some megabytes, with the pictures in them; and where there are none.
_CHUNK, _PAGE = 50, 500
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


@dataclass(frozen=True)
class Shown:
    """What a task shows those who open it: the tier that it waits for, and what the tiers before said."""

    tier: str
    note: str = ""


def title(settings: Annotation) -> str:
    """The project's name, here and on the server; a new template is another project."""
    return f"{settings.project} ({settings.template} {template.version(template.read(settings.template))})"


class Project:
    """The project of the configured title and template version on the configured server."""

    def __init__(self, settings: Annotation) -> None:
        """Raises `StageError` where the environment holds no token."""
        token = os.environ.get(TOKEN, "")
        if not token:
            raise StageError(f"{TOKEN} is not set; copy a token from Account & Settings at {settings.url}")
        self.url = settings.url
        self.name, self.title = settings.template, title(settings)
        with self._in_words():
            self._client = LabelStudio(base_url=settings.url, api_key=token)

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
        """The number of every sample's task."""
        with self._in_words():
            return {_sample_id(task): task.id for task in self._tasks(self._require().id)}

    def upload(self, tasks: Sequence[Task]) -> int:
        """Add the tasks whose sample has none yet, with the proposed category as prediction; returns how many."""
        present = self.numbers()
        missing = [task for task in tasks if task.sample_id not in present]
        with self._in_words():
            project = self._require()
            for start in range(0, len(missing), _CHUNK):
                # The server takes a request whole or not at all. Not repeated by the SDK: it might have been taken.
                request = [self._payload(task) for task in missing[start : start + _CHUNK]]
                self._client.projects.import_tasks(project.id, request=request, request_options={"max_retries": 0})
        return len(missing)

    def show(self, number: int, shown: Shown, category: str, wording: str, score: float) -> None:
        """Move a task to the tab of a tier, where `category`, if any, or a caption's `wording` is proposed.

        Annotations stay as they are.
        """
        with self._in_words():
            task = self._client.tasks.get(str(number))
            self._client.tasks.update(str(number), data={**task.data, **vars(shown)})
            if category:
                result = template.proposal(self.name, category, wording or task.data["text"])
                proposed = {"result": result, "score": score, "model_version": PROPOSED_BY}
                for prediction in task.predictions or ():
                    self._client.predictions.delete(prediction.id)
                self._client.predictions.create(task=number, **proposed)

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
            tasks = self._tasks(project.id, fields="all", query=_changed(since) if since else None)
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
        tasks = list(self._client.tasks.list(project=project, page_size=_PAGE, include=_LISTED, **options))
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
                f"no project {self.title!r} at {self.url}: never created, or deleted; run `atelier annotate upload`"
            )
        return found

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise StageError(
                f"Label Studio at {self.url} does not answer ({error}); start it, or change annotation.url"
            ) from error
        except ApiError as error:
            raise StageError(self._explain(error)) from error

    def _explain(self, error: ApiError) -> str:
        if error.status_code in (401, 403):
            return (
                f"Label Studio at {self.url} refuses the token in {TOKEN} ({error.status_code}); copy that of an "
                "account that may manage projects (a legacy token counts only where its organisation allows it)"
            )
        if error.status_code == 404:
            return f"{self.url}: project {self.title!r} was deleted meanwhile, or this is not Label Studio's address"
        return f"Label Studio at {self.url} answered {error.status_code}: {str(error.body)[:300]}"


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
