"""What an idle stack takes is counted in full: also the CPU of processes that come and go between two looks."""

from __future__ import annotations

import subprocess
import sys

from tests.bench import idle as bench_idle

# Each of its children computes for 0.15 s of CPU and ends.
PARENT = """
import subprocess, sys
print(flush=True)
burn = "import time\\nwhile time.process_time() < 0.15: pass"
for _ in range(4):
    subprocess.run([sys.executable, "-S", "-c", burn], check=True)
print(flush=True)
input()
"""


def test_39_the_cpu_of_short_processes_is_counted() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout and parent.stdin
        parent.stdout.readline()
        before = bench_idle.tree(parent.pid)
        parent.stdout.readline()
        after = bench_idle.tree(parent.pid)
        parent.stdin.write("\n")
        parent.stdin.flush()
    assert 0.5 < after.cpu - before.cpu < 5
    assert after.memory > 1e6 and after.processes == 1
    assert bench_idle.tree(parent.pid) == bench_idle.Usage(0.0, 0.0, 0.0)


def test_39_housekeeping_is_all_but_the_engines() -> None:
    usage = bench_idle.Usage(0.1, 10.0, 1.0)
    programs = ["prefect", "text", "image-b", "gateway"]
    named = {program: usage for program in programs if program not in bench_idle.ENGINES}
    assert bench_idle.total(named) == bench_idle.Usage(0.2, 20.0, 2.0)
