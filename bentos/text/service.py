"""The text Bento: writes completions with continuous batching.

The engine advances all calls together. Serves the artifact in ATELIER_TEXT_ARTIFACT, with the adapters in
ATELIER_ADAPTERS for jobs that name them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import cast

import bentoml
from bentoml.exceptions import BentoMLException

from bentos import remove_metrics, tracing
from bentos.access import Access, require_token
from bentos.calls import Calls
from bentos.exposition import Exposition
from bentos.protocol import adapters_folder, artifact_folder, describe, require_artifact
from bentos.text.engines import Engines
from bentos.writing import Writing
from components.artifact import ArtifactError
from components.config import load
from components.runtimes.base import TextRequest, TextResult
from components.runtimes.text import require_context  # imports its engine only when it loads

SERVING = load().serving


@bentoml.service(
    name="atelier-text",
    workers=1,
    traffic={"timeout": SERVING.request_timeout + 30},
    logging={"access": {"enabled": False}},  # ours has the request's id
)
class TextBento(Writing):
    """The calls of `Writing`, by the model of an artifact."""

    def __init__(self) -> None:
        folder = artifact_folder("text")
        self._engines = Engines(folder, adapters_folder(), SERVING.text_max_prompt_tokens)
        self._info = describe("text", folder)
        Calls.served = ("text", self._info.deployment)
        tracing.start("atelier-text")

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        require_token()
        require_artifact("text")
        try:
            require_context(artifact_folder("text"), SERVING.text_max_prompt_tokens, SERVING.text_max_new_tokens)
        except ArtifactError as error:
            raise BentoMLException(str(error)) from error

    @bentoml.on_shutdown
    def close(self) -> None:
        self._engines.close()
        tracing.stop()
        remove_metrics()

    def _write(self, request: TextRequest, adapter: str) -> AsyncGenerator[tuple[str | TextResult, str], None]:
        return self._engines.stream(request, adapter)


# The decorator has made a service of the class.
_service = cast("bentoml.Service[TextBento]", TextBento)
_service.add_asgi_middleware(Access)
_service.add_asgi_middleware(Exposition)
_service.add_asgi_middleware(Calls, routes=("/generate", "/stream"))
