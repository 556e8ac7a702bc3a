"""A stand-in for both model Bentos: the wire protocol over made-up answers, on loopback, with no model behind it.

Text answers are "you said: <prompt>" word by word; pictures are one colour, chosen by the seed. A prompt that contains
`HOLD` waits until its caller disconnects; `FAIL` answers 500; `BUSY` 503 the first time that a text job comes; `CUT`
ends a stream without its result; `BLANK` is answered with nothing. `POST /mode` makes every later text answer an
`error`, `slow` (seconds late), `empty`, every later picture `not_finite`, or all `ok` again.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import sys
from collections.abc import AsyncIterator

import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from bentos.calls import ClientGone, until_disconnect
from bentos.protocol import TRACE, ImageJob, Info, Picture, TextJob, TextLine, Trace, Written

NATIVE = 32
cancelled: list[str] = []  # prompts whose callers left while they were held
jobs: list[dict[str, object]] = []  # every job, as it arrived
NAME = "standin"  # of the deployments it claims to serve
SLOW_SECONDS = 2.5
mode = "ok"


async def set_mode(request: Request) -> Response:
    global mode
    mode = (await request.body()).decode()
    return PlainTextResponse(mode)


async def text_info(_: Request) -> Response:
    return Response(Info(line="text", deployment=f"text-{NAME}", digest="0" * 64).model_dump_json())


async def image_info(_: Request) -> Response:
    return Response(Info(line="image", deployment=f"image-{NAME}", digest="1" * 64, side=NATIVE).model_dump_json())


async def hold(prompt: str) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        cancelled.append(prompt)


def written(job: TextJob, traced: bool) -> Written:
    prompt = job.messages[-1][1]
    text = "" if mode == "empty" or "BLANK" in prompt else f"you said: {prompt}"
    words = len(text.split())
    return Written(
        text=text,
        prompt_tokens=3,
        completion_tokens=words,
        finish_reason="stop" if text and job.max_new_tokens > 1 else "length",
        batch_size=2,
        deployment=f"text-{NAME}",
        adapter=job.adapter,
        trace=Trace(prompt=[1, 2, 3], tokens=[*range(words)], log_probs=[-0.5] * words) if traced else None,
    )


async def generate_text(request: Request) -> Response:
    job = TextJob.model_validate_json(await request.body())
    jobs.append(job.model_dump())
    prompt = job.messages[-1][1]
    if "BUSY" in prompt and sum(seen == jobs[-1] for seen in jobs) == 1:
        return PlainTextResponse("busy", 503)
    if "FAIL" in prompt or mode == "error":
        return PlainTextResponse("out of memory", 500)
    if mode == "slow":
        await asyncio.sleep(SLOW_SECONDS)
    try:
        if "HOLD" in prompt:
            await until_disconnect(request.receive, hold(prompt))
    except ClientGone:
        return PlainTextResponse("")
    return Response(written(job, TRACE in request.headers).model_dump_json())


async def stream_text(request: Request) -> Response:
    job = TextJob.model_validate_json(await request.body())
    jobs.append(job.model_dump())

    async def lines() -> AsyncIterator[str]:
        def encode(line: TextLine) -> str:
            return line.model_dump_json(exclude_none=True) + "\n"

        prompt, result = job.messages[-1][1], written(job, TRACE in request.headers)
        yield encode(TextLine(deployment=f"text-{NAME}"))
        if mode == "error":
            yield encode(TextLine(error="RuntimeError: out of memory"))
            return
        if mode == "slow":
            await asyncio.sleep(SLOW_SECONDS)
        for word in result.text.split():
            yield encode(TextLine(piece=word + " "))
        if "HOLD" in prompt:
            await hold(prompt)
        if "FAIL" in prompt:
            yield encode(TextLine(error="RuntimeError: out of memory"))
        elif "CUT" not in prompt:
            yield encode(TextLine(result=result))

    return StreamingResponse(lines(), media_type="text/event-stream")


async def generate_image(request: Request) -> Response:
    received = [ImageJob.model_validate(job) for job in json.loads(await request.body())["jobs"]]
    jobs.extend(job.model_dump() for job in received)
    (job,) = received
    if "HOLD" in job.prompt:
        try:
            await until_disconnect(request.receive, hold(job.prompt))
        except ClientGone:
            return PlainTextResponse("")
    if "FAIL" in job.prompt:
        return PlainTextResponse("out of memory", 500)
    if mode == "not_finite":
        return JSONResponse([Picture(png="", not_finite=True, batch_size=4, deployment=f"image-{NAME}").model_dump()])
    side = job.side or NATIVE
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (job.seed % 256, 0, 0)).save(buffer, "PNG")
    png = base64.b64encode(buffer.getvalue()).decode()
    return JSONResponse([Picture(png=png, batch_size=4, deployment=f"image-{NAME}").model_dump()])


async def log(_: Request) -> Response:
    return JSONResponse({"cancelled": cancelled, "jobs": jobs})


app = Starlette(
    routes=[
        Route("/text/info", text_info, methods=["POST"]),
        Route("/text/generate", generate_text, methods=["POST"]),
        Route("/text/stream", stream_text, methods=["POST"]),
        Route("/image/info", image_info, methods=["POST"]),
        Route("/image/generate", generate_image, methods=["POST"]),
        Route("/log", log),
        Route("/mode", set_mode, methods=["POST"]),
    ]
)

if __name__ == "__main__":
    NAME = sys.argv[2] if len(sys.argv) > 2 else NAME
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
