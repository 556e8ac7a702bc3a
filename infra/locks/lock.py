"""Write the lock files: `python infra/locks/lock.py [--upgrade]` resolves `pyproject.toml` with uv, for Linux and every
supported Python, and pins each package by version and by the SHA-256 of its files.

Nothing is installed. Versions that are locked stay, unless `pyproject.toml` excludes them; `--upgrade` resolves without
them. A new lock is only a candidate: it is good once the test suite has passed in an environment installed from it.

Each `bentofile.yaml` pins what its Bento's code imports to the same versions.

`build.txt` is installed first (installers and build backends), then `torch-cpu.txt` or, where pip is offered no such
build and for GPUs, `torch.txt` with `cuda.txt`, then `cpu.txt` or `gpu.txt`. torchvision is left out: optimum-intel
asks for it, export does not need it, and its CUDA build breaks `import transformers` beside a CPU build of torch.
"""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bentos.build import NAMES, carried

LOCKS = Path(__file__).resolve().parent
ROOT = LOCKS.parent.parent
OLDEST_PYTHON = "3.11"
PROJECT = f"atelier[dev,postgres,ray] @ {ROOT.as_uri()}"
LEFT_OUT = ("--no-emit-package", "atelier", "--no-emit-package", "torchvision")
CUDA = re.compile(r"triton|nvidia-(?!ml-py$).*|cuda-.*")
BUILD = ("pip", "setuptools", "wheel")  # what deepspeed and antlr4-python3-runtime, which have no wheels, build with
LABEL_STUDIO = ("label-studio==1.23.2", "setuptools")
UNSEEN = {"gateway": {"httptools"}}  # what uvicorn's protocol imports, of which the gateway's is a subclass
# The CPU builds of torch come from PyTorch's own index, or from wherever pip is configured to look, not from PyPI. Add
# the digest of another one here: `pip hash FILE`.
TORCH_CPU = {"cp311 manylinux x86_64": "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"}
HEADER = "# Written by `python infra/locks/lock.py`. Install with: pip install --no-deps --require-hashes -r {path}\n"
GPU_NOTE = """\
# The CPU lock with onnxruntime-gpu in the place of onnxruntime (they share a module: one or the other, same version).
# Resolved, never installed on the machine that made it: it has no GPU.
"""

# uv writes the range of `tool.uv.environments` on every line, which says nothing there.
EVERYWHERE = " ; python_full_version < '3.13' and sys_platform == 'linux'"

Entries = dict[str, str]  # text of a requirement with its hashes, by canonical name
PACKAGES = "  packages:  # by `make lock`, of what these files import\n"  # the end of a bentofile.yaml


def entries(lock: str) -> Entries:
    """The requirements of a lock file's text: each begins a line, its hashes follow indented."""
    packages: Entries = {}
    for block in re.findall(r"^[a-z0-9].*\n(?:    --hash=.*\n)*", lock, re.MULTILINE):
        name = re.split(r"[=\[]", block)[0]
        packages[name] = packages.get(name, "") + block  # one name may stand twice, for different Pythons
    return packages


def resolve(*requirements: str, keep: str = "", options: tuple[str, ...] = ()) -> Entries:
    """Every package that the requirements need; ends with uv's own message where there is no such set."""
    with tempfile.TemporaryDirectory() as folder:
        wanted, constraints = Path(folder) / "requirements.in", Path(folder) / "constraints.txt"
        wanted.write_text("\n".join(requirements), encoding="utf-8")
        # Without markers: they would split the resolution, for machines that torch does not run on.
        constraints.write_text("\n".join(re.findall(r"^[a-z0-9][^\s;]*", keep, re.MULTILINE)), encoding="utf-8")
        command = [sys.executable, "-m", "uv", "pip", "compile", str(wanted), "--constraints", str(constraints)]
        command += ["--universal", "--python-version", OLDEST_PYTHON, "--generate-hashes", "--no-annotate"]
        command += ["--no-header", "--quiet", *options]
        done = subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"error: no set of versions fits {' '.join(requirements)}; uv's message is above")
    return entries(done.stdout.replace(f"{EVERYWHERE} \\", " \\"))


