"""When Prometheus and Alertmanager are started, as what, and what is said where they are not."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import yaml

from components.config import load
from components.stage import StageError
from flows import alerting

WEBHOOK = "http://127.0.0.1:9/hook?token=a#b"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Both programs on the path, an address to tell, and an empty `.atelier`, which is returned."""
    monkeypatch.setattr(alerting, "STATE", tmp_path)
    for package in alerting.PACKAGES.values():
        (tmp_path / package).touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(alerting.WEBHOOK, WEBHOOK)
    return tmp_path


def test_what_is_there_is_started_on_loopback_only(installed: Path) -> None:
    for program, command in (("prometheus", alerting.prometheus), ("alertmanager", alerting.alertmanager)):
        assert alerting.obstacle(program) is None
        assert any(a.startswith("--web.listen-address=127.0.0.1:") for a in command(load()))
    assert "--cluster.listen-address=" in alerting.alertmanager(load())


def test_the_webhook_is_a_secret_of_this_machine(installed: Path) -> None:
    alerting.alertmanager(load())
    written = installed / "alertmanager.yml"
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert yaml.safe_load(written.read_text())["receivers"][0]["webhook_configs"][0]["url"] == WEBHOOK


def test_what_is_missing_is_named_with_what_helps(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(alerting.WEBHOOK)
    assert "ATELIER_ALERT_WEBHOOK is empty" in str(alerting.obstacle("alertmanager"))
    (installed / "prometheus").unlink()
    with pytest.raises(StageError, match=r"prometheus cannot be started: .* apt-get install"):
        alerting.prometheus(load())


def test_37_prometheus_follows_the_ports_of_the_parameters(installed: Path) -> None:
    params = load()
    serving = params.serving.model_copy(update={"text_port": 3456})
    moved = {"serving": serving, "stack": params.stack.model_copy(update={"alertmanager_port": 3457})}
    alerting.prometheus(params.model_copy(update=moved))
    document = yaml.safe_load((installed / "prometheus.yml").read_text())
    (managers,) = document["alerting"]["alertmanagers"][0]["static_configs"]
    assert managers["targets"] == ["127.0.0.1:3457"]
    text = next(job for job in document["scrape_configs"] if job["job_name"] == "text")
    assert text["static_configs"][0]["targets"] == ["127.0.0.1:3456", "127.0.0.1:3003"]
    assert all(Path(file).is_file() for file in document["rule_files"])


def test_31_prometheus_has_the_token_of_the_engines_and_nobody_else_reads_it(installed: Path) -> None:
    (installed / "prometheus.yml").touch(0o644)
    alerting.prometheus(load())
    written = installed / "prometheus.yml"
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    jobs = {job["job_name"]: job for job in yaml.safe_load(written.read_text())["scrape_configs"]}
    assert {name: "authorization" in job for name, job in jobs.items()} == {
        "gateway": False,
        "text": True,
        "image": True,
    }
    assert jobs["text"]["authorization"]["credentials"] == os.environ["ATELIER_ENGINE_TOKEN"]
