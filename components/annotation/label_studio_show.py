"""What tasks on the server show to those who open them, changed for many tasks in a few requests.

Label Studio's own bulk actions: a request for each task takes some hundred times as long. They leave a task's
`updated_at` as it is, so that a move is no news to the next reading.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from label_studio_sdk import LabelStudio, PredictionRequest
from label_studio_sdk.actions import CreateActionsRequestSelectedItemsIncluded as Selected

from components.annotation import template
from components.annotation.label_studio_client import ONCE

PROPOSED_BY = "atelier"


@dataclass(frozen=True)
class Shown:
    """What a task shows those who open it: the tier that it waits for, and what the tiers before said."""

    tier: str
    note: str = ""


@dataclass(frozen=True)
class Turn:
    """A task, by its number on the server, and what it is to show from now on.

    A `category`, if any, is proposed with a score of 0 to 1; with the template for captions as the `wording`, or
    without one as the caption that the task came with.
    """

    number: int
    shown: Shown
    category: str = ""
    wording: str = ""
    score: float = 0.0


def show(client: LabelStudio, project: int, name: str, turns: Sequence[Turn]) -> None:
    """Move tasks of a project with the template `name` to the tabs of their tiers; annotations stay as they are.

    The tier comes last, so that no task is offered before what goes with it is there. May be repeated.
    """
    proposing = [turn for turn in turns if turn.category]
    if proposing:
        numbers = [turn.number for turn in proposing]
        captions = _captions(client, project, numbers) if name == "caption" else {}
        act(client, project, "delete_tasks_predictions", numbers)
        request = [_prediction(name, turn, captions.get(turn.number, "")) for turn in proposing]
        client.projects.import_predictions(project, request=request, request_options=ONCE)
    for field in ("note", "tier"):
        for value in sorted({getattr(turn.shown, field) for turn in turns}):
            same = [turn.number for turn in turns if getattr(turn.shown, field) == value]
            act(client, project, "add_data_field", same, value_name=field, value_type="String", value=value)


def act(client: LabelStudio, project: int, action: str, numbers: Sequence[int], **body: Any) -> None:
    """Do to these tasks what the menu of the project's page offers for selected ones; all may be done again."""
    chosen = Selected(all_=False, included=list(numbers))
    client.actions.create(
        id=action, project=project, selected_items=chosen, request_options={"additional_body_parameters": body}
    )


def _prediction(name: str, turn: Turn, caption: str) -> PredictionRequest:
    result = template.proposal(name, turn.category, turn.wording or caption)
    return PredictionRequest(task=turn.number, result=result, score=turn.score, model_version=PROPOSED_BY)


def _captions(client: LabelStudio, project: int, numbers: Sequence[int]) -> dict[int, str]:
    """The captions that the tasks came with."""
    query = json.dumps({"selectedItems": {"all": False, "included": list(numbers)}})
    found = client.tasks.list(
        project=project, page_size=len(numbers), include="id,meta", fields="task_only", query=query
    )
    return {task.id: str((task.meta or {}).get("text", "")) for task in found}
