"""One Label Studio project through its SDK: found or created, given tasks, moved, read back.

Knows nothing of data versions. A task is known by the sample id in its `meta` and a project by its title, so that every
call may be repeated, also after a kill. Lists are read without the pictures. Waits are bounded, and every failure is a
`StageError` that says what to do. A request that fails on the server's side (5xx) is sent twice more by the SDK, but
for those marked `ONCE`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, timedelta
from functools import partial
from itertools import islice
from typing import Any

import httpx
from label_studio_sdk import LabelStudio, PredictionRequest
from label_studio_sdk.actions import CreateActionsRequestSelectedItemsIncluded as Selected
from label_studio_sdk.core.api_error import ApiError
from label_studio_sdk.core.request_options import RequestOptions

from components.annotation import template
from components.annotation.template import Template
from components.annotation.workflow import Tier
from components.config import Annotation
from components.stage import StageError

TOKEN = "LABEL_STUDIO_API_KEY"  # noqa: S105 - the variable's name
WAIT = 60.0  # seconds for the server to connect, to take a part of a request, and to send a part of its answer
ONCE: RequestOptions = {"max_retries": 0}  # for what might have been taken although the answer says otherwise
RETRY_LATER = "nothing is lost, and the next run does the rest"
PROPOSED_BY = "atelier"
TABS = {Tier.ANNOTATE: "1 annotate", Tier.REVIEW: "2 review", Tier.ARBITRATE: "3 arbitrate"}
INSTRUCTION = (
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
class NewTask:
    """A task to create: the sample's caption or phrase, what its template shows beside that (`data`), and the category
    proposed with a score of 0 to 1.

    An empty category proposes nothing.
    """

    sample_id: str
    data: Mapping[str, str]
    text: str
    category: str
    score: float


@dataclass(frozen=True)
class RemoteAnnotation:
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
class RemoteTask:
    """A task on the server, named as in `RemoteAnnotation`, and every annotation of it that counts now."""

    task: str
    sample_id: str
    annotations: tuple[RemoteAnnotation, ...] = ()


@dataclass(frozen=True)
class TaskView:
    """What a task shows those who open it: the tier that it waits for, and what the tiers before said."""

    tier: str
    note: str = ""


@dataclass(frozen=True)
class TaskUpdate:
    """A task, by its number on the server, and what it is to show from now on.

    A `category`, if any, is proposed with a score of 0 to 1; with the template for captions as the `wording`, or
    without one as the caption that the task came with.
    """

    number: int
    view: TaskView
    category: str = ""
    wording: str = ""
    score: float = 0.0


def title(settings: Annotation) -> str:
    """The project's name, here and on the server; a new template is another project."""
    return f"{settings.project} ({settings.template} {template.version(template.read(settings.template))})"


