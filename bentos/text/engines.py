"""The text model's engines: one without an adapter, and one more for each adapter that jobs name.

An adapter's engine is loaded in the background when a job first names it, and no job waits for that: until it is there,
and where it cannot be or has failed, the model answers without, and the answer says so. It takes as much memory as the
model does.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from components.artifact import ArtifactError, read_manifest
from components.runtimes.base import JobFailedError, TextRequest, TextResult
from components.runtimes.text import EngineStoppedError, OpenVinoText, load_text

MOST = 4  # adapters at a time
PATIENCE_SECONDS = 60.0  # before what failed is tried again, and what nobody asks for makes room
log = logging.getLogger("bentoml.text")


@dataclass
class Held:
    """An adapter's engine, None where it could not be loaded or has failed, and when a job last asked for it."""

    engine: Future[OpenVinoText | None]
    requested: float


class Engines:
    """Of the artifact in `folder`, and of the adapters in `adapters`, each in the folder that its digest names."""

    def __init__(self, folder: Path, adapters: Path, max_prompt_tokens: int | None = None) -> None:
        self._folder, self._adapters, self._max_prompt_tokens = folder, adapters, max_prompt_tokens
        self.plain = load_text(folder, None, max_prompt_tokens)
        self._held: dict[str, Held] = {}
        self._loader = ThreadPoolExecutor(1, "adapter-loader")

    def stream(self, request: TextRequest, adapter: str) -> AsyncGenerator[tuple[str | TextResult, str], None]:
        """Pieces and the result, each with the adapter that wrote it (or none).

        Raises `RequestRefusedError` at the call. An adapter's engine that fails before its first piece costs its user
        nothing.
        """
        engine, used = self.pick(adapter)
        return self._guarded(engine.stream(request), request, used)

    def pick(self, adapter: str) -> tuple[OpenVinoText, str]:
        """The engine for a job that names an adapter (or none), and the adapter that it writes with."""
        if not adapter:
            return self.plain, ""
        now, held = time.monotonic(), self._held.get(adapter)
        if held and held.engine.done():
            if engine := held.engine.result():
                held.requested = now
                return engine, adapter
            if now - held.requested > PATIENCE_SECONDS:
                del self._held[adapter]
        if adapter not in self._held and (len(self._held) < MOST or self._make_room(now)):
            self._held[adapter] = Held(self._loader.submit(self._load, adapter), now)
        return self.plain, ""

    def close(self) -> None:
        self._loader.shutdown()
        for held in self._held.values():
            if engine := held.engine.result():
                engine.close()
        self.plain.close()

    async def _guarded(
        self, pieces: AsyncGenerator[str | TextResult, None], request: TextRequest, used: str
    ) -> AsyncGenerator[tuple[str | TextResult, str], None]:
        begun = False
        try:
            async with aclosing(pieces):
                async for item in pieces:
                    begun = True
                    yield item, used
                return
        except (EngineStoppedError, JobFailedError) as error:
            if begun or not used:
                raise
            log.error("adapter %s failed, the model answers without: %s", used[:12], error)
            if isinstance(error, EngineStoppedError):
                self._drop(used)
        async with aclosing(self.plain.stream(request)) as pieces:
            async for item in pieces:
                yield item, ""

    def _drop(self, adapter: str) -> None:
        """Use an adapter no more whose engine has stopped."""
        held = self._held.get(adapter)
        if held and held.engine.done() and (engine := held.engine.result()):
            self._loader.submit(engine.close)
            held.engine = Future()
            held.engine.set_result(None)

    def _make_room(self, now: float) -> bool:
        """Give up the adapter that nobody has asked for longest, if that is long."""
        adapter, held = min(self._held.items(), key=lambda item: item[1].requested)
        if now - held.requested < PATIENCE_SECONDS or not held.engine.done():
            return False
        del self._held[adapter]
        if engine := held.engine.result():
            engine.close()
        return True

    def _load(self, adapter: str) -> OpenVinoText | None:
        folder = self._adapters / adapter
        try:
            if (digest := read_manifest(folder).digest) != adapter:
                raise ArtifactError(f"{folder}: holds the artifact {digest}")
            return load_text(self._folder, folder, self._max_prompt_tokens)
        except Exception as error:  # whatever it is, users are answered without it
            log.warning("adapter %s is not used: %s", adapter[:12], error)
            return None
