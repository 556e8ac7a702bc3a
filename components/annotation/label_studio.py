"""One Label Studio project through its SDK: found or created, given tasks, read back. Knows nothing of data versions.

A task is known by the sample id in its data and a project by its title, so that every call may be repeated, also after
a kill. Whatever goes wrong on the way is a `StageError` in words.
"""

from __future__ import annotations

import base64
import html
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from label_studio_sdk import LabelStudio
from label_studio_sdk.core.api_error import ApiError

from components.config import Annotation
from components.stage import StageError

TOKEN = "LABEL_STUDIO_API_KEY"  # noqa: S105 - the variable's name
TEMPLATES = Path(__file__).parent / "templates"
CONTROL, OBJECT = "category", "picture"  # names in the template
# Tasks per request: some megabytes, with the pictures in them.
_CHUNK = 50


@dataclass(frozen=True)
class Task:
    """A sample for an annotator: a picture (PNG), its caption, and the category proposed with a score of 0 to 1."""

    sample_id: str
    image: bytes
    text: str
    category: str
    score: float
    proposed_by: str


@dataclass(frozen=True)
class Answer:
    """A submitted annotation; `sample_id` or `category` is empty where the task or its result names none.

    `annotator` is the server's number of the account: a sealed data version could never forget a mail address.
    """

    task: int
    annotation: int
    sample_id: str
    category: str
    annotator: int
    time: str


class Project:
    """The project of the configured title and template version on the configured server."""

    def __init__(self, settings: Annotation) -> None:
        """Raises `StageError` where the environment holds no token."""
        token = os.environ.get(TOKEN, "")
        if not token:
            raise StageError(f"{TOKEN} is not set; copy a token from Account & Settings at {settings.url}")
        self.url = settings.url
        self.template = (TEMPLATES / f"{settings.template}.xml").read_text(encoding="utf-8")
        self.title = f"{settings.project} ({settings.template} {template_version(self.template)})"
        with self._in_words():
            self._client = LabelStudio(base_url=settings.url, api_key=token)

    def check(self) -> None:
        """Raises `StageError` where the server does not answer or refuses the token."""
        with self._in_words():
            self._find()

    def ensure(self, categories: Sequence[str]) -> None:
        """Create the project, or add the categories that it does not know yet; none is ever taken away."""
        with self._in_words():
            found = self._find()
            known = set(_choices(found)) if found else set()
            if found and known.issuperset(categories):
                return
            label_config = fill(self.template, sorted(known.union(categories)))
            if found:
                self._client.projects.update(found.id, label_config=label_config)
            else:
                self._client.projects.create(title=self.title, label_config=label_config)

    def categories(self) -> set[str]:
        """What an annotator may choose."""
        with self._in_words():
            return set(_choices(self._require()))

    def upload(self, tasks: Sequence[Task]) -> int:
        """Add the tasks whose sample has none yet, with the proposed category as prediction; returns how many."""
        with self._in_words():
            project = self._require()
            present = {_sample_id(task) for task in self._tasks(project.id)}
            missing = [task for task in tasks if task.sample_id not in present]
            for start in range(0, len(missing), _CHUNK):
                # The server takes a request whole or not at all. Not repeated by the SDK: it might have been taken.
                request = [_payload(task) for task in missing[start : start + _CHUNK]]
                self._client.projects.import_tasks(project.id, request=request, request_options={"max_retries": 0})
            return len(missing)

    def answers(self) -> list[Answer]:
        """Every submitted annotation, in the order of tasks; skipped tasks and drafts are none."""
        with self._in_words():
            project = self._require()
            return [
                _answer(task, annotation)
                for task in self._tasks(project.id)
                for annotation in task.annotations or ()
                if not annotation["was_cancelled"]
            ]

    def _tasks(self, project: int) -> list[Any]:
        tasks = list(self._client.tasks.list(project=project, page_size=_CHUNK))
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


def template_version(template: str) -> int:
    """The number in the template's first comment."""
    found = re.search(r"<!-- version (\d+)", template)
    if found is None:
        raise StageError("the labelling template names no version in its first comment")
    return int(found[1])


def fill(template: str, categories: Sequence[str]) -> str:
    """The template with one choice per category."""
    choices = "".join(f'<Choice value="{html.escape(category)}"/>' for category in categories)
    return template.replace("<!-- choices -->", choices)


def chosen(result: Sequence[dict[str, Any]]) -> str:
    """The one category of an annotation's result, empty where it names none or several."""
    choices = [c for part in result if part.get("from_name") == CONTROL for c in part["value"].get("choices", ())]
    return str(choices[0]) if len(choices) == 1 else ""


def _choices(project: Any) -> list[str]:
    return list((project.parsed_label_config or {}).get(CONTROL, {}).get("labels", ()))


def _sample_id(task: Any) -> str:
    return str(task.data.get("sample_id", ""))


def _answer(task: Any, annotation: dict[str, Any]) -> Answer:
    return Answer(
        task=task.id,
        annotation=annotation["id"],
        sample_id=_sample_id(task),
        category=chosen(annotation["result"]),
        annotator=annotation["updated_by"] or annotation["completed_by"] or 0,
        time=annotation["updated_at"],
    )


def _payload(task: Task) -> dict[str, Any]:
    value = {"choices": [task.category]}
    result = {"from_name": CONTROL, "to_name": OBJECT, "type": "choices", "value": value}
    return {
        "data": {
            "sample_id": task.sample_id,
            "image": "data:image/png;base64," + base64.b64encode(task.image).decode(),
            "text": task.text,
        },
        "predictions": [{"model_version": task.proposed_by, "score": task.score, "result": [result]}],
    }
