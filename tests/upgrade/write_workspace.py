"""A workspace as commit 3ae1c24 left it, written by that commit's own code: run there, in its tree, by the drill.

Two Bentos with small models and random weights serve as champions, an experiment runs, people have labelled, users have
asked. `events.sql` is the database of such a workspace, without Bentos.
"""
# ruff: noqa: I001 - its imports name that commit's modules: whoever renames one here leaves them as they are

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

LINES = ("text", "image")
PROJECT = "atelier-stickers"


def write_packages() -> None:
    """Sealed packages of two small models."""
    from components.artifact import seal
    from components.config import ExportImage
    from components.export.image import write_export
    from tests import tiny_image, tiny_language

    base = tiny_language.write_tiny_base(Path("artifacts/base"))
    tiny_language.write_tiny_export(base, Path("artifacts/text/package"), kind="package")
    encoder, package = tiny_image.write_tiny_encoder(Path("artifacts/encoder")), Path("artifacts/image/package")
    settings = ExportImage(weight_format="f32", calibration=8)
    write_export(tiny_image.tiny_denoiser(), encoder, tiny_image.CAPTIONS, settings, package)
    seal(package, line="image", kind="package", parents={}, parameters={}, metrics={})


def serve_packages() -> None:
    """Build the Bentos, make them champions and say where each is served."""
    from components.artifact import read_manifest, write_text
    from components.config import load
    from components.events.read import record_deployment
    from components.events.schema import Deployment
    from components.events.transactions import opened
    from components.releases import leases, store
    from components.releases.machine import State
    from components.releases.schema import Note
    from flows.environment import STATE
    from flows.slots import place

    url = load().events.url
    for name in (*LINES, "gateway"):
        build = ["bentoml", "build", "-f", f"bentos/{name}/bentofile.yaml", "--version", "v1", "."]
        subprocess.run(build, check=True)
    write_text(STATE / "deployed" / "gateway.txt", "atelier-gateway:v1")
    for line in LINES:
        digest = read_manifest(Path("artifacts", line, "package")).digest
        names = {"deployment": f"{line}-v1", "line": line, "digest": digest, "bento": f"atelier-{line}:v1"}
        record = Deployment(**names, model=f"atelier-{line}", version="1", time=time.time())
        record_deployment(url, record)
        place(line, record)
        with opened(url) as engine:
            lease, note = leases.take(engine, line, "ops", 900), Note("ops", "the first release")
            release = store.register(engine, record.deployment, note, lease.token)
            release = store.move(engine, release.release, 1, State.VALIDATED, note, lease.token)
            store.move(engine, release.release, 2, State.CHAMPION, note, lease.token, direct=True)
            leases.give_back(engine, lease)


def write_people() -> None:
    """An experiment, labels, and users' requests with what they thought of the answers."""
    from components.annotation import tier_store
    from components.annotation.tiers import Answer, Tier
    from components.config import load
    from components.events.transactions import opened
    from components.experiments import store
    from components.learning import labels
    from components.releases.schema import Note

    params = load()
    with opened(params.events.url) as engine:
        store.apply(engine, params.experiments, Note("ops", "declared in params.yaml"))
        tier_store.add(engine, PROJECT, {"s1": "", "s2": "", "g1": "animal"}, "ops")
        tiers = params.annotation.tiers
        crowd = tier_store.crowd_of(engine, PROJECT, ["animal", "food"], tiers)
        for task, people in zip(tier_store.tasks(engine, PROJECT), ("12", "1", "1"), strict=True):
            for person in people:
                now = next(one for one in tier_store.tasks(engine, PROJECT) if one.task == task.task)
                tier_store.submit(engine, now, Answer(person, Tier.ANNOTATE, "animal"), crowd, tiers)
        boat, cake = labels.task_of("ein rotes Boot", "a boat", "drift"), labels.task_of("生日蛋糕", "a cake", "drift")
        labels.enqueue(engine, [boat, cake], time.time())
        labels.answer(engine, [labels.Answer(boat.task, "a red boat, sticker", "ann")], time.time())
    asyncio.run(write_events(params.events.url, params.experiments[0].name))


async def write_events(url: str, experiment: str) -> None:
    """Twelve answered requests of four users, each with a like or a dislike."""
    from components.events.schema import Accepted, Feedback, Finished, hash_user
    from components.events.store import EventStore

    events = await EventStore.open(url)
    for number in range(12):
        user, request, now = hash_user(f"user-{number % 4}", "secret"), f"{number:032x}", time.time()
        variant = ("control", "treatment")[number % 2]
        place = {"experiment": experiment, "variant": variant, "propensity": 0.5}
        served = {"line": "text", "deployment": "text-v1", "model": "atelier-text"}
        await events.append(Accepted(request_id=request, time=now, user_key=user, **served, **place))
        wrote = {"prompt": "生日蛋糕", "output": "a cake, sticker", "prompt_tokens": 5, "completion_tokens": 6}
        ended = {"latency_s": 0.2, "outcome": "ok", "status": 200, "batch_size": 1}
        await events.append(Finished(request_id=request, time=now, **ended, **wrote))
        liked = {"kind": "like", "value": float(number % 3 != 0), "received": now}
        await events.append(Feedback(request_id=request, time=now, key=f"like:{request}", user_key=user, **liked))
    await events.close()


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    from flows import environment

    environment.apply()
    if sys.argv[1:] != ["people"]:
        write_packages()
        serve_packages()
    write_people()
