"""A small set of drawings, and a SIMULATED annotator who answers through the server's interface: no person did."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
from label_studio_sdk import LabelStudio
from numpy.typing import NDArray
from PIL import Image

from components.annotation.label_studio import Project, act_on_tasks
from components.annotation.template import REASON, object_of, proposal
from components.config import Annotation, Clean, Prepare, Split
from components.data.clean import clean
from components.data.picture import encode_png
from components.data.prepare import prepare
from components.data.split import split
from tests.components.annotation.examples import TIERS
from tests.label_studio_server import Server

FOOD = ["apple", "bread", "cherry", "cheese", "grape", "lemon", "melon", "onion", "peach", "salad", "tomato", "walnut"]
BEASTS = [
    "badger",
    "camel",
    "donkey",
    "eagle",
    "ferret",
    "goose",
    "horse",
    "jaguar",
    "koala",
    "lizard",
    "mouse",
    "otter",
]
WRONG = "horse"  # labelled as food in the set
PASSWORD = secrets.token_hex(8)  # of every account that is made here


def settings(
    url: str,
    project: str,
    batch: int = 6,
    template: Literal["category", "caption", "rating", "preference"] = "category",
) -> Annotation:
    return Annotation(url=url, project=project, template=template, batch=batch, worth=0.01, tiers=TIERS)


def write_set(folder: Path) -> Path:
    """An image folder of flat colours, one per word, with one wrong label."""
    folder.mkdir(parents=True)
    rows = []
    for number, word in enumerate([*FOOD, *BEASTS]):
        # Of that size, as Label Studio's page takes an image file below 100 bytes for a broken one.
        colour = (37 * number % 256, 91 * number % 256, 151 * number % 256)
        (folder / f"{word}.png").write_bytes(encode_png(Image.new("RGB", (128, 128), colour)))
        label = "Animals & Nature" if word in BEASTS and word != WRONG else "Food & Drink"
        rows.append({"file_name": f"{word}.png", "text": word, "label": label, "licence": "CC0"})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def write_data(source: Path, data: Path) -> Path:
    """The stages up to the data version, as the pipeline runs them; returns `data`."""
    prepare("image", Prepare(source="folder", path=source), data / "prepared")
    bounds = Clean(low_percentile=0, high_percentile=100, max_pixels=2**20, min_side=8)
    clean("image", bounds, data / "prepared", data / "clean")
    shares = Split(seed=7, validation=0.1, test=0.2, near_duplicate_similarity=1.0)
    split("image", shares, data / "clean", data / "split")
    return data


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    """Two directions, one for food and one for animals: unit vectors, a little apart from each other."""
    angles = [0.01 * i + (np.pi / 2 if text in BEASTS else 0) for i, text in enumerate(sorted(texts))]
    found = dict(zip(sorted(texts), angles, strict=True))
    return np.array([[np.cos(found[t]), np.sin(found[t])] for t in texts], dtype=np.float32)


def sign_up(browser: httpx.Client, link: str, name: str) -> httpx.Response:
    """What the page of a link answers to the form of a new account."""
    browser.get(link)
    form = {"email": f"{name}@example.org", "password": PASSWORD, "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
    return browser.post(link, data=form, headers={"Referer": str(browser.base_url)})


@cache
def another_account(server: Server, name: str) -> Server:
    """The server as another account of the same organisation sees it; of a name there is one for all projects."""
    invites = LabelStudio(base_url=server.url, api_key=server.token).organizations.invites
    with httpx.Client(base_url=server.url, follow_redirects=True) as browser:
        sign_up(browser, str(invites.get_invite_link().invite_url), name).raise_for_status()
        token = browser.get("/api/current-user/token").raise_for_status().json()["token"]
    return Server(server.url, token)


class SimulatedAnnotator:
    """Answers as the labelling page does, by request to the server."""

    def __init__(self, server: Server, project: Project) -> None:
        self.token = server.token
        self.client = LabelStudio(base_url=server.url, api_key=server.token)
        self.number = str(self.client.users.whoami().id)
        self.template = project.template
        (self.project,) = [p for p in self.client.projects.list(title=project.title) if p.title == project.title]
        self._numbers: dict[str, int] = {}  # of tasks, by their text: each look costs a fifth of a second

    def tasks(self) -> list[Any]:
        return list(self.client.tasks.list(project=self.project.id))

    def answer(self, text: str, category: str, why: str = "") -> int:
        """Returns the annotation's number."""
        return int(self.client.annotations.create(self._task(text), result=_result(category, why, self.template)).id)

    def answer_many(self, numbers: Sequence[int], category: str) -> None:
        """The same answer to many tasks, by the server's own action: one request each takes a fifth of a second."""
        first = self.client.annotations.create(numbers[0], result=_result(category))
        act_on_tasks(self.client, self.project.id, "propagate_annotations", numbers[1:], source_annotation_id=first.id)

    def write(self, text: str, caption: str) -> None:
        """Answer with a caption."""
        self.client.annotations.create(self._task(text), result=proposal("caption", "", caption))

    def edit(self, annotation: int, category: str) -> None:
        self.client.annotations.update(annotation, result=_result(category, "", self.template))

    def delete(self, annotation: int) -> None:
        self.client.annotations.delete(annotation)

    def skip(self, text: str) -> None:
        self.client.annotations.create(self._task(text), result=[], was_cancelled=True)

    def _task(self, text: str) -> int:
        if text not in self._numbers:
            tasks = self.tasks()
            assert sum(task.data["text"] == text for task in tasks) == 1
            self._numbers = {task.data["text"]: task.id for task in tasks}
        return self._numbers[text]


def _result(category: str, why: str = "", template: str = "category") -> list[dict[str, Any]]:
    reason = {"from_name": REASON, "to_name": object_of(template), "type": "textarea", "value": {"text": [why]}}
    return [*proposal(template, category, ""), *([reason] if why else [])]
