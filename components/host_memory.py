"""The memory of this machine, or of the container that this process is in."""

from __future__ import annotations

from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup/memory.max")  # what a container may take, in bytes


def host_memory() -> tuple[int, int]:
    """Bytes that are free now, and that there are."""
    bound = CGROUP.read_text(encoding="ascii").strip() if CGROUP.exists() else "max"
    found = psutil.virtual_memory()
    most = found.total if bound == "max" else min(found.total, int(bound))
    return min(found.available, most), most
