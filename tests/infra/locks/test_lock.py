"""The locks pin each package by version and digest, nothing is installed past them, and an audit says what it knew."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from components.preflight import read_lock

ROOT = Path(__file__).resolve().parents[3]
LOCKS = ROOT / "infra" / "locks"
NAMES = ("build", "torch", "torch-cpu", "cuda", "cpu", "gpu", "label-studio")
lock = runpy.run_path(str(LOCKS / "lock.py"))
audit = runpy.run_path(str(LOCKS / "audit.py"))


def entries(name: str) -> dict[str, str]:
    found: dict[str, str] = lock["entries"]((LOCKS / f"{name}.txt").read_text())
    return found


@pytest.mark.parametrize("name", NAMES)
def test_34_every_locked_package_has_its_digests(name: str) -> None:
    packages = entries(name)
    assert packages
    for package, text in packages.items():
        assert re.match(rf"{package}(\[\w+\])?==\S", text), text
        assert re.findall(r"--hash=sha256:[0-9a-f]{64}\b", text), f"{package} has no digest"


def test_34_no_command_of_the_project_installs_a_package_without_its_digest() -> None:
    """But the project itself, which has none."""
    makefile = re.findall(r"^\t.*(?:pip install|PIP_INSTALL\)).*", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert len(makefile) == 5
    assert [line for line in makefile if "--require-hashes -r" not in line] == ["\t$(PIP_INSTALL) --editable ."]
    for source in [*ROOT.glob("flows/**/*.py"), *ROOT.glob("components/**/*.py"), *ROOT.glob("bentos/**/*.py")]:
        text = source.read_text()
        assert '"install"' not in text or '"--require-hashes"' in text, source


def test_34_a_file_with_another_digest_is_not_installed(tmp_path: Path) -> None:
    """A lock's text as it stands here, one digest changed, and a file of that name and version at hand."""
    wheel = tmp_path / "example-1.0-py3-none-any.whl"
    wheel.write_bytes(b"something else")
    requirements = tmp_path / "lock.txt"
    requirements.write_text(f"example==1.0 \\\n    --hash=sha256:{'0' * 64}\n")
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--find-links", str(tmp_path), "--target"]
    command += [str(tmp_path / "into"), "--no-deps", "--require-hashes", "-r", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr


def test_the_gpu_lock_is_the_cpu_lock_with_the_gpu_runtime() -> None:
    cpu, gpu = entries("cpu"), entries("gpu")
    assert gpu == lock["for_gpu"](cpu, gpu["onnxruntime-gpu"])
    versions = read_lock((LOCKS / "cpu.txt").read_text())
    assert read_lock((LOCKS / "gpu.txt").read_text())["onnxruntime-gpu"] == versions["onnxruntime"]
    assert not versions.keys() & {"torch", "torchvision", "triton", "onnxruntime-gpu", "atelier"}


def test_a_package_that_stands_twice_keeps_both_lines_and_counts_where_its_marker_holds() -> None:
    text = (
        "alpha==1.0 ; python_full_version < '3.2' \\\n    --hash=sha256:aa\n"
        "alpha==2.0 ; python_full_version >= '3.2' \\\n    --hash=sha256:bb\n"
        "beta==3.0 \\\n    --hash=sha256:cc \\\n    --hash=sha256:dd\n"
    )
    packages = lock["entries"](text)
    assert list(packages) == ["alpha", "beta"]
    assert "".join(packages.values()) == text
    assert read_lock(text) == {"alpha": "2.0", "beta": "3.0"}


def test_34_an_audit_without_data_is_no_clean_bill() -> None:
    well = {"name": "alpha", "version": "1", "vulns": []}
    unknown = {"name": "beta", "skip_reason": "not found"}
    vulnerable = {"name": "gamma", "version": "2", "vulns": [{"id": "PYSEC-1"}, {"id": "PYSEC-2"}]}
    summarise = audit["summarise"]
    assert summarise("cpu.txt", [unknown]) == summarise("cpu.txt", [])
    assert "NOT DONE" in summarise("cpu.txt", [unknown])[0]
    assert summarise("cpu.txt", [well, unknown]) == (
        "audit of cpu.txt: no known vulnerability (1 of 2 packages looked up)",
        False,
    )
    said, bad = summarise("cpu.txt", [well, vulnerable])
    assert bad and "gamma 2: PYSEC-1, PYSEC-2 (2 of 2 packages" in said


def test_34_the_cpu_build_of_torch_is_taken_where_pip_is_offered_it() -> None:
    """Pip prefers files whose digest the index tells; those in a folder have none before they are read."""
    torch = entries("torch")["torch"]
    cpu = lock["cpu_build"](torch)
    assert re.match(r"torch==[\d.]+\+cpu ", cpu) and cpu == entries("torch-cpu")["torch"]
    recipe = subprocess.run(["make", "-n", "-B", "setup"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert recipe.index("torch-cpu.txt") < recipe.index("torch.txt -r infra/locks/cuda.txt")
    gpu = ["make", "-n", "-B", "setup", "LOCK=infra/locks/gpu.txt"]
    assert "torch-cpu.txt" not in subprocess.run(gpu, cwd=ROOT, capture_output=True, text=True, check=True).stdout
