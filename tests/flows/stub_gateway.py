"""A gateway for tests: OpenAI's shapes on a free loopback port, with real events and no model behind it."""

from __future__ import annotations

import asyncio
import base64
import io
import socket
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from components.config import Experiment
from components.events.schema import Accepted, Feedback, Finished, Outcome, hash_user
from components.events.store import EventStore
from components.experiments.assignment import Assignment, assign
from tests.components.experiments.examples import placed

Write = Callable[[str, str], str]  # (phrase, variant) -> answer


def good_or_lazy(phrase: str, variant: str) -> str:
    """Control names what was asked; treatment forgets it and repeats itself."""
    return f"{phrase}: bright colours, thick outline, flat sticker" if variant == "control" else "sticker " * 8


@asynccontextmanager
async def stub_gateway(url: str, experiment: Experiment, write: Write = good_or_lazy) -> AsyncIterator[str]:
    """Yields the base URL; every chat of a user named `…-13` fails with status 500."""
    events = await EventStore.open(url)

    async def record(line: str, user: str, prompt: str, output: str, status: int, given: Assignment) -> str:
        identifier, key, began = f"{line}-{uuid.uuid4().hex}", hash_user(user, ""), time.time()
        await events.append(
            Accepted(
                request_id=identifier,
                time=began,
                user_key=key,
                line="text" if line == "text" else "image",
                deployment=f"{line}-1",
                model=f"atelier-{line}",
                experiment=given.experiment,
                variant=given.variant,
                propensity=given.propensity,
            )
        )
        await events.append(
            Finished(
                request_id=identifier,
                time=time.time(),
                latency_s=0.05 + len(prompt) / 1000,
                outcome=Outcome.OK if status == 200 else Outcome.ERROR,
                status=status,
                batch_size=2,
                prompt=prompt,
                output=output,
                completion_tokens=len(output.split()),
            )
        )
        return identifier

    async def chat(request: Request) -> JSONResponse:
        body = await request.json()
        phrase, user = body["messages"][-1]["content"], body["user"]
        given = assign(placed(experiment), hash_user(user, ""))
        status = 500 if user.endswith("-13") else 200
        text = write(phrase, given.variant)
        identifier = await record("text", user, phrase, text if status == 200 else "", status, given)
        if status != 200:
            return JSONResponse({"error": {"message": "broken"}}, status, {"x-request-id": identifier})
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return JSONResponse(
            {"id": identifier, "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        )

    async def images(request: Request) -> JSONResponse:
        body = await request.json()
        noise = np.random.default_rng(body["seed"]).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(noise).save(file, "PNG")
        identifier = await record("image", body["user"], body["prompt"], "1 picture", 200, Assignment("", "", 1.0))
        data = [{"b64_json": base64.b64encode(file.getvalue()).decode()}]
        return JSONResponse({"created": 0, "data": data}, headers={"x-request-id": identifier})

    async def feedback(request: Request) -> JSONResponse:
        body = await request.json()
        row = Feedback(
            key=f"{body['key']}:{body['kind']}",
            request_id=body["request_id"],
            time=time.time(),
            user_key=hash_user(body["user"], ""),
            kind=body["kind"],
            value=body["value"],
        )
        return JSONResponse({"new": await events.append(row)}, 201)

    routes = [
        Route("/v1/chat/completions", chat, methods=["POST"]),
        Route("/v1/images/generations", images, methods=["POST"]),
        Route("/v1/feedback", feedback, methods=["POST"]),
    ]
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), log_level="error"))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving
            await events.close()
