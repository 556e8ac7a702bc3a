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

from bentos.gateway.errors import unavailable
from bentos.gateway.exchange import Exchange, Gateway, recorded, segments
from bentos.gateway.schemas import ImagesRequest, check_model, parse, side_of
from bentos.gateway.trial import Attempt, answer, shadow
from bentos.protocol import ImageJob, Info, Picture
from monitoring import metrics


@dataclass(frozen=True)
class Painted:
    """All pictures of one request, of `side` pixels."""

    pictures: list[Picture]
    side: int


async def images(gateway: Gateway, api_key: str, body: bytes, send: Send) -> Response:
    """All pictures of a request as base64 of PNGs, or an error and none of them."""
    request = parse(ImagesRequest, body)
    check_model(request.model, "image")
    user = gateway.keys.user_key(request.user, api_key)
    route = await gateway.traffic.route("image", user)
    if route.trial is None:  # a size that a candidate cannot paint may be one that the champion can
        side_of(request.size, _native(route.info))
    kept = segments(gateway.feedback, request.metadata)
    exchange = Exchange("image", request.model, user, route.info.deployment, request.prompt, None, "img", kept)
    paint = partial(_paint, gateway, exchange, request)
    async with recorded(gateway, exchange) as result:
        painted = await answer(gateway, exchange, route, paint)
        result.batch_size = max(picture.batch_size for picture in painted.pictures)
        result.output = _summary(painted)
    shadow(gateway, exchange, route, paint)
    metrics.IMAGES.inc(len(painted.pictures))
    answered = {
        "created": int(exchange.created),
        "data": [{"b64_json": picture.png} for picture in painted.pictures],
        "output_format": "png",
        "size": f"{painted.side}x{painted.side}",
    }
    return JSONResponse(answered, headers=exchange.headers(painted.pictures[0].deployment))


def _native(info: Info) -> int:
    if info.side is None:
        raise unavailable("image")
    return info.side


async def _paint(gateway: Gateway, exchange: Exchange, request: ImagesRequest, attempt: Attempt) -> Painted:
    """All pictures at once, picture i from seed + i; when one fails, the others are cancelled."""
    native = _native(await gateway.upstream.info(attempt.slot))
    side = side_of(request.size, native)
    first = secrets.randbits(32) if request.seed is None else request.seed
    jobs = [_job(gateway, exchange, request.prompt, i, (first + i) % 2**32, side) for i in range(request.n or 1)]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(gateway.upstream.paint(attempt.slot, job)) for job in jobs]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    pictures = [task.result() for task in tasks]
    attempt.require(all(picture.png for picture in pictures))
    return Painted(pictures, side or native)


def _job(gateway: Gateway, exchange: Exchange, prompt: str, index: int, seed: int, side: int | None) -> ImageJob:
    serving = gateway.serving
    return ImageJob(
        id=f"{exchange.id}-{index}",
        prompt=prompt,
        seed=seed,
        steps=serving.image_steps,
        guidance=serving.image_guidance,
        side=side,
    )


def _summary(painted: Painted) -> str:
    """What stands for pictures in events: how many, how large, and the digest of each PNG."""
    digests = " ".join(hashlib.sha256(picture.png.encode()).hexdigest()[:16] for picture in painted.pictures)
    return f"{len(painted.pictures)} x {painted.side}x{painted.side} png {digests}"
