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
from bentos.gateway.exchange import Exchange, Gateway, assigned, recorded, segments, share_of
from bentos.gateway.retries import asked
from bentos.gateway.schemas import ImagesRequest, check_model, parse, side_of
from bentos.gateway.trial import Attempt, answer, shadow
from bentos.protocol import ImageJob, Info, Picture
from components.config import Serving, Variant
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
    route = gateway.traffic.route("image", user)
    if route.trial is None:  # a size that a candidate cannot paint may be one that the champion can
        side_of(request.size, _native(route.info))
    kept = segments(gateway.feedback, request.metadata)
    assignment, variant = assigned(gateway, "image", user, kept)
    asks, size, share = route.info.deployment, request.n or 1, share_of(gateway, api_key, user)
    exchange = Exchange(
        "image", request.model, user, asks, request.prompt, assignment, "img", kept, size=size, share=share
    )
    paint = partial(_paint, gateway, exchange, request, variant)
    async with recorded(gateway, exchange) as result:
        painted = await answer(gateway, exchange, route, paint)
        result.deployment = painted.pictures[0].deployment
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
    return JSONResponse(answered, headers=exchange.headers(result.deployment))


def _native(info: Info) -> int:
    if info.side is None:
        raise unavailable("image")
    return info.side


async def _paint(
    gateway: Gateway, exchange: Exchange, request: ImagesRequest, variant: Variant | None, attempt: Attempt
) -> Painted:
    """All pictures at once, picture i from seed + i; when one fails, the others are cancelled."""
    native = _native(gateway.upstream.info(attempt.slot))
    side = side_of(request.size, native)
    first = secrets.randbits(32) if request.seed is None else request.seed
    steps, guidance = sampling(variant, gateway.serving)
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
            tasks = [
                group.create_task(asked(gateway, attempt, partial(gateway.upstream.paint, job=job))) for job in jobs
            ]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    pictures = [task.result() for task in tasks]
    attempt.require(all(picture.png for picture in pictures))
    return Painted(pictures, side or native)


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
