"""`POST /v1/images/generations`: OpenAI's pictures in front of the image Bento.

The pictures of one request travel as as many calls, so that the image Bento may batch them with everyone else's.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets

from starlette.responses import JSONResponse, Response
from starlette.types import Send

from bentos.gateway.errors import unavailable
from bentos.gateway.exchange import Exchange, Gateway, recorded
from bentos.gateway.schemas import ImagesRequest, check_model, parse, side_of
from bentos.protocol import ImageJob, Picture
from monitoring import metrics


async def images(gateway: Gateway, api_key: str, body: bytes, send: Send) -> Response:
    """All pictures of a request as base64 of PNGs, or an error and none of them."""
    request = parse(ImagesRequest, body)
    check_model(request.model, "image")
    info = await gateway.upstream.info("image")
    if info.side is None:
        raise unavailable("image")
    side = side_of(request.size, info.side)
    user = gateway.keys.user_key(request.user, api_key)
    exchange = Exchange("image", request.model, user, info.deployment, request.prompt, None, "img")
    async with recorded(gateway, exchange) as result:
        pictures = await _paint(gateway, exchange, request, side)
        result.batch_size = max(picture.batch_size for picture in pictures)
        result.output = _summary(pictures, side or info.side)
    metrics.IMAGES.inc(len(pictures))
    answer = {
        "created": int(exchange.created),
        "data": [{"b64_json": picture.png} for picture in pictures],
        "output_format": "png",
        "size": f"{side or info.side}x{side or info.side}",
    }
    return JSONResponse(answer, headers=exchange.headers(pictures[0].deployment))


async def _paint(gateway: Gateway, exchange: Exchange, request: ImagesRequest, side: int | None) -> list[Picture]:
    """All pictures at once, picture i from seed + i; when one fails, the others are cancelled."""
    first = secrets.randbits(32) if request.seed is None else request.seed
    jobs = [_job(gateway, exchange, request.prompt, i, (first + i) % 2**32, side) for i in range(request.n or 1)]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(gateway.upstream.paint(job)) for job in jobs]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    return [task.result() for task in tasks]


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


def _summary(pictures: list[Picture], side: int) -> str:
    """What stands for pictures in events: how many, how large, and the digest of each PNG."""
    digests = " ".join(hashlib.sha256(picture.png.encode()).hexdigest()[:16] for picture in pictures)
    return f"{len(pictures)} x {side}x{side} png {digests}"
