"""A program of the stack and all that it starts are one: killed it comes back, stopped it is gone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flows import processes
from tests.flows.supervised import listeners, project, restarted
from tests.infra.prometheus.test_delivery import eventually

# Becomes, as `atelier serve` does, a program that starts a process in a session of its own.
PROGRAM = """
import os, sys
from pathlib import Path
from flows import processes
processes.STATE = Path(sys.argv[1])
processes.mark("worker")
begin = "import subprocess, sys, time; sleep = [sys.executable, '-c', 'import time; time.sleep(60)'];"
begin += "print(subprocess.Popen(sleep, start_new_session=True, stdout=2).pid, flush=True); time.sleep(60)"
os.execv(sys.executable, [sys.executable, "-c", begin])
"""


def test_29_a_killed_gateway_comes_back_and_a_stopped_one_is_gone(tmp_path: Path) -> None:
    with project(tmp_path) as own:
        own.start("gateway")
        serving = own.listener("gateway")
        # Supervisor's child, which may be another process than the one that serves.
        next(one for one in (serving, *serving.parents()) if one.parent() == own.supervisor).kill()
        restarted(own, "gateway", serving)
        own.stop("gateway")
        assert listeners(own.ports["gateway"]) == []


@pytest.fixture
def orphan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[psutil.Process]:
    """A process in a session of its own that a program has started, after that program was killed."""
    monkeypatch.setattr(processes, "STATE", tmp_path)
    program = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert program.stdout
    started = psutil.Process(int(program.stdout.readline()))
    assert processes.orphans() == []  # as long as its program lives
    program.kill()
    program.communicate()
    yield started
    if started.is_running():
        started.kill()


def test_29_what_outlives_its_program_is_ended_in_whatever_session(orphan: psutil.Process) -> None:
    assert os.getsid(orphan.pid) == orphan.pid
    assert processes.orphans() == [orphan]
    processes.end_orphans()
    eventually(lambda: not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE)
    assert processes.orphans() == []
