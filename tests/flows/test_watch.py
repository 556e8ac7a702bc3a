"""What counts as a program that hangs."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL

from flows import watch
from flows.stack import LIVE_PATHS, READY_PATHS
from flows.watch import SILENT, STARTING, Watch, answers
from tests.monitoring.test_probes import server as server


def look(look_out: Watch, pids: dict[str, int], answering: list[str]) -> dict[str, int]:
    return look_out.look({(name, pid): name in answering for name, pid in pids.items()})


@pytest.mark.parametrize(("looks", "patience"), [(["yes"], SILENT), ([], STARTING)])
def test_29_what_does_not_answer_hangs_after_so_many_looks(looks: list[str], patience: int) -> None:
    look_out = Watch()
    for _ in looks:
        assert look(look_out, {"text": 1}, ["text"]) == {}
    told = [look(look_out, {"text": 1}, []) for _ in range(patience)]
    assert told == [{}] * (patience - 1) + [{"text": 1}]


def test_29_one_answer_or_a_new_process_begins_afresh() -> None:
    look_out = Watch()
    look(look_out, {"text": 1, "image": 2}, ["text", "image"])
    for _ in range(SILENT - 1):
        assert look(look_out, {"text": 1, "image": 2}, []) == {}
    assert look(look_out, {"text": 1, "image": 3}, ["text"]) == {}
    for _ in range(SILENT - 1):
        assert look(look_out, {"text": 1, "image": 3}, []) == {}
    assert look(look_out, {"text": 1, "image": 3}, []) == {"text": 1}  # the other has never answered


def test_29_a_machine_that_has_slept_begins_afresh() -> None:
    look_out = Watch()
    for second in (0, 5, 10, 3600):
        look_out.wake(1e9 + second)
        told = [look(look_out, {"worker": 1}, ["worker"] if second == 0 else []) for _ in range(SILENT // 2)]
    assert told == [{}] * (SILENT // 2)
    look_out.wake(1e9 + 3605)
    assert [look(look_out, {"worker": 1}, []) for _ in range(SILENT)] == [{}] * SILENT  # with the patience of a start


def test_29_a_refusal_is_an_answer_and_silence_is_none(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert answers(f"{server}/readyz")  # 503
    assert answers(f"{server}/moved")  # to where nobody listens
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr("flows.watch.SECONDS", 0.2)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/livez"
        assert not answers(url)
    assert not answers(url)


def test_29_a_process_answers_where_it_was_started_whatever_params_say_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "live_urls", lambda: {"text": "http://old/livez"})
    before = watch.watched({"text": 1, "worker": 2}, {})
    assert before == {("text", 1): "http://old/livez"}
    monkeypatch.setattr(watch, "live_urls", lambda: {"text": "http://new/livez", "image": "http://image/livez"})
    after = watch.watched({"text": 1, "image": 3}, before)
    assert after == {("text", 1): "http://old/livez", ("image", 3): "http://image/livez"}
    assert watch.watched({"text": 4}, after) == {("text", 4): "http://new/livez"}


@pytest.mark.usefixtures("prefect_server")
def test_29_a_worker_and_housekeeping_that_stand_still_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "HOUSEKEEPING", tmp_path / "housekeeping.beat")
    monkeypatch.setattr(watch, "ui_login", lambda: str(PREFECT_API_AUTH_STRING.value()))
    api = str(PREFECT_API_URL.value()).removesuffix("/api")
    own = {"worker": os.getpid(), "housekeeping": os.getpid()}

    def lives(prefect: str | None = api) -> dict[str, bool | None]:
        return {program: watch.beating((program, pid), prefect) for program, pid in own.items()}

    assert lives() == {"worker": None, "housekeeping": False}  # no such pool, so that nobody can tell
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name=watch.POOL, type="process"))
        assert lives() == {"worker": False, "housekeeping": False}
        beat = {"name": "w"}
        client.request("POST", "/work_pools/{name}/workers/heartbeat", path_params={"name": watch.POOL}, json=beat)
    watch.HOUSEKEEPING.touch()
    assert lives() == {"worker": True, "housekeeping": True}
    assert lives("http://127.0.0.1:9") == {"worker": None, "housekeeping": True}
    monkeypatch.setattr(watch, "STILL", {"worker": -1.0, "housekeeping": -1.0})
    assert lives() == {"worker": False, "housekeeping": False}
    monkeypatch.undo()
    monkeypatch.setattr(watch, "beating", lambda process, _: process[0] == "worker")
    with ThreadPoolExecutor(1) as pool:
        signs = watch.look(pool, own | {"canary": 1}, {})
    assert signs == {("worker", os.getpid()): True, ("housekeeping", os.getpid()): False}
    look_out = Watch()
    told = [look_out.look(signs) for _ in range(STARTING)]
    assert told == [{}] * (STARTING - 1) + [{"housekeeping": os.getpid()}]


def test_29_signs_of_the_process_before_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "HOUSEKEEPING", tmp_path / "housekeeping.beat")
    watch.HOUSEKEEPING.touch()
    with subprocess.Popen(["sleep", "60"]) as later:
        os.utime(watch.HOUSEKEEPING, (time.time() - 5, time.time() - 5))
        assert watch.beating(("housekeeping", later.pid), None) is False
        later.kill()


def test_29_a_bento_lives_before_it_is_ready() -> None:
    assert LIVE_PATHS.keys() == READY_PATHS.keys()
    assert LIVE_PATHS["gateway"] == "/livez" != READY_PATHS["gateway"]
