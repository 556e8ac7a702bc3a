"""Faults of real Bentos under a real supervisor: killed, hung, and a supervisor that is killed itself."""

from __future__ import annotations

import signal
from pathlib import Path

from flows.watch import SILENT
from tests.flows.supervised import listeners, project, restarted
from tests.infra.prometheus.test_delivery import eventually


def test_29_bentos_that_are_killed_or_hang_come_back(tiny_export: Path, tmp_path: Path) -> None:
    with project(tmp_path) as own:
        own.start("text", ATELIER_TEXT_ARTIFACT=str(tiny_export))
        own.start("gateway")
        for program in ("text", "gateway"):
            serving = own.listener(program)
            serving.kill()
            serving = restarted(own, program, serving)
            serving.send_signal(signal.SIGTERM)  # as the runbooks say
            serving = restarted(own, program, serving)
            watched = f"{program} (process {serving.pid}) answers"
            eventually(lambda watched=watched: watched in own.watch_log())  # type: ignore[misc]
            serving.send_signal(signal.SIGSTOP)
            restarted(own, program, serving, seconds=SILENT * 10 + 60)
        own.kill_supervisor()
        eventually(lambda: not listeners(own.ports["text"]) + listeners(own.ports["gateway"]), 20)
        own.start("text", ATELIER_TEXT_ARTIFACT=str(tiny_export))
        own.stop("text")
        assert listeners(own.ports["text"]) == []
