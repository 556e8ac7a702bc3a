"""`atelier up`: what is started in which order, and what it says."""

from __future__ import annotations

from typing import Any

import pytest

from components.config import load
from flows import alerting, stack, up


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `up` calls, in order; both lines have a deployment, and one slot's Bento is lost."""
    made: list[Any] = []
    monkeypatch.setattr(up, "declare", lambda params: ["colours runs"])
    monkeypatch.setattr(stack, "start", lambda params, programs: made.append(programs))
    for name in ("pipeline", "release", "gateway"):
        monkeypatch.setattr(up, name, lambda name=name: made.append(name))
    monkeypatch.setattr(up, "served", lambda line, champion: "a deployment")
    monkeypatch.setattr(up, "plan", lambda line, params: type("Plan", (), {"champion": None}))
    monkeypatch.setattr(up, "startable", lambda champions: (["text", "image"], {"text-b": "text:2"}))
    monkeypatch.setattr(up, "ops", lambda params: "ops.html")
    monkeypatch.setattr(alerting, "obstacle", {"prometheus": None, "alertmanager": "no webhook"}.get)
    return made


def test_servers_come_first_then_slots_then_the_gateway_and_all_others(calls: list[Any]) -> None:
    messages = list(up.up(load()))
    slots = ["prefect", "mlflow", "text", "image"]
    assert calls == [slots[:2], slots, "gateway", [*slots, "gateway", "worker", "housekeeping", "prometheus"]]
    assert messages[0] == "colours runs"
    assert "text-b       not started: the Bento store has lost text:2; who serves the line is not affected" in messages
    assert "alertmanager not started: no webhook" in messages
    assert f"prometheus   http://127.0.0.1:{load().stack.prometheus_port}" in messages
    assert not any(message.startswith(("image-b", "label-studio")) for message in messages)
    assert "ops page     ops.html" in messages


def test_models_are_made_and_released_where_no_line_has_one(calls: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up, "served", lambda line, champion: "a deployment" if "release" in calls else None)
    messages = list(up.up(load()))
    assert calls[1:3] == ["pipeline", "release"] and not any("never released" in message for message in messages)


def test_who_released_one_line_is_not_made_to_wait_for_the_other(
    calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(up, "served", lambda line, champion: "a deployment" if line == "text" else None)
    messages = list(up.up(load()))
    assert "pipeline" not in calls and "release" not in calls and "gateway" in calls
    assert [message.split()[0] for message in messages if "never released" in message] == ["image"]
