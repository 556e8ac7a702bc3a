"""Says in words what is wrong with an installation: `python -m components.preflight [lock file]`.

Looks and repairs nothing. Standard library and pip only, so that it runs when everything else is broken. Errors end
with exit code 1; warnings name what will not work and leave the exit code at 0.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CPU_LOCK = ROOT / "infra" / "locks" / "cpu.txt"
GPU_LOCK = ROOT / "infra" / "locks" / "gpu.txt"
OLDEST, NEWEST = (3, 11), (3, 12)
TORCH_LOCK = ROOT / "infra" / "locks" / "torch.txt"
HASHED = "--no-deps --no-build-isolation --require-hashes"
RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
NEEDED_GIB = 5.0  # assets, base models, checkpoints and exports of both lines, with room for a second version of each
SHOWN = 5  # differences from the lock named one by one


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, in words; `fatal` where the project cannot work with it."""

    text: str
    fatal: bool = True


def read_lock(text: str) -> dict[str, str]:
    """Exact versions by canonical name, of what a lock file's text holds for this Python and machine.

    Raises `ValueError` at a line that is neither `name==version` nor a hash.
    """
    versions = {}
    for number, line in enumerate(text.splitlines(), start=1):
        requirement, _, marker = line.split("#")[0].rstrip("\\ ").partition(" ; ")
        if not requirement or requirement.startswith("    --hash=sha256:"):
            continue
        name, separator, version = requirement.partition("==")
        if not separator:
            raise ValueError(f"line {number} is not `name==version`: {requirement!r}")
        if not marker or applies(marker):
            versions[canonical_name(name)] = version
    return versions


def applies(marker: str) -> bool:
    """Whether an environment marker holds here, as pip reads it."""
    from pip._vendor.packaging.markers import Marker  # where nothing is installed, pip is the first to be missing

    return bool(Marker(marker).evaluate())


def canonical_name(name: str) -> str:
    """A project name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def installed_versions() -> dict[str, str]:
    """Versions of everything this interpreter can import, by canonical name."""
    return {canonical_name(d.name): d.version for d in metadata.distributions() if d.name}


def python_problems(version: tuple[int, int]) -> Iterator[Problem]:
    """Whether this Python is in the supported range."""
    if not OLDEST <= version <= NEWEST:
        present, oldest, newest = (".".join(map(str, v)) for v in (version, OLDEST, NEWEST))
        yield Problem(f"Python {present} is not supported: make the environment with Python {oldest} to {newest}")


def lock_problems(locked: Mapping[str, str], installed: Mapping[str, str], lock: str) -> Iterator[Problem]:
    """What is missing or has another version than the lock; packages the lock does not name are allowed."""
    wrong = [
        f"{name} is {installed[name]}, locked is {version}" if name in installed else f"{name} {version} is missing"
        for name, version in locked.items()
        if name not in RUNTIMES and installed.get(name) != version
    ]
    if wrong:
        more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        yield Problem(f"{'; '.join(wrong[:SHOWN])}{more}: run `pip install {HASHED} -r {lock}`")


def runtime_problems(locked: Mapping[str, str], installed: Mapping[str, str], lock: str) -> Iterator[Problem]:
    """ONNX Runtime's two packages install the same module: only the locked one may be there, in its version."""
    present = [name for name in RUNTIMES if name in installed]
    found = " ".join(f"{name} {installed[name]}" for name in present)
    expected = " ".join(f"{name} {locked[name]}" for name in RUNTIMES if name in locked)
    if len(present) == 2:
        yield Problem(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files: "
            f"run `pip uninstall -y {' '.join(RUNTIMES)}` and `pip install {HASHED} -r {lock}`"
        )
    elif found != expected:
        found = found or "no ONNX Runtime"
        yield Problem(f"{found} is installed, {lock} has {expected}: run `pip install {HASHED} -r {lock}`")


def torch_problems(version: str | None, import_error: str | None) -> Iterator[Problem]:
    """Whether torch is there in the pinned version and imports; `import_error` is the last line of a failed import."""
    remedy = f"run `pip install {HASHED} -r infra/locks/torch-cpu.txt`, or torch.txt and cuda.txt"
    if version is None:
        yield Problem(f"torch is missing: {remedy}")
        return
    pinned = read_lock(TORCH_LOCK.read_text(encoding="utf-8"))["torch"]
    if version.split("+")[0] != pinned:
        yield Problem(f"torch is {version}, pinned is {pinned}: {remedy}")
    if import_error and re.search(r"lib(cu|nv|nccl)|CUDA", import_error):
        yield Problem(
            f"torch {version} is a CUDA build and its CUDA libraries are not on this machine ({import_error}): "
            f"run `pip install {HASHED} -r infra/locks/cuda.txt`"
        )
    elif import_error:
        yield Problem(f"torch {version} cannot be imported ({import_error}): install it again")


def machine_problems(compiler: str | None, free_gib: float) -> Iterator[Problem]:
    """A C compiler and disk space."""
    if compiler is None:
        text = "no C compiler (cc, gcc or clang): DeepSpeed and torch.compile cannot build their kernels"
        yield Problem(text, fatal=False)
    if free_gib < NEEDED_GIB:
        yield Problem(f"{free_gib:.1f} GiB of disk are free, the pipeline needs {NEEDED_GIB:.0f} GiB: free some")


def import_error(module: str) -> str | None:
    """Last line of the error of importing a module in its own process (a broken one may crash), or None."""
    done = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"the process ended with {done.returncode}"


def fitting_lock(installed: Mapping[str, str]) -> Path:
    """The GPU lock where the GPU build of ONNX Runtime stands alone, the CPU lock everywhere else."""
    return GPU_LOCK if [name for name in RUNTIMES if name in installed] == ["onnxruntime-gpu"] else CPU_LOCK


def inspect(lock: Path) -> list[Problem]:
    """Everything that is wrong with this interpreter's environment, measured against a lock file."""
    installed = installed_versions()
    try:
        locked = read_lock(lock.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        return [Problem(f"{lock} cannot be read: {error}; run `make lock`")]
    torch = installed.get("torch")
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    return [
        *python_problems(sys.version_info[:2]),
        *torch_problems(torch, import_error("torch") if torch else None),
        *runtime_problems(locked, installed, str(lock)),
        *lock_problems(locked, installed, str(lock)),
        *machine_problems(compiler, shutil.disk_usage(ROOT).free / 2**30),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Print every problem; 1 if one of them is an error."""
    parser = argparse.ArgumentParser(description="Say what is wrong with this installation.")
    parser.add_argument("lock", nargs="?", type=Path, help="lock file to compare with (default: the one that fits)")
    lock: Path | None = parser.parse_args(arguments).lock
    problems = inspect(lock or fitting_lock(installed_versions()))
    for problem in problems:
        print(f"{'error' if problem.fatal else 'warning'}: {problem.text}", file=sys.stderr)
    if any(problem.fatal for problem in problems):
        return 1
    print("preflight: the installation is complete")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
