"""The benchmarks by name: `make bench NAME=drift`. Without a name: what there is.

Each writes its figures below `metrics/`, from where `make figures` takes them to `docs/benchmarks.md`.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Bench:
    """`measures` in words; the modules that are run one after the other, once the DVC `stages` are up to date.

    A module whose name begins with `bench_` is a test of pytest: it needs servers from fixtures.
    """

    measures: str
    modules: tuple[str, ...]
    stages: tuple[str, ...] = ()


BENCHES = {
    "adapter": Bench(
        "the text engine alone, with real phrases, at 1, 8 and 32 callers, with a segment's adapter and without",
        ("bench_adapter",),
        ("package@text",),
    ),
    "annotate-server": Bench(
        "the annotation loop on a real Label Studio with simulated people, killed twenty times; TASKS=10000 by default",
        ("bench_annotate_server",),
    ),
    "annotation": Bench("labels that active learning takes in the place of random choice", ("annotation",)),
    "drift": Bench(
        "cost of the drift report at a million events, its delay and false alarms on planted drifts (simulated)",
        ("drift",),
    ),
    "engines": Bench(
        "the exported engines beside PyTorch, in paired rounds; on a quiet machine",
        ("engines",),
        ("verify_text", "verify_image"),
    ),
    "events": Bench(
        "rows/s of the event log, `kill -9` at 100 moments, the gateway's latency with and without log and traces",
        ("events", "bench_latency"),
    ),
    "families": Bench(
        "every family of models, tiny: loaded, a training step, adapter, export, parity, served; the one table of it",
        ("families",),
    ),
    "idle": Bench("CPU and memory of each program of the running stack while nobody uses it", ("idle",)),
    "load": Bench("images/s and tokens/s of the running gateway at 1, 8 and 32 users", ("load",)),
    "models": Bench(
        "training of own models: our loop beside plain PyTorch, caches, packing, adapters elsewhere, three models on "
        "the same pairs, memory beside the plan; 12 minutes of a quiet machine",
        ("loops", "caches", "elsewhere", "side_by_side", "planner"),
        ("split@text", "base_text"),
    ),
    "online": Bench("errors and speed of the experiments' statistics, by simulation", ("online",)),
    "release": Bench(
        "a release under load from shadow to champion, and five bad ones that lose their traffic", ("bench_release",)
    ),
    "stopping": Bench(
        "after how many labels labelling stops by itself, what that costs, and how many random choice takes, "
        "on four data sets",
        ("bench_stopping",),
    ),
    "strangers": Bench(
        "the built-in image model on three artists' pictures, as shipped and by the recipe for small sets",
        ("strangers",),
    ),
    "tiers": Bench("what three tiers of annotation cost and how right they end, by simulation", ("tiers",)),
}


def commands(bench: Bench, arguments: list[str]) -> list[list[str]]:
    """What is run, in this order; the arguments go to each module."""
    ready = [["dvc", "repro", *bench.stages]] if bench.stages else []
    return ready + [
        [sys.executable, "-m", "pytest", "-s", f"tests/bench/{module}.py", *arguments]
        if module.startswith("bench_")
        else [sys.executable, "-m", f"tests.bench.{module}", *arguments]
        for module in bench.modules
    ]


def main(arguments: list[str]) -> int:
    """Run the benchmark that the first argument names; returns the exit code of what failed first, else 0."""
    if not arguments or arguments[0] not in BENCHES:
        if arguments:
            print(f"error: no benchmark is named {arguments[0]!r}; there are:", file=sys.stderr)
        for name, bench in BENCHES.items():
            print(f"make bench NAME={name:16} {bench.measures}")
        return 2 if arguments else 0
    for command in commands(BENCHES[arguments[0]], arguments[1:]):
        code = subprocess.run(command, check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
