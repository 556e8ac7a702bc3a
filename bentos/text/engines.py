"""The text model's engines: one without an adapter, and one more for each adapter that jobs name.

An adapter's engine is loaded in the background when a job first names it, and no job waits for that: until it is there,
and where it cannot be, the model answers without, and the answer says so. It takes as much memory as the model does.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from components.artifact import ArtifactError, read_manifest
from components.runtimes.text import OpenVinoText, load_text

MOST = 4  # adapters at a time
RETRY_SECONDS = 60.0  # the folder of one that is not there yet may be on its way
log = logging.getLogger("bentoml.text")


class Engines:
    """Of the artifact in `folder`, and of the adapters in `adapters`, each in the folder that its digest names."""

    def __init__(self, folder: Path, adapters: Path) -> None:
        self._folder, self._adapters = folder, adapters
        self.plain = load_text(folder)
        self._loading: dict[str, Future[OpenVinoText | float]] = {}  # an engine, or when it failed
        self._loader = ThreadPoolExecutor(1, "adapter-loader")

    def pick(self, adapter: str) -> tuple[OpenVinoText, str]:
        """The engine for a job that names an adapter (or none), and the adapter that it writes with."""
        loading = self._loading.get(adapter)
        if loading and loading.done():
            found = loading.result()
            if isinstance(found, OpenVinoText):
                return found, adapter
            if time.monotonic() - found > RETRY_SECONDS:
                del self._loading[adapter]
        if adapter and adapter not in self._loading and (len(self._loading) < MOST or self._make_room()):
            self._loading[adapter] = self._loader.submit(self._load, adapter)
        return self.plain, ""

    def close(self) -> None:
        self._loader.shutdown()
        for loading in self._loading.values():
            if isinstance(found := loading.result(), OpenVinoText):
                found.close()
        self.plain.close()

    def _make_room(self) -> bool:
        """Give up what was asked for first of all that writes nothing now."""
        for adapter, loading in self._loading.items():
            found = loading.result() if loading.done() else None
            if isinstance(found, OpenVinoText) and not found.active():
                found.close()
            elif not isinstance(found, float):
                continue
            del self._loading[adapter]
            return True
        return False

    def _load(self, adapter: str) -> OpenVinoText | float:
        folder = self._adapters / adapter
        try:
            if (digest := read_manifest(folder).digest) != adapter:
                raise ArtifactError(f"{folder}: holds the artifact {digest}")
            return load_text(self._folder, folder)
        except (ArtifactError, RuntimeError) as error:
            log.warning("adapter %s is not used: %s", adapter[:12], error)
            return time.monotonic()
