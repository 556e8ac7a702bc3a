"""The locks hold what belongs in them, and both name the same ONNX Runtime version."""

from __future__ import annotations

import runpy
from pathlib import Path

from components.preflight import read_lock

LOCKS = Path(__file__).resolve().parents[3] / "infra" / "locks"
lock = runpy.run_path(str(LOCKS / "lock.py"))


def test_what_is_installed_apart_stays_out() -> None:
    names = [
        "Torch",
        "torchvision",
        "atelier",
        "nvidia-cublas",
        "nvidia_ml_py",
        "cuda-bindings",
        "zc.lockfile",
        "torchmetrics",
    ]
    report = {"install": [{"metadata": {"name": name, "version": "1"}} for name in names]}
    assert lock["pinned"](report) == {"nvidia-ml-py": "1", "torchmetrics": "1", "zc-lockfile": "1"}


def test_the_gpu_lock_is_the_cpu_lock_with_the_gpu_runtime() -> None:
    cpu = read_lock((LOCKS / "cpu.txt").read_text())
    gpu = read_lock((LOCKS / "gpu.txt").read_text())
    assert gpu == lock["for_gpu"](cpu)
    assert gpu["onnxruntime-gpu"] == cpu["onnxruntime"]
    assert not cpu.keys() & {"torch", "torchvision", "onnxruntime-gpu", "atelier"}


def test_a_written_lock_is_read_back() -> None:
    versions = {"alpha": "1.0", "beta": "2.0"}
    assert read_lock(lock["lock_text"](versions, "infra/locks/cpu.txt")) == versions
