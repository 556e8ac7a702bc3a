"""The endpoint Bento: a text Bento that asks an OpenAI-compatible API, and needs no engine of its own.

Serves what the artifact in ATELIER_TEXT_ARTIFACT names, with the key of its address in the folder
ATELIER_ENDPOINT_KEYS, or that in ATELIER_ENDPOINT_KEY. An adapter that a job names is not used: there are no weights
here to put it on.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

import bentoml

from bentos import remove_metrics, tracing
from bentos.access import Access, require_token
from bentos.calls import Calls
from bentos.exposition import Exposition
from bentos.protocol import artifact_folder, describe, require_artifact
from bentos.writing import UnansweredError, Writing
from components.artifact import read_manifest
from components.config import load
from components.paths import TEXT_ENDPOINT
from components.runtimes.base import TextRequest, TextResult
from components.runtimes.endpoint import Endpoint, EndpointError, EndpointText, log

SERVING = load().serving


@bentoml.service(
    name="atelier-endpoint",
    workers=1,
    traffic={"timeout": SERVING.request_timeout + 30},
    logging={"access": {"enabled": False}},  # ours has the request's id
)
class EndpointBento(Writing):
    """The calls of `Writing`, by the API that an artifact names."""

    def __init__(self) -> None:
        folder = artifact_folder("text", TEXT_ENDPOINT)
        self._info = describe("text", folder).model_copy(update={"endpoint": True})
        endpoint = Endpoint.of(read_manifest(folder))
        self._engine = EndpointText.with_kept_key(endpoint, SERVING.request_timeout)
        Calls.served = ("text", self._info.deployment)
        tracing.start("atelier-endpoint")

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        require_token()
        require_artifact("text", TEXT_ENDPOINT)

    @bentoml.on_shutdown
    async def close(self) -> None:
        await self._engine.close()
        tracing.stop()
        remove_metrics()

    async def _write(self, request: TextRequest, adapter: str) -> AsyncGenerator[tuple[str | TextResult, str], None]:
        try:
            async with aclosing(self._engine.stream(request)) as items:
                async for item in items:
                    yield item, ""
        except EndpointError as error:
            log.error("%s", error)
            raise UnansweredError(str(error), error.status) from error


# The decorator has made a service of the class.
_service = cast("bentoml.Service[EndpointBento]", EndpointBento)
_service.add_asgi_middleware(Access)
_service.add_asgi_middleware(Exposition)
_service.add_asgi_middleware(Calls, routes=("/generate", "/stream"))