class Project:
    """The project of the configured title and template version on the configured server."""

    def __init__(self, settings: Annotation) -> None:
        """Raises `StageError` where the environment holds no token."""
        self.url = settings.url
        self.template, self.title = Template(settings.template), title(settings)
        self._client = connect(settings.url)
        self._errors_explained = partial(errors_explained, self.url, self.title)

    def check(self) -> None:
        """Raises `StageError` where the server does not answer or refuses the token."""
        with self._errors_explained():
            self._find()

    def ensure(self, categories: Sequence[str]) -> str:
        """Create the project and its tabs, or add the categories that it lacks; returns its address.

        No category is ever taken away. How many answers a task takes is decided here, not by the server.
        """
        with self._errors_explained():
            project = self._find()
            present = self._labels(project) if project else set()
            if not present.issuperset(categories) or not project:
                label_config = template.fill(template.read(self.template), sorted(present.union(categories)))
                if project:
                    self._client.projects.update(project.id, label_config=label_config)
                else:
                    options = {"expert_instruction": INSTRUCTION, "show_instruction": True}
                    created = self._client.projects.create(title=self.title, label_config=label_config, **options)
                    project = self._client.projects.update(created.id, maximum_annotations=100)
            tabs = {(view.data or {}).get("title") for view in self._client.views.list(project=project.id)}
            for tier, name in TABS.items():
                if name not in tabs:
                    self._client.views.create(project=project.id, data=_tab(name, tier))
            return f"{self.url}/projects/{project.id}/data"

    def categories(self) -> set[str]:
        """What an annotator may choose."""
        with self._errors_explained():
            return self._labels(self._require())

    def size(self) -> int:
        """How many tasks the project has."""
        with self._errors_explained():
            return int(self._require().task_number or 0)

    def task_numbers(self) -> dict[str, int]:
        """The number of every sample's task, the first where there are several.

        An import that was given up, sent again, and yet taken leaves a second task: it is deleted unless somebody has
        answered it.
        """
        numbers: dict[str, int] = {}
        with self._errors_explained():
            project = self._require().id
            listed = self._list(project, include="id,meta,total_annotations", fields="task_only")
            tasks = [task for task in listed if _sample_id(task)]  # others are there by hand
            doubles = [task for task in tasks if numbers.setdefault(_sample_id(task), task.id) != task.id]
            if unanswered := [task.id for task in doubles if not task.total_annotations]:
                act_on_tasks(self._client, project, "delete_tasks", unanswered)
        return numbers

    def upload(self, tasks: Iterable[NewTask]) -> Iterator[dict[str, int]]:
        """Add tasks with the proposed category as prediction; yields, for each request, the numbers of its tasks."""
        with self._errors_explained():
            project, left = self._require().id, iter(tasks)
            while chunk := list(islice(left, _CHUNK)):
                request = [self._payload(task) for task in chunk]  # taken whole or not at all
                taken = self._client.projects.import_tasks(
                    project, request=request, return_task_ids=True, request_options=ONCE
                )
                # Editions that import later than they answer give no numbers: the next run finds them.
                numbers = getattr(taken, "task_ids", None) or ()
                yield dict(zip((task.sample_id for task in chunk), numbers, strict=False))

    def update_tasks(self, updates: Sequence[TaskUpdate]) -> None:
        """Move tasks to the tabs of their tiers, with what is shown and proposed there; annotations stay as they are.

        The server's own bulk actions do it: a request for each task takes some hundred times as long. They leave a
        task's `updated_at` as it is, so that a move is no news to the next reading. The tier comes last, so that no
        task is offered before what goes with it is there. May be repeated.
        """
        with self._errors_explained():
            project = self._require().id
            self._propose(project, [update for update in updates if update.category])
            for field in ("note", "tier"):
                for value in sorted({getattr(update.view, field) for update in updates}):
                    numbers = [update.number for update in updates if getattr(update.view, field) == value]
                    body = {"value_name": field, "value_type": "String", "value": value}
                    act_on_tasks(self._client, project, "add_data_field", numbers, **body)

    def changed_since(self, time: str) -> tuple[list[RemoteTask], str]:
        """Tasks that changed since then, all where it is empty, and the time from which the next reading goes on.

        Skipped annotations and drafts are no annotations.
        """
        with self._errors_explained():
            project = self._require()
            # The newest time is read before the tasks: what changes meanwhile is for the next reading.
            newest_first = json.dumps({"ordering": ["-tasks:updated_at"]})
            pager = self._client.tasks.list(project=project.id, page_size=1, include=_LISTED, query=newest_first)
            newest = next(iter(pager.items or ()), None)
            if newest is None:
                return [], ""
            until = (newest.updated_at.astimezone(UTC) - _LATE).strftime(_TIME)
            tasks = self._list(project.id, include=_LISTED, fields="all", query=_updated_since(time) if time else None)
            return [self._remote_task(task) for task in tasks], until

    def _labels(self, project: Any) -> set[str]:
        control = (project.parsed_label_config or {}).get(template.CONTROL, {})
        return set(template.LABELS[self.template] or control.get("labels", ()))

    def _remote_task(self, task: Any) -> RemoteTask:
        name = f"{task.id}@{task.created_at.timestamp():.0f}"
        annotations = []
        for given in task.annotations or ():
            if not given["was_cancelled"]:
                label, why = template.parse(self.template, given["result"], _caption(task))
                annotator = given["updated_by"] or given["completed_by"] or 0
                annotations.append(
                    RemoteAnnotation(name, given["id"], _sample_id(task), label, annotator, given["updated_at"], why)
                )
        return RemoteTask(name, _sample_id(task), tuple(annotations))

    def _payload(self, task: NewTask) -> dict[str, Any]:
        result = template.proposal(self.template, task.category, task.text)
        prediction = {"model_version": PROPOSED_BY, "score": task.score, "result": result}
        return {
            "data": {**task.data, "text": task.text, **vars(TaskView(Tier.ANNOTATE))},
            "meta": {"sample_id": task.sample_id, "text": task.text},
            "predictions": [prediction] if result else [],
        }

    def _propose(self, project: int, updates: Sequence[TaskUpdate]) -> None:
        """Replace the predictions of these tasks."""
        if not updates:
            return
        numbers = [update.number for update in updates]
        captions = self._captions(project, numbers) if self.template is Template.CAPTION else {}
        act_on_tasks(self._client, project, "delete_tasks_predictions", numbers)
        request = []
        for update in updates:
            wording = update.wording or captions.get(update.number, "")
            result = template.proposal(self.template, update.category, wording)
            request.append(
                PredictionRequest(task=update.number, result=result, score=update.score, model_version=PROPOSED_BY)
            )
        self._client.projects.import_predictions(project, request=request, request_options=ONCE)

    def _captions(self, project: int, numbers: Sequence[int]) -> dict[int, str]:
        """The captions that the tasks came with."""
        query = json.dumps({"selectedItems": {"all": False, "included": list(numbers)}})
        tasks = self._client.tasks.list(
            project=project, page_size=len(numbers), include="id,meta", fields="task_only", query=query
        )
        return {task.id: _caption(task) for task in tasks}

    def _list(self, project: int, **options: Any) -> list[Any]:
        tasks = list(self._client.tasks.list(project=project, page_size=_PAGE, **options))
        self._client.projects.get(project)  # the SDK takes a 404 for the last page, also that of a project just deleted
        return tasks

    def _find(self) -> Any:
        """The oldest project of exactly this title, or None."""
        same = [project for project in self._client.projects.list(title=self.title) if project.title == self.title]
        return min(same, key=lambda project: project.id, default=None)

    def _require(self) -> Any:
        project = self._find()
        if project is None:
            raise StageError(
                f"no project {self.title!r} at {self.url}: never created, or deleted; run `atelier label upload`"
            )
        return project


