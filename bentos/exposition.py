"""`GET /metrics` of every Bento: what was counted so far, and what the process and the GPUs use at this moment.

ASGI middleware instead of BentoML's own answer, which in multi-process mode leaves out the process. Reads NVML (bytes,
shares of 1) where there is a driver; a GPU that stops answering is left out rather than failing the whole answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pynvml
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send


class Gpus(Collector):
    """One series for each GPU that this machine's driver shows."""

    def __init__(self) -> None:
        try:
            pynvml.nvmlInit()
            self._handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        except pynvml.NVMLError:  # no driver, so no GPU
            self._handles = []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        busy = GaugeMetricFamily("atelier_gpu_busy_ratio", "Share of time in which the GPU worked", labels=["gpu"])
        used = GaugeMetricFamily("atelier_gpu_memory_used_bytes", "GPU memory in use", labels=["gpu"])
        total = GaugeMetricFamily("atelier_gpu_memory_bytes", "GPU memory there is", labels=["gpu"])
        for index, handle in enumerate(self._handles):
            try:
                percent = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu
                memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            except pynvml.NVMLError:
                continue
            busy.add_metric([str(index)], percent / 100)
            used.add_metric([str(index)], memory.used)
            total.add_metric([str(index)], memory.total)
        yield from (busy, used, total)


class Exposition:
    """Answers the one path and passes everything else on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._registry = CollectorRegistry()
        MultiProcessCollector(self._registry)  # type: ignore[no-untyped-call]
        ProcessCollector(registry=self._registry)
        self._registry.register(Gpus())
        # A thread of its own, which waits for nobody's database; who asks while it works gets the same answer.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="metrics")
        self._answer: asyncio.Future[bytes] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/metrics":
            return await self._app(scope, receive, send)
        # In a thread: it reads files and asks a driver, neither of which requests should wait for.
        if self._answer is None or self._answer.done():
            loop = asyncio.get_running_loop()
            self._answer = loop.run_in_executor(self._thread, generate_latest, self._registry)
        text = await asyncio.shield(self._answer)
        await Response(text, media_type=CONTENT_TYPE_LATEST)(scope, receive, send)
