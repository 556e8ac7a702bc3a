"""A container may take less than its machine has."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from components import host_memory


@pytest.mark.parametrize(("bound", "total"), [("1000000\n", 1_000_000), ("max\n", psutil.virtual_memory().total)])
def test_a_containers_bound_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, total: int) -> None:
    (tmp_path / "memory.max").write_text(bound)
    monkeypatch.setattr(host_memory, "CGROUP", tmp_path / "memory.max")
    free, most = host_memory.host_memory()
    assert most == total and 0 < free <= most
