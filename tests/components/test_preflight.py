"""The preflight names what is wrong with an installation, in words, and its exit code says whether it matters."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from components import preflight

ROOT = Path(__file__).resolve().parents[2]
LOCKED = {"numpy": "2.4.6", "onnxruntime": "1.31.1", "pandas": "2.3.3"}


def test_an_installation_that_matches_its_lock_has_no_problem() -> None:
    assert not list(preflight.lock_problems(LOCKED, LOCKED | {"ipython": "9"}, "cpu.txt"))
    assert not list(preflight.runtime_problems(LOCKED, LOCKED, "cpu.txt"))
    assert not [*preflight.python_problems((3, 11)), *preflight.python_problems((3, 12))]
    assert not list(preflight.torch_problems("2.13.0+cpu", None))
    assert not list(preflight.machine_problems("/usr/bin/cc", 100.0))


def test_another_version_and_a_missing_package_are_named_with_the_remedy() -> None:
    [problem] = preflight.lock_problems(LOCKED, {"numpy": "1.26", "onnxruntime": "1.31.1"}, "cpu.txt")
    assert problem.fatal
    assert "numpy is 1.26, locked is 2.4.6; pandas 2.3.3 is missing" in problem.text
    assert "--require-hashes -r cpu.txt" in problem.text


def test_two_onnx_runtimes_are_refused() -> None:
    [problem] = preflight.runtime_problems(LOCKED, LOCKED | {"onnxruntime-gpu": "1.31.1"}, "cpu.txt")
    assert "both installed" in problem.text
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in problem.text


@pytest.mark.parametrize("installed", [{}, {"onnxruntime": "1.32.0"}, {"onnxruntime-gpu": "1.31.1"}])
def test_another_onnx_runtime_than_the_locked_one_is_refused(installed: dict[str, str]) -> None:
    [problem] = preflight.runtime_problems(LOCKED, installed, "cpu.txt")
    assert "cpu.txt has onnxruntime 1.31.1" in problem.text


def test_the_gpu_lock_is_compared_where_only_the_gpu_build_is_installed() -> None:
    assert preflight.fitting_lock({"onnxruntime-gpu": "1.31.1"}) == preflight.GPU_LOCK
    assert preflight.fitting_lock({"onnxruntime-gpu": "1.31.1", "onnxruntime": "1.31.1"}) == preflight.CPU_LOCK


def test_a_cuda_torch_without_cuda_libraries_is_told_from_a_broken_one() -> None:
    missing = "OSError: libcudart.so.13: cannot open shared object file: No such file or directory"
    [cuda] = preflight.torch_problems("2.13.0", missing)
    [broken] = preflight.torch_problems("2.13.0", "ImportError: bad magic number")
    [old] = preflight.torch_problems("2.12.0+cpu", None)
    [absent] = preflight.torch_problems(None, None)
    assert "CUDA build" in cuda.text
    assert "cannot be imported" in broken.text
    assert "pinned is 2.13.0" in old.text
    assert "torch is missing" in absent.text


def test_python_compiler_and_disk_are_judged() -> None:
    [python] = preflight.python_problems((3, 10))
    assert "Python 3.10 is not supported" in python.text
    compiler, disk = preflight.machine_problems(None, 1.0)
    assert not compiler.fatal
    assert disk.fatal and "1.0 GiB of disk are free" in disk.text


def test_a_bare_interpreter_without_site_packages_gets_words_and_exit_code_1(tmp_path: Path) -> None:
    """As on a machine where nothing is installed: no traceback, torch and the locked packages are named."""
    lock = tmp_path / "lock.txt"
    lock.write_text("numpy==2.4.6\nonnxruntime==1.31.1  # comment\n")
    command = [sys.executable, "-S", "-m", "components.preflight", str(lock)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "error: torch is missing" in done.stderr
    assert "numpy 2.4.6 is missing" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_damaged_lock_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text("numpy>=2\n")
    assert preflight.main([str(lock)]) == 1
    assert "line 1 is not `name==version`: 'numpy>=2'" in capsys.readouterr().err


def test_this_installation_passes() -> None:
    """The suite itself only means something in an environment that matches the lock."""
    # In a process of its own: setuptools adds the packages it carries to the path of one that has imported it.
    answer = subprocess.run(
        [sys.executable, "-m", "components.preflight"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
