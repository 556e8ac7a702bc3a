"""A Label Studio that is down, slow or answers 500: said in words, and nothing of it is half done.

The server is real; the faults are MADE UP by a proxy in front of it.
"""

from __future__ import annotations

import socket

import pytest

from components.annotation import label_studio_client
from components.annotation.label_studio import Project
from components.annotation.label_studio_client import TOKEN
from components.stage import StageError
from tests.components.annotation.faulty import Faulty
from tests.components.annotation.simulated import settings
from tests.components.annotation.test_label_studio import begun, on_a_server
from tests.label_studio_server import Server


@on_a_server
def test_a_server_error_is_asked_again_and_then_told(label_studio: Server, proxy: Faulty) -> None:
    begun(label_studio, "answers 500")
    project = Project(settings(proxy.url, "answers 500"))
    proxy.begin("refused", "/api/projects")
    with pytest.raises(StageError, match=rf"{proxy.url} answered 500 \(made up.*\); its log says why: nothing is lost"):
        project.read("")
    assert proxy.seen == ["GET"] * 3
    proxy.end()
    assert project.read("").tasks == ()


@on_a_server
def test_a_slow_server_is_waited_for_only_so_long(
    label_studio: Server, proxy: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(label_studio, "slow")
    monkeypatch.setattr(label_studio_client, "WAIT", 1.0)
    project = Project(settings(proxy.url, "slow"))
    proxy.begin("slow", "/api/tasks")
    with pytest.raises(StageError, match=rf"{proxy.url} took longer than 1 s .*the next run does the rest"):
        project.read("")


def test_a_missing_token_and_a_server_that_is_down_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.delenv(TOKEN, raising=False)
        with pytest.raises(StageError, match=f"{TOKEN} is not set"):
            Project(settings(url, "nowhere"))
        monkeypatch.setenv(TOKEN, "any")
        with pytest.raises(StageError, match=f"Label Studio at {url} does not answer"):
            Project(settings(url, "nowhere")).read("")
