"""Make the lock files: `python infra/locks/lock.py [--upgrade]` resolves `pyproject.toml` with pip's own resolver.

Nothing is installed. The versions already locked are kept as constraints, so that a run only adds, drops or moves what
`pyproject.toml` asks for (about two minutes); `--upgrade` resolves without them. A resolved lock is only a candidate:
it is good once the test suite has passed in an environment installed from it.

Left out of the locks: torch, installed before them from whatever build pip's configuration offers, with the CUDA
libraries it brings; torchvision, which optimum-intel asks for and export does not need, and whose CUDA build breaks
`import transformers` beside a CPU build of torch; this project itself.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

LOCKS = Path(__file__).resolve().parent
ROOT = LOCKS.parent.parent
EXTRAS = "dev,postgres,ray"
LEFT_OUT = re.compile(r"atelier|torch|torchvision|triton|nvidia-(?!ml-py$).*|cuda-.*")
HEADER = """\
# Made by `python infra/locks/lock.py` from pyproject.toml (extras {extras}), for {platform}, Python {python}.
# Install torch first, as this project's Makefile does, then: pip install --no-deps -r {path}
"""
GPU_NOTE = """\
# The CPU lock with onnxruntime-gpu in the place of onnxruntime (they share a module: one or the other, same version).
# Resolved, never installed on the machine that made it: it has no GPU.
"""


def canonical_name(name: str) -> str:
    """A project name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(report: dict[str, object]) -> dict[str, str]:
    """Versions by canonical name from pip's installation report (format 1), without what the locks leave out."""
    items = report["install"]
    assert isinstance(items, list)
    versions = {canonical_name(i["metadata"]["name"]): i["metadata"]["version"] for i in items}
    return {name: version for name, version in sorted(versions.items()) if not LEFT_OUT.fullmatch(name)}


def for_gpu(versions: dict[str, str]) -> dict[str, str]:
    """The same versions with the GPU build of ONNX Runtime."""
    renamed = {"onnxruntime-gpu" if name == "onnxruntime" else name: v for name, v in versions.items()}
    return dict(sorted(renamed.items()))


def lock_text(versions: dict[str, str], path: str, note: str = "") -> str:
    """The text of one lock file."""
    system = f"{platform.system().lower()} {platform.machine()}"
    header = HEADER.format(
        extras=EXTRAS, platform=system, python=".".join(platform.python_version_tuple()[:2]), path=path
    )
    return header + note + "".join(f"{name}=={version}\n" for name, version in versions.items())


def resolve(*arguments: str) -> dict[str, object]:
    """pip's report of what it would install into an empty environment; ends with pip's own message where it cannot."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        pip = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--dry-run",
            "--ignore-installed",
            "--quiet",
            "--report",
            str(report),
        ]
        done = subprocess.run([*pip, *arguments], cwd=ROOT, check=False)
        if done.returncode:
            raise SystemExit(
                f"error: pip found no set of versions that fits {' '.join(arguments)}; its message is above"
            )
        document: dict[str, object] = json.loads(report.read_text(encoding="utf-8"))
        return document


def main() -> None:
    """Resolve, check that the GPU build of ONNX Runtime exists in the same version, and write both locks."""
    parser = argparse.ArgumentParser(description="Resolve pyproject.toml into infra/locks/cpu.txt and gpu.txt.")
    parser.add_argument("--upgrade", action="store_true", help="do not keep the versions that are locked now")
    upgrade: bool = parser.parse_args().upgrade
    cpu, gpu = LOCKS / "cpu.txt", LOCKS / "gpu.txt"
    keep = ["--constraint", str(cpu)] if cpu.exists() and not upgrade else []
    versions = pinned(resolve(*keep, f".[{EXTRAS}]"))
    resolve("--no-deps", f"onnxruntime-gpu=={versions['onnxruntime']}")
    cpu.write_text(lock_text(versions, "infra/locks/cpu.txt"), encoding="utf-8")
    gpu.write_text(lock_text(for_gpu(versions), "infra/locks/gpu.txt", GPU_NOTE), encoding="utf-8")
    print(f"locked {len(versions)} packages in {cpu.relative_to(ROOT)} and {gpu.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
