"""Which of pytest's workers runs which file (`-n 3 --dist loadfile`): files that share what is dear run in one of them.

A fixture of the session is one of a worker: Label Studio, Prefect and the Bentos would be started, and pipelines
exported, in each.
"""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

TOGETHER = (
    ("tests/flows/", "tests/components/annotation/"),
    (
        "tests/bentos/",
        "tests/bench/test_load.py",
        "tests/components/evaluation/test_pipeline.py",
        "tests/components/evaluation/test_verify_pipeline.py",
        "tests/components/runtimes/test_pipeline.py",
    ),
)


class Scheduling(LoadFileScheduling):
    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return next((shared[0] for shared in TOGETHER if file.startswith(shared)), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling | None:
    if config.getoption("dist") != "loadfile":
        return None
    # By their number of tests, long files of one test would come last, and one worker would wait for the other.
    config.option.loadscopereorder = False
    return Scheduling(config, log)
