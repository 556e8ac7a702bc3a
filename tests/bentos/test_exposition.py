"""What `/metrics` adds to the counts: the process, and GPUs where a driver shows some (here a made-up one)."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import httpx
import pynvml
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from starlette.applications import Starlette

from bentos.exposition import Exposition, Gpus


def gpu_lines() -> list[str]:
    registry = CollectorRegistry()
    registry.register(Gpus())
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]


def test_without_a_driver_there_are_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    assert gpu_lines() == []


def test_a_gpu_that_fell_off_the_bus_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def rates(handle: int) -> SimpleNamespace:
        if handle == 0:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return SimpleNamespace(gpu=42)

    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 2)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: index)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUtilizationRates", rates)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lambda _: SimpleNamespace(used=3e9, total=8e9))
    assert gpu_lines() == [
        'atelier_gpu_busy_ratio{gpu="1"} 0.42',
        'atelier_gpu_memory_used_bytes{gpu="1"} 3e+09',
        'atelier_gpu_memory_bytes{gpu="1"} 8e+09',
    ]


async def test_one_path_is_answered_and_every_other_passed_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    transport = httpx.ASGITransport(app=Exposition(Starlette()))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/metrics")
        assert (answer.status_code, (await client.get("/metrics/more")).status_code) == (200, 404)
    assert "process_cpu_seconds_total " in answer.text and "process_resident_memory_bytes " in answer.text