def cpu_build(torch: str) -> str:
    """The entry of the same version's CPU build, given that of PyPI's."""
    version = re.match(r"torch==([\d.]+)", torch)
    assert version is not None
    hashes = "".join(f" \\\n    --hash=sha256:{digest}" for digest in TORCH_CPU.values())
    return f"torch=={version[1]}+cpu{hashes}\n"


def for_gpu(cpu: Entries, runtime: str) -> Entries:
    """The same packages with the GPU build of ONNX Runtime, whose entry is `runtime`."""
    rest = {name: text for name, text in cpu.items() if name != "onnxruntime"}
    return dict(sorted((rest | {"onnxruntime-gpu": runtime}).items()))


def imported(bento: str) -> list[str]:
    """The requirements of `pyproject.toml` that the Bento's code imports, inside of functions too."""
    modules = set(UNSEEN.get(bento, ()))
    for file in carried(bento):
        for node in ast.walk(ast.parse(file.read_bytes())) if file.suffix == ".py" else ():
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules |= {name.partition(".")[0] for name in names}
    distributions = {
        canonicalize_name(d) for name, every in packages_distributions().items() if name in modules for d in every
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [line for line in project["dependencies"] if canonicalize_name(Requirement(line).name) in distributions]


def write_pins(bento: str, packages: Entries) -> None:
    """Write what a Bento is installed with: versions without digests, as BentoML adds a line that has none.

    Not as a file of requirements beside it: BentoML reads none in a project that lies below a hidden folder.
    """
    path = f"bentos/{bento}/bentofile.yaml"
    pins = re.findall(r"^[a-z0-9].*?(?= \\$)", "".join(packages.values()), re.MULTILINE)
    head = (ROOT / path).read_text(encoding="utf-8").partition(PACKAGES)[0]
    (ROOT / path).write_text(head + PACKAGES + "".join(f"  - {pin}\n" for pin in pins), encoding="utf-8")
    print(f"{path}: {len(pins)} packages")


def write(name: str, packages: Entries, note: str = "") -> None:
    """Write one lock file."""
    path = f"infra/locks/{name}.txt"
    (ROOT / path).write_text(HEADER.format(path=path) + note + "".join(packages.values()), encoding="utf-8")
    print(f"{path}: {len(packages)} packages")


def locked(name: str, upgrade: bool) -> str:
    """The text of a lock file as it is now; empty where it is not kept."""
    path = LOCKS / f"{name}.txt"
    return path.read_text(encoding="utf-8") if path.exists() and not upgrade else ""


def main() -> None:
    """Resolve everything and write the lock files."""
    parser = argparse.ArgumentParser(description="Resolve pyproject.toml into infra/locks.")
    parser.add_argument("--upgrade", action="store_true", help="do not keep the versions that are locked now")
    upgrade: bool = parser.parse_args().upgrade
    keep = "".join(locked(name, upgrade) for name in ("cpu", "torch", "cuda"))
    everything = resolve(PROJECT, keep=keep, options=LEFT_OUT)
    torch = everything.pop("torch")
    cuda = {name: text for name, text in everything.items() if CUDA.fullmatch(name)}
    cpu = {name: text for name, text in everything.items() if name not in cuda}
    version = re.match(r"onnxruntime==(\S+)", cpu["onnxruntime"])
    assert version is not None
    gpu_runtime = resolve(f"onnxruntime-gpu=={version[1]}", options=("--no-deps",))["onnxruntime-gpu"]
    write("build", resolve(*BUILD, keep="".join(cpu.values())))
    write("torch", {"torch": torch})
    write("torch-cpu", {"torch": cpu_build(torch)})
    write("cuda", cuda)
    write("cpu", cpu)
    write("gpu", for_gpu(cpu, gpu_runtime), GPU_NOTE)
    pinned = "".join(cpu.values()) + torch
    for bento in NAMES:
        write_pins(bento, resolve(*imported(bento), keep=pinned))
    write("label-studio", resolve(*LABEL_STUDIO, keep=locked("label-studio", upgrade)))


if __name__ == "__main__":
    main()
