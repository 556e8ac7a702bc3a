"""The SIMULATED audience: seeded users who ask the running gateway for stickers and react to what they are given.

They come through the front door, with the official `openai` client and `POST /v1/feedback`, and know only what a user
knows. A request is sent once: a failure is counted, never retried. Every run leaves a record of which responses were
its own, so that reports can call that traffic simulated.
"""

from __future__ import annotations

import asyncio
import base64
import io
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from openai import APIError, AsyncOpenAI
from PIL import Image

from components.api_keys import KEYS, accepted_keys
from components.config import Audience, Params
from components.data.pairs import read_pairs
from components.events.schema import Kind
from components.paths import TEXT_SPLIT
from components.stage import StageError
from flows.demo.taste import Taste, behave, like_picture, like_text, taste
from flows.environment import service_urls
from monitoring.simulated import AudienceRun, SimulatedPicture, audience_folder, write_run

PICTURES_KEPT = 24
# What a drifted audience asks for: another task, in another register, than anything in the training phrases.
_FOREIGN = (
    "URGENT: prepare an infographic on quarterly revenue, EBITDA and churn for Thursday's board meeting",
    "ein freundlicher Fuchs im Nebel, Aquarell, für den Geburtstag meiner Großmutter",
    "photorealistic cinematic portrait, 85mm lens, volumetric light, 8k, trending, ultra detailed",
    "logo for our B2B logistics start-up, minimalist, two colours, must scale to favicon size",
    "图标：夜空中的灯塔",
    "diagram of a transformer's residual stream with labelled attention heads",
)
DRIFTED = {phrase: phrase for phrase in _FOREIGN}


@dataclass
class _Tally:
    """What a visit came to so far; the part of its record that is not known beforehand."""

    request_ids: list[str] = field(default_factory=list)
    failed_ids: list[str] = field(default_factory=list)
    pictures: list[SimulatedPicture] = field(default_factory=list)
    failed: int = 0
    likes: int = 0
    dislikes: int = 0


@dataclass(frozen=True)
class Visit:
    """What every simulated user shares: the client, the phrases to choose from, where to keep pictures."""

    client: AsyncOpenAI
    audience: Audience
    phrases: list[str]
    drift: float
    drifted: Mapping[str, str]
    folder: Path
    run: str
    tally: _Tally


def run_audience(params: Params, drift: float = 0.0, drifted: Mapping[str, str] = DRIFTED) -> AudienceRun:
    """Send the configured audience to the gateway; `drift` (0 to 1) is the share of phrases unlike the training data.

    `drifted` has those phrases, and of each the words that its user hopes to find in the answer.

    Returns the run's record. Raises `StageError` where no answer came at all.
    """
    key = next(iter(accepted_keys(os.environ.get(KEYS, ""))))  # as every user needs one
    phrases = [pair.phrase for pair in read_pairs(TEXT_SPLIT / "test.parquet")]
    folder = audience_folder(params.monitor.report)
    folder.mkdir(parents=True, exist_ok=True)
    url = f"{service_urls(params)['gateway']}/v1"
    client = AsyncOpenAI(base_url=url, api_key=key, max_retries=0, timeout=params.serving.request_timeout)
    run = asyncio.run(visit(client, params.audience, phrases, folder, drift, drifted))
    if not run.request_ids:
        raise StageError(f"none of the simulated audience's {run.failed} requests was answered by {url}")
    return run


async def visit(
    client: AsyncOpenAI,
    audience: Audience,
    phrases: list[str],
    folder: Path,
    drift: float,
    drifted: Mapping[str, str] = DRIFTED,
) -> AudienceRun:
    """All users' sessions, at most `audience.concurrency` at a time; pictures and the run's record are in `folder`."""
    started = time.time()
    tally = _Tally()
    turn = asyncio.Semaphore(audience.concurrency)
    run = f"{int(started)}-{audience.seed}"
    shared = Visit(client, audience, phrases, drift, drifted, folder, run, tally)

    async def user(number: int) -> None:
        async with turn:
            await session(shared, number)

    try:
        async with client, asyncio.TaskGroup() as group:
            for number in range(audience.users):
                group.create_task(user(number))
    finally:  # also of a visit that was cut short, or its requests would pass for people's
        record = AudienceRun(audience.seed, audience.users, started, time.time(), drift, **vars(tally))
        write_run(folder, record)
    return record


async def session(shared: Visit, number: int) -> None:
    """One user's requests, one after the other; a user's choices depend only on the seed and their number."""
    audience = shared.audience
    rng = np.random.default_rng([audience.seed, number])
    person, name = taste(rng), f"simulated-{audience.seed}-{number}"
    for _ in range(audience.requests_per_user):
        pool = list(shared.drifted) if rng.random() < shared.drift else shared.phrases
        phrase, seed = pool[int(rng.integers(len(pool)))], int(rng.integers(2**31))
        wants_picture, rolls = bool(rng.random() < audience.image_share), rng.random(4)
        try:
            prompt = await ask_text(shared, person, name, phrase, seed, rolls[:2])
            if wants_picture and prompt:
                await ask_picture(shared, person, name, prompt, seed, rolls[2:])
        except APIError as error:
            shared.tally.failed += 1
            identifier = getattr(error, "request_id", None)  # on record too, if it got as far as that
            shared.tally.failed_ids += [identifier] if identifier else []


async def ask_text(shared: Visit, person: Taste, name: str, phrase: str, seed: int, rolls: Any) -> str:
    """Have a picture prompt written and react to it; returns the prompt."""
    answer = await shared.client.chat.completions.create(
        model="atelier-text",
        messages=[{"role": "user", "content": phrase}],
        seed=seed,
        user=name,
        metadata={"plan": person.plan},
    )
    text = answer.choices[0].message.content or ""
    shared.tally.request_ids.append(answer.id)
    await react(shared, person, name, answer.id, like_text(person, shared.drifted.get(phrase, phrase), text), rolls)
    return text


async def ask_picture(shared: Visit, person: Taste, name: str, prompt: str, seed: int, rolls: Any) -> None:
    """Have the prompt painted, keep the first few pictures, and react."""
    answer = await shared.client.images.generate(
        model="atelier-image", prompt=prompt, user=name, extra_body={"seed": seed, "metadata": {"plan": person.plan}}
    )
    png = base64.b64decode((answer.data or [])[0].b64_json or "")
    identifier = str(answer._request_id)
    shared.tally.request_ids.append(identifier)
    if len(shared.tally.pictures) < PICTURES_KEPT:
        file = f"{shared.run}-{len(shared.tally.pictures):02}.png"
        shared.tally.pictures.append(SimulatedPicture(file, prompt, identifier))
        (shared.folder / file).write_bytes(png)
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    await react(shared, person, name, identifier, like_picture(person, pixels), rolls)


async def react(shared: Visit, person: Taste, name: str, identifier: str, probability: float, rolls: Any) -> None:
    """Post a like or a dislike with whatever else the user does, or stay silent."""
    if rolls[0] >= person.reacts:
        return
    liked = bool(rolls[1] < probability)
    # The rolls decide, so that a user's later choices stay those that the seed has always made.
    rng = np.random.default_rng(int(2**53 * rolls[1]))
    doings: dict[Kind, float] = {"like": float(liked), **behave(rng, probability)}
    for kind, value in doings.items():
        feedback = {"request_id": identifier, "kind": kind, "value": value, "key": identifier, "user": name}
        await shared.client.post("/feedback", body=feedback, cast_to=object)
    shared.tally.likes += liked
    shared.tally.dislikes += not liked
