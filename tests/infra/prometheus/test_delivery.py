"""From failing requests to a person, and back to quiet: the real gateway, Prometheus, Alertmanager and a webhook.

The repository's configuration with its durations divided by `FASTER`; only addresses differ otherwise.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from components.config import load
from flows import alerting
from tests.bentos.gateway.conftest import Running, serve_gateway, standin
from tests.bentos.processes import free_port, running
from tests.infra.prometheus.test_rules import CONFIGURATION, ROOT
from tests.infra.prometheus.webhook import Message, Webhook, webhook

__all__ = ["standin"]
FASTER = 150
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
PAGE = "AvailabilityBurnFast"


def faster(text: str) -> str:
    """Every duration of a configuration divided by `FASTER`; names such as `rate5m` stay."""
    return re.sub(r"(?<![\w.])(\d+)([smhd])\b", lambda m: f"{int(m[1]) * SECONDS[m[2]] * 1000 // FASTER}ms", text)


def eventually(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """The condition's value once it is true; raises where it is not in time."""
    patience = Retrying(
        stop=stop_after_delay(seconds),
        wait=wait_fixed(0.1),
        retry=retry_if_exception_type(AssertionError),
        reraise=True,
    )
    for attempt in patience:
        with attempt:
            value = condition()
            assert value
    return value


@contextmanager
def alertmanager(binaries: Path, folder: Path, told: Webhook) -> Iterator[str]:
    folder.mkdir()
    file = alerting.write_configuration(told.url, folder / "alertmanager.yml")
    # Not faster: scrapes here are only 30 times as frequent, and both lines shall be seen before the message goes out.
    file.write_text(faster(file.read_text()).replace("group_wait: 200ms", "group_wait: 2s"))
    url = f"http://127.0.0.1:{free_port()}"
    command = [str(binaries / "prometheus-alertmanager"), f"--config.file={file}", f"--storage.path={folder / 'data'}"]
    address = [f"--web.listen-address={url.removeprefix('http://')}", "--cluster.listen-address="]
    with running([*command, *address], folder, f"{url}/-/ready", {}):
        yield url


@contextmanager
def prometheus(binaries: Path, folder: Path, alertmanager: str, gateway: str) -> Iterator[str]:
    folder.mkdir()
    for name in ("recording.yml", "alerts.yml"):
        (folder / name).write_text(faster((CONFIGURATION / name).read_text()))
    document = yaml.safe_load(alerting.write_prometheus(load(), folder / "prometheus.yml").read_text())
    document["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    document["rule_files"] = ["recording.yml", "alerts.yml"]
    document["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [alertmanager.removeprefix("http://")]
    job = next(job for job in document["scrape_configs"] if job["job_name"] == "gateway")
    job["static_configs"] = [{"targets": [gateway.removeprefix("http://")]}]
    document["scrape_configs"] = [job]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(document))
    url = f"http://127.0.0.1:{free_port()}"
    command = [str(binaries / "prometheus"), f"--config.file={folder / 'prometheus.yml'}"]
    options = [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={url.removeprefix('http://')}"]
    with running([*command, *options], folder, f"{url}/-/ready", {}):
        yield url


def ask(gateway: Running, prompt: str, times: int) -> set[int]:
    """Statuses of so many requests to each line."""
    chat = {"model": "atelier-text", "messages": [{"role": "user", "content": prompt}]}
    answers = [
        answer
        for _ in range(times)
        for answer in (
            gateway.post("/v1/chat/completions", json=chat),
            gateway.post("/v1/images/generations", json={"prompt": prompt}),
        )
    ]
    return {answer.status_code for answer in answers}


def keep_failing(gateway: Running, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ask(gateway, "FAIL", 1)


def evaluated(prometheus: str) -> str:
    """When the alerts were last computed."""
    groups = httpx.get(f"{prometheus}/api/v1/rules", timeout=5).json()["data"]["groups"]
    return min(str(group["lastEvaluation"]) for group in groups)


def nothing_waits_for_the_webhook(gateway: Running, prometheus: str, alertmanager: str) -> None:
    before = evaluated(prometheus)
    assert ask(gateway, "a red boat", 3) == {200}
    assert httpx.get(f"{alertmanager}/api/v2/alerts", timeout=5).status_code == 200
    eventually(lambda: evaluated(prometheus) > before, 5)


def test_failures_reach_a_person_once_and_are_over(binaries: Path, standin: str, tmp_path: Path) -> None:
    with (
        webhook() as told,
        alertmanager(binaries, tmp_path / "alertmanager", told) as manager,
        serve_gateway(tmp_path / "gateway", standin, f"{standin}/text", f"{standin}/image") as gateway,
    ):
        with prometheus(binaries, tmp_path / "prometheus", manager, gateway.url) as server:
            assert ask(gateway, "a red boat", 3) == {200}
            eventually(lambda: ask(gateway, "FAIL", 3) == {500} and told.about(PAGE, "firing"))
            (message,) = told.about(PAGE, "firing")
            assert [alert["labels"]["line"] for alert in message["alerts"]] == ["image", "text"]  # one message for both
            assert (ROOT / message["commonAnnotations"]["runbook"]).name == f"{PAGE}.md"
            keep_failing(gateway, 5)  # more than two of Alertmanager's group intervals
            assert told.about(PAGE, "firing") == [message]
            told.answers.clear()
            eventually(lambda: told.hanging)
            nothing_waits_for_the_webhook(gateway, server, manager)
            told.answers.set()
            over = eventually(lambda: told.about(PAGE, "resolved"))[0]
            assert {alert["status"] for alert in over["alerts"]} == {"resolved"}
        assert ask(gateway, "a red boat", 3) == {200}  # without Prometheus


def test_a_cause_silences_what_follows_from_it(binaries: Path, tmp_path: Path) -> None:
    labels: list[dict[str, str]] = [
        {"alertname": "TargetDown", "severity": "page", "job": "text", "line": "text"},
        {"alertname": "LatencyBurnFast", "severity": "page", "slo": "latency", "line": "text"},
        {"alertname": "LatencyBurnFast", "severity": "page", "slo": "latency", "line": "image"},
        {"alertname": "LatencyBurnSlow", "severity": "ticket", "slo": "latency", "line": "image"},
        {"alertname": "AvailabilityBurnSlow", "severity": "ticket", "slo": "availability", "line": "image"},
    ]
    with webhook() as told, alertmanager(binaries, tmp_path / "alertmanager", told) as url:
        httpx.post(f"{url}/api/v2/alerts", json=[{"labels": each} for each in labels]).raise_for_status()
        eventually(lambda: len(told.messages) == 3)
        alerts = httpx.get(f"{url}/api/v2/alerts?inhibited=true&active=false").json()
    assert sorted(lines(message) for message in told.messages) == [
        ("AvailabilityBurnSlow", "image"),
        ("LatencyBurnFast", "image"),
        ("TargetDown", "text"),
    ]
    assert sorted(alert["labels"]["alertname"] for alert in alerts) == ["LatencyBurnFast", "LatencyBurnSlow"]


def lines(message: Message) -> tuple[str, ...]:
    return (message["groupLabels"]["alertname"], *(alert["labels"]["line"] for alert in message["alerts"]))


@pytest.mark.parametrize(("text", "fast"), [("for: 2m  #", "for: 800ms  #"), ("x:rate5m[6h]", "x:rate5m[144000ms]")])
def test_only_durations_are_shortened(text: str, fast: str) -> None:
    assert faster(text) == fast
