"""What is due each minute: taken in the one process that stays, on Prefect's record, and whatever else fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from prefect import flow
from prefect.client.orchestration import get_client

from components.config import Params, load
from flows import housekeeping
from tests.monitoring.test_report import params_in


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Params]:
    found = params_in(tmp_path)
    monkeypatch.setattr(housekeeping, "load", lambda: found)
    monkeypatch.setattr(housekeeping, "answers", lambda *_: True)
    yield found


def names() -> list[str]:
    """Of Prefect's flow runs."""
    with get_client(sync_client=True) as client:
        return [run.name for run in client.read_flow_runs()]


@pytest.mark.usefixtures("prefect_server")
def test_39_a_minutes_step_runs_in_this_process_and_is_on_prefects_record(params: Params) -> None:
    processes = []

    @flow(name="step", flow_run_name="minute-step", persist_result=False)
    def step() -> None:
        processes.append(os.getpid())

    housekeeping.recorded(step)
    housekeeping.recorded(step)
    assert processes == [os.getpid()] * 2
    assert names().count("minute-step") == 2


def test_39_the_step_is_taken_while_prefect_does_not_answer(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "answers", lambda *_: False)
    taken = []
    housekeeping.recorded(SimpleNamespace(fn=lambda: taken.append("without a record")))  # type: ignore[arg-type]
    assert taken == ["without a record"]


def test_29_each_minute_leaves_a_sign_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = iter([1.0, 1.0, 2.0])
    monkeypatch.setattr(housekeeping, "newest_code", lambda: next(code))
    monkeypatch.setattr(housekeeping, "HOUSEKEEPING", tmp_path / "beat", raising=False)
    monkeypatch.setattr(housekeeping, "minute", lambda number: None)
    monkeypatch.setattr(housekeeping.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(os, "execv", lambda *arguments: None)
    housekeeping.main()
    assert (tmp_path / "beat").exists()


def test_39_a_step_that_fails_keeps_no_other_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    taken = []

    def fail(_: object) -> None:
        raise RuntimeError("of this minute")

    monkeypatch.setattr(housekeeping, "recorded", fail)
    monkeypatch.setattr(housekeeping, "reconcile", lambda: taken.append("labels"))
    for number in range(6):
        housekeeping.minute(number)
    assert taken == ["labels"] * 2
    assert "RuntimeError: of this minute" in caplog.text


@pytest.mark.parametrize("tasks", [[], ["a task"]])
def test_39_a_process_reads_labels_only_where_somebody_labels(
    tasks: list[str], params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    monkeypatch.setattr(housekeeping.task_store, "read_tasks", lambda *_: tasks)
    monkeypatch.setattr(housekeeping, "run_deployment", lambda name, timeout: started.append((name, timeout)))
    housekeeping.reconcile()
    assert started == [(housekeeping.RECONCILE, 0)] * len(tasks)


def test_39_it_becomes_the_code_that_is_on_disk_and_reads_the_parameters_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    code, minutes, became = iter([1.0, 1.0, 1.0, 2.0]), [], []
    monkeypatch.setattr(housekeeping, "newest_code", lambda: next(code))
    monkeypatch.setattr(housekeeping, "minute", lambda number: minutes.append((number, load.cache_info().currsize)))
    monkeypatch.setattr(housekeeping.time, "sleep", lambda seconds: load())
    monkeypatch.setattr(housekeeping.os, "execv", lambda program, arguments: became.append(arguments[1:]))
    housekeeping.main()
    assert [size for _, size in minutes] == [0, 0]
    assert became == [["-m", "flows.housekeeping"]]