def act_on_tasks(client: LabelStudio, project: int, action: str, numbers: Sequence[int], **body: Any) -> None:
    """Do to these tasks what the menu of the project's page offers for selected ones; all may be done again."""
    selected = Selected(all_=False, included=list(numbers))
    client.actions.create(
        id=action, project=project, selected_items=selected, request_options={"additional_body_parameters": body}
    )


def connect(url: str) -> LabelStudio:
    """A client with the environment's token; raises `StageError` where it holds none. Sends nothing yet."""
    token = os.environ.get(TOKEN, "")
    if not token:
        raise StageError(f"{TOKEN} is not set; copy a token from Account & Settings at {url}")
    with errors_explained(url, ""):
        return LabelStudio(base_url=url, api_key=token, timeout=WAIT)


@contextmanager
def errors_explained(url: str, title: str) -> Iterator[None]:
    """Turn an error of the server, or of the way to it, into a `StageError` that says what to do about it."""
    try:
        yield
    except httpx.TimeoutException as error:
        raise StageError(
            f"Label Studio at {url} took longer than {WAIT:.0f} s ({error}); see what keeps it busy: {RETRY_LATER}"
        ) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise StageError(
            f"Label Studio at {url} does not answer ({error}); start it, or change annotation.url: {RETRY_LATER}"
        ) from error
    except ApiError as error:
        raise StageError(_explain(error, url, title)) from error


def _explain(error: ApiError, url: str, title: str) -> str:
    code, body = error.status_code or 0, str(error.body)[:300]
    if code in (401, 403):
        return (
            f"Label Studio at {url} refuses the token in {TOKEN} ({code}); copy that of an "
            "account that may manage projects (a legacy token counts only where its organisation allows it)"
        )
    if code == 404:
        return f"{url}: project {title!r} was deleted meanwhile, or this is not Label Studio's address"
    if code >= 500:
        return f"Label Studio at {url} answered {code} ({body}); its log says why: {RETRY_LATER}"
    return f"Label Studio at {url} answered {code}: {body}"


def _sample_id(task: Any) -> str:
    return str((task.meta or {}).get("sample_id", ""))


def _caption(task: Any) -> str:
    return str((task.meta or {}).get("text", ""))


def _tab(name: str, tier: Tier) -> dict[str, Any]:
    waits = {"filter": "filter:tasks:data.tier", "operator": "equal", "type": "String", "value": tier}
    return {"title": name, "filters": {"conjunction": "and", "items": [waits]}}


def _updated_since(time: str) -> str:
    later = {"filter": "filter:tasks:updated_at", "operator": "greater_or_equal", "type": "Datetime", "value": time}
    return json.dumps({"filters": {"conjunction": "and", "items": [later]}})
