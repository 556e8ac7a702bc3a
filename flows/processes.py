"""The processes of this machine's stack: what each belongs to, and the end of those that outlive their program.

A program starts with a mark in its environment, which everything that it starts inherits, also in a session or process
group of its own, where no signal of supervisor's arrives.
"""

from __future__ import annotations

import ctypes
import os
import signal
from contextlib import suppress

import psutil

from flows.environment import STATE

MARK = "ATELIER_PROGRAM"
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
PATIENCE = 3.0  # seconds between the request to end and the kill


def mark(program: str) -> None:
    """Mark what this process becomes by `exec`, and with it all that it will start."""
    os.environ[MARK] = f"{STATE}:{program}:{os.getpid()}"


def end_with_parent() -> None:
    """Have the kernel end this process once its parent is gone, also after `exec`."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def orphans() -> list[psutil.Process]:
    """The processes of this stack whose program's own process, which the mark names, is gone."""
    marks = {process: mark for process in psutil.process_iter() if (mark := _mark_of(process))}
    programs = {str(process.pid): mark for process, mark in marks.items()}
    return [process for process, mark in marks.items() if programs.get(mark.rpartition(":")[2]) != mark]


def end_orphans() -> None:
    """End them and wait until they are gone; those that do not end when they are told to are killed."""
    left = orphans()
    for end in (psutil.Process.terminate, psutil.Process.kill):
        for process in left:
            with suppress(psutil.NoSuchProcess):
                end(process)
        _, left = psutil.wait_procs(left, timeout=PATIENCE)


def _mark_of(process: psutil.Process) -> str:
    """Empty for processes of other stacks and users, and for those that have ended."""
    try:
        mark = process.environ().get(MARK, "")
    except (psutil.Error, OSError):
        return ""
    return mark if mark.startswith(f"{STATE}:") else ""
