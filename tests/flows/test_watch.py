"""What counts as a program that hangs."""

from __future__ import annotations

import socket

import pytest

from flows import watch
from flows.stack import LIVE_PATHS, READY_PATHS
from flows.watch import SILENT, STARTING, Watch, answers
from tests.monitoring.test_probes import server as server


@pytest.mark.parametrize(("looks", "patience"), [(["yes"], SILENT), ([], STARTING)])
def test_29_what_does_not_answer_hangs_after_so_many_looks(looks: list[str], patience: int) -> None:
    look_out = Watch()
    for _ in looks:
        assert look_out.look({"text": 1}, ["text"]) == {}
    told = [look_out.look({"text": 1}, []) for _ in range(patience)]
    assert told == [{}] * (patience - 1) + [{"text": 1}]


def test_29_one_answer_or_a_new_process_begins_afresh() -> None:
    look_out = Watch()
    look_out.look({"text": 1, "image": 2}, ["text", "image"])
    for _ in range(SILENT - 1):
        assert look_out.look({"text": 1, "image": 2}, []) == {}
    assert look_out.look({"text": 1, "image": 3}, ["text"]) == {}
    for _ in range(SILENT - 1):
        assert look_out.look({"text": 1, "image": 3}, []) == {}
    assert look_out.look({"text": 1, "image": 3}, []) == {"text": 1}  # the other has never answered


def test_29_a_refusal_is_an_answer_and_silence_is_none(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert answers(f"{server}/readyz")  # 503
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


def test_29_a_bento_lives_before_it_is_ready() -> None:
    assert LIVE_PATHS.keys() == READY_PATHS.keys()
    assert LIVE_PATHS["gateway"] == "/livez" != READY_PATHS["gateway"]
