"""`POST /v1/images/generations`: OpenAI's pictures in front of the image Bento.

The pictures of one request travel as as many calls, so that the image Bento may batch them with everyone else's.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from dataclasses import dataclass
from functools import partial

from starlette.responses import JSONResponse, Response
from starlette.types import Send

from bentos.gateway.attempts import Attempt, answer, call_with_retry, shadow
from bentos.gateway.errors import unavailable
from bentos.gateway.exchange import Exchange, Gateway, identify, recorded
from bentos.gateway.recheck import sample, wants_recheck
from bentos.gateway.schemas import ImagesRequest, check_model, parse, side_of
from bentos.protocol import ImageJob, Info, Picture
from components.config import Serving, Variant
from components.lines import IMAGE
from monitoring import metrics


@dataclass(frozen=True)
class Painted:
    """All pictures of one request, of `side` pixels; `first` is the job of the first one."""

    pictures: list[Picture]
    side: int
    first: ImageJob


async def images(gateway: Gateway, api_key: str, body: bytes, send: Send) -> Response:
    """All pictures of a request as base64 of PNGs, or an error and none of them.

    `revised_prompt`, as OpenAI calls what was painted in place of the prompt, is there where not all of it was read.
    """
    request = parse(ImagesRequest, body)
    check_model(request.model, IMAGE.name)
    caller = identify(gateway, IMAGE.name, api_key, request.user, request.metadata)
    route = gateway.traffic.route(IMAGE.name, caller.user_key)
    if route.answering_candidate is None:  # a size that a candidate cannot paint may be one that the champion can
        side_of(request.size, _native(route.info), route.info.multiple)
    exchange = Exchange(
        line=IMAGE.name,
        model=request.model,
        caller=caller,
        deployment=route.info.deployment,
        prompt=request.prompt,
        prefix="img",
        size=request.n or 1,
    )
    paint = partial(_paint, gateway, exchange, request)
    async with recorded(gateway, exchange) as result:
        painted = await answer(gateway, exchange, route, paint)
        result.answered_by = painted.pictures[0].deployment
        result.batch_size = max(picture.batch_size for picture in painted.pictures)
        result.output = _summary(painted)
    if wants_recheck(gateway, exchange):
        sample(gateway, exchange, result.answered_by, painted.first, painted.pictures[0])
    shadow(gateway, exchange, route, paint)
    metrics.IMAGES.inc(len(painted.pictures))
    document = {
        "created": int(exchange.created),
        "data": [
            {"b64_json": picture.png} | ({"revised_prompt": picture.read} if picture.read else {})
            for picture in painted.pictures
        ],
        "output_format": "png",
        "size": f"{painted.side}x{painted.side}",
    }
    return JSONResponse(document, headers=exchange.headers(result.answered_by))


def _native(info: Info) -> int:
    if info.side is None:
        raise unavailable(IMAGE.name)
    return info.side


async def _paint(gateway: Gateway, exchange: Exchange, request: ImagesRequest, attempt: Attempt) -> Painted:
    """All pictures at once, picture i from seed + i; when one fails, the others are cancelled."""
    info = gateway.upstream.info(attempt.slot)
    native = _native(info)
    side = side_of(request.size, native, info.multiple)
    first = secrets.randbits(32) if request.seed is None else request.seed
    steps, guidance = sampling(exchange.caller.variant, gateway.serving)
    jobs = [
        ImageJob(
            id=f"{exchange.id}-{i}",
            prompt=request.prompt,
            seed=(first + i) % 2**32,
            steps=steps,
            guidance=guidance,
            side=side,
        )
        for i in range(request.n or 1)
    ]
    try:
        async with asyncio.TaskGroup() as group:
            calls = [call_with_retry(gateway, attempt, partial(gateway.upstream.paint, job=job)) for job in jobs]
            tasks = [group.create_task(call) for call in calls]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    pictures = [task.result() for task in tasks]
    attempt.require(all(picture.png for picture in pictures))
    return Painted(pictures, side or native, jobs[0])


def sampling(variant: Variant | None, serving: Serving) -> tuple[int, float]:
    """Steps and guidance: those of the experiment's variant, else the line's defaults."""
    steps, guidance = (variant.steps, variant.guidance) if variant else (None, None)
    return (
        serving.image_steps if steps is None else steps,
        serving.image_guidance if guidance is None else guidance,
    )


def _summary(painted: Painted) -> str:
    """What stands for pictures in events: how many, how large, and the digest of each PNG."""
    digests = " ".join(hashlib.sha256(picture.png.encode()).hexdigest()[:16] for picture in painted.pictures)
    return f"{len(painted.pictures)} x {painted.side}x{painted.side} png {digests}"
