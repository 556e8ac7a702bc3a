"""`make bench NAME=annotate-server`: the loop on a real Label Studio with SIMULATED annotators, killed on the way.

Prints how long the parts took, with what the killed runs did in vain, and writes it to
`metrics/annotation/server.json`; fails where a task, an answer or a proposal is
lost or doubled, here or on the server.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from components.annotation import sync, task_store
from components.annotation.label_studio import TOKEN, Project
from components.annotation.sync import Summary
from components.annotation.sync import reconcile as take_answers
from components.artifact import canonical, seal, write_text
from components.config import Params, load
from components.data.sample import SAMPLES, SOURCES, Sample, write
from components.events.database import opened
from flows import annotate
from tests.bench.timing import before_work
from tests.components.annotation.examples import check
from tests.components.annotation.simulated import SimulatedAnnotator, another_account, settings
from tests.conftest import ROOT
from tests.label_studio_server import Server
from tests.tiny_image import write_tiny_encoder

TASKS, KILLS = int(os.environ.get("TASKS", "10000")), int(os.environ.get("KILLS", "20"))
LABELS = ("Animals & Nature", "Food & Drink")
FORK = multiprocessing.get_context("fork")


def write_data(folder: Path) -> Path:
    """Data of one small picture under many captions, half of each label."""
    picture = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(picture, "PNG")
    samples = [Sample(f"s{i}", f"thing {i}", picture.getvalue(), label=LABELS[i % 2]) for i in range(TASKS)]
    for path in (folder / "prepared" / SAMPLES, folder / "split" / "train.parquet"):
        write(path, samples)
    (folder / "prepared" / SOURCES).write_text(json.dumps({}))
    seal(folder / "split", line="image", kind="data", parents={}, parameters={}, metrics={})
    return folder


def killed(work: Callable[[], object], kills: int, longest: float, chance: random.Random) -> int:
    """Do the work in processes of their own that are killed within `longest` seconds, and then to its end.

    Returns how many were killed.
    """
    done = 0
    while done < kills:
        process = FORK.Process(target=work)
        process.start()
        process.join(chance.uniform(1, longest))
        if process.exitcode is None:
            process.kill()
            process.join()
            done += 1
        else:
            assert process.exitcode == 0
            kills -= 1  # it ended before; what is left to do is too little for another kill
    work()
    return done


@pytest.fixture
def params(label_studio: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, assets: Path) -> Params:
    """What the flows load: a project and a database of their own."""
    monkeypatch.setenv(TOKEN, label_studio.token)
    section = settings(label_studio.url, "bench", batch=TASKS)
    usual = load()
    events = usual.events.model_copy(update={"url": f"sqlite:///{tmp_path / 'events.db'}"})
    here = usual.model_copy(update={"annotation": section, "events": events})
    monkeypatch.setattr(annotate, "ROOT", tmp_path)
    monkeypatch.setattr(annotate, "DATA", write_data(tmp_path / "data"))
    monkeypatch.setattr(annotate, "ENCODER", write_tiny_encoder(tmp_path / "encoder"))
    monkeypatch.setattr(annotate, "load", lambda: here)
    return here


@pytest.mark.timeout(7200)
def test_nothing_is_lost_or_doubled(label_studio: Server, params: Params) -> None:
    project, chance, told = Project(params.annotation), random.Random(7), {}

    kills, machine = 0, before_work()

    def timed(part: str, work: Callable[[], object]) -> None:
        nonlocal kills
        began = time.monotonic()
        ended = work()
        kills += ended if isinstance(ended, int) else 0
        told[part] = round(time.monotonic() - began, 1)

    timed("upload, with kills", lambda: killed(annotate.send_next.fn, KILLS * 2 // 5, 10, chance))
    numbers = project.task_numbers()
    assert len(numbers) == project.size() == TASKS
    people = [SimulatedAnnotator(another_account(label_studio, name), project) for name in ("ann", "bob")]
    halves = [[number for sample, number in numbers.items() if int(sample[1:]) % 2 == half] for half in (0, 1)]

    def label() -> None:
        for person in people:
            for half, category in zip(halves, LABELS, strict=True):
                person.answer_many(half, category)

    timed("people", label)

    timed("reading answers, with kills", lambda: killed(annotate.read_answers.fn, KILLS // 5, 10 + TASKS / 80, chance))
    timed("version", annotate.write_verdicts.fn)
    timed("moving tasks, with kills", lambda: killed(annotate.send_next.fn, KILLS * 2 // 5, 20, chance))
    with opened(params.events.url) as engine:
        check(engine, project.title)
        recorded = task_store.read_answers(engine, project.title)
        tasks = task_store.read_tasks(engine, project.title)
        again = take_answers(engine, project.title, project.changed_since, LABELS, params.annotation.tiers)
        tabs = {number: noted.tier for number, noted in sync.read_views(engine, project.title).values()}
    answers = [record for given in recorded.values() for record in given]
    assert (len(tasks), len({task.sample for task in tasks}), len(answers)) == (TASKS, TASKS, 2 * TASKS)
    assert all(record.ended is None for record in answers) and again == Summary()
    served = list(
        people[0].client.tasks.list(project=people[0].project.id, page_size=500, include="id,data,predictions")
    )
    assert {task.id: task.data["tier"] for task in served} == tabs and len(served) == TASKS
    assert all(len(task.predictions) == 1 for task in served)
    states = dict(Counter(str(task.state) for task in tasks))
    print(f"\n{kills} kills, {TASKS} tasks, {len(answers)} answers, states {states}, seconds {told}")
    document = {"kills": kills, "tasks": TASKS, "answers": len(answers), "seconds": told, "machine": machine}
    write_text(ROOT / "metrics/annotation/server.json", canonical(document))
