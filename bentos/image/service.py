"""The image Bento: paints pictures in adaptive batches.

Every call carries one picture, so that BentoML's dispatcher decides how many are painted together; steps, guidance and
seed may differ within a batch. Serves the artifact in ATELIER_IMAGE_ARTIFACT with the engine in ATELIER_IMAGE_ENGINE.
"""

from __future__ import annotations

import asyncio
import base64
import io
import logging
import os
import time
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, cast

import bentoml
from bentoml.exceptions import BentoMLException
from pydantic import Field
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bentos import remove_metrics, tracing
from bentos.access import Access, require_token
from bentos.calls import Calls, disconnection, of_job
from bentos.exposition import Exposition
from bentos.protocol import JOB_ID, ImageJob, Info, Picture, artifact_folder, describe, require_artifact
from components.config import load
from components.runtimes.pipeline import Description, paints_pipeline

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from components.runtimes.base import ImageRequest
    from components.runtimes.image import Engine

SERVING = load().serving
PIPELINE = paints_pipeline(artifact_folder("image"))
log = logging.getLogger("bentoml.image")
ENGINES: dict[str, Engine] = {"pytorch": "pytorch", "onnxruntime": "onnxruntime", "openvino": "openvino"}


def engine() -> Engine | None:
    """The engine named in ATELIER_IMAGE_ENGINE; None where none is: the artifact's own.

    Raises `BentoMLException` for an unknown one, and for PyTorch, the reference, in a built Bento, which lacks it.
    """
    name = os.environ.get("ATELIER_IMAGE_ENGINE")
    if not name:
        return None
    if name not in ENGINES:
        raise BentoMLException(f"ATELIER_IMAGE_ENGINE is {name!r}; expected one of {', '.join(ENGINES)}")
    if find_spec(f"components.runtimes.{name}") is None:
        raise BentoMLException(
            f"ATELIER_IMAGE_ENGINE is {name!r}, which a built Bento does not carry: serve from the tree"
        )
    return ENGINES[name]


class Departures:
    """Has `Calls`, in which it stands, note callers that go: a batching dispatcher would paint for them all the same.

    ASGI middleware. It watches the connection of each call that names its job, once the body is read.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or JOB_ID not in Headers(scope=scope):
            return await self._app(scope, receive, send)
        watcher: asyncio.Task[None] | None = None

        async def read() -> Message:
            nonlocal watcher
            message = await receive()
            if watcher is None and not message.get("more_body", False):
                watcher = asyncio.create_task(disconnection(receive))
            return message

        try:
            await self._app(scope, read, send)
        finally:
            if watcher is not None:
                watcher.cancel()


# The gateway answers for its own timeout first; BentoML's would not be in OpenAI's shape.
@bentoml.service(
    name="atelier-image",
    workers=1,
    threads=1,
    traffic={"timeout": SERVING.request_timeout + 30},
    logging={"access": {"enabled": False}},  # ours has the request's id
)
class ImageBento:
    """`POST /generate` {"jobs": [one job]} → [one picture]; `POST /info` → what is served."""

    def __init__(self) -> None:
        from components.runtimes.base import ImageRequest
        from components.runtimes.image import load_image

        folder = artifact_folder("image")
        self._runtime = load_image(folder, engine())
        if PIPELINE:  # whose picture may take minutes: its description tells the size
            side = Description.read(folder).size
        else:  # the first call pays for compilation, and its picture tells the model's own size
            side = self._runtime.generate([ImageRequest("", 0, 1, 1.0)])[0].shape[0]
        self._info = describe("image", folder, side, self._runtime.multiple)
        Calls.served = ("image", self._info.deployment)
        tracing.start("atelier-image")

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        engine()
        require_token()
        require_artifact("image")

    @bentoml.on_shutdown
    def close(self) -> None:
        tracing.stop()
        remove_metrics()

    @bentoml.api
    async def info(self) -> Info:
        return self._info

    # max_latency_ms is an objective, not a linger time: jobs predicted to miss it are dropped with 503.
    # Batches pay until the cores are full, which on two of them is at 4 to 8 pictures: 20 guided steps are 40 passes of
    # 2.7 ms per picture (bf16), so 9 pictures/s at 8 users as at 32, whose batches of 16 only wait for one another.
    # Of a pipeline each picture of a batch would wait for all of them; 2 is the least that BentoML takes.
    @bentoml.api(
        batchable=True,
        max_batch_size=2 if PIPELINE else max(SERVING.image_max_batch, 2),
        max_latency_ms=SERVING.image_max_latency_ms,
    )
    def generate(self, jobs: Annotated[list[ImageJob], Field(min_length=1, max_length=1)]) -> list[Picture]:
        """A pipeline paints one after another, and asks before each whether somebody still waits for it."""
        if PIPELINE:
            return [picture for job in jobs for picture in self._together([job])]
        return self._together(jobs)

    def _together(self, jobs: list[ImageJob]) -> list[Picture]:
        calls = {job.id: of_job(job.id) for job in jobs}
        wanted = [job for job in jobs if not ((call := calls[job.id]) and call.outcome == "cancelled")]
        began = time.time_ns()
        painted = dict(zip((job.id for job in wanted), self._paint(wanted), strict=True)) if wanted else {}
        for job in wanted:
            if call := calls[job.id]:
                call.generated(began, len(wanted))
        return [self._picture(job, painted, len(wanted)) for job in jobs]

    def _paint(self, jobs: list[ImageJob]) -> list[NDArray[np.uint8] | None]:
        """None where the model's output is not finite: whoever was painted in the same batch gets their picture."""
        from components.runtimes.base import NotFiniteError

        try:
            return [*self._runtime.generate([self._request(job) for job in jobs])]
        except NotFiniteError as error:
            log.error("%s: %s", self._info.deployment, error)
            return error.pictures

    def _request(self, job: ImageJob) -> ImageRequest:
        from components.runtimes.base import ImageRequest

        paints = self._info.multiple and job.side and job.side < (self._info.side or 0)
        return ImageRequest(job.prompt, job.seed, job.steps, job.guidance, job.side if paints else None)

    def _picture(self, job: ImageJob, painted: Mapping[str, NDArray[np.uint8] | None], batch_size: int) -> Picture:
        """A job that is not in `painted` was cancelled."""
        pixels = painted.get(job.id)
        return Picture(
            png="" if pixels is None else base64.b64encode(encode_png(pixels, job.side)).decode(),
            not_finite=job.id in painted and pixels is None,
            batch_size=batch_size,
            deployment=self._info.deployment,
            read=self._runtime.read_part(job.prompt) or "",
        )


# The decorator has made a service of the class.
_service = cast("bentoml.Service[ImageBento]", ImageBento)
_service.add_asgi_middleware(Access)
_service.add_asgi_middleware(Exposition)
_service.add_asgi_middleware(Calls, routes=("/generate",))
_service.add_asgi_middleware(Departures)


def encode_png(pixels: NDArray[np.uint8], side: int | None) -> bytes:
    """PNG of pixels [size, size, 3], enlarged to `side` pixels (Lanczos) where that differs from its size."""
    from PIL import Image

    picture = Image.fromarray(pixels)
    if side is not None and side != picture.width:
        picture = picture.resize((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()
