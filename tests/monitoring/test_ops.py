"""The ops page from a real database, real Prometheus and Alertmanager, and from nothing at all."""

from __future__ import annotations

import re
import socket
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, start_http_server

from components.config import Params
from components.events.database import connect
from components.events.ledger import Note
from components.lines import PROGRAMS
from components.releases import store
from components.releases.leases import held
from components.releases.machine import WAY, State
from monitoring import metrics
from monitoring.ops import write_ops
from tests.bentos.processes import free_port
from tests.components.releases.examples import record, release_directly
from tests.infra.prometheus.test_delivery import alertmanager, eventually, prometheus
from tests.infra.prometheus.webhook import webhook
from tests.monitoring.test_history import EXPERIMENT, drift, write
from tests.monitoring.test_report import params_in
from tests.monitoring.test_report import store as store_events

HOSTILE = "<script>alert(1)</script> \"'><img src=x onerror=alert(2)>"
NAMES = ("gateway", *PROGRAMS, "mlflow", "prefect", "prometheus", "alertmanager")


@pytest.fixture
def params(tmp_path: Path) -> Params:
    return params_in(tmp_path)


def nobody() -> dict[str, str]:
    """Addresses at which nothing listens."""
    return {name: f"http://127.0.0.1:{free_port()}/readyz" for name in NAMES}


def page(params: Params, urls: Mapping[str, str], now: float | None = None) -> str:
    return write_ops(params, urls, now or time.time()).read_text()


def words(text: str) -> str:
    """What a reader sees, on one line."""
    shown = re.sub(r"<(style|script)>.*?</\1>", "", text, flags=re.S)
    return " ".join(re.sub(r"<[^>]+>", " ", shown).split())


def released(params: Params) -> None:
    """text-1 is champion; text-2 was sent back from its first users; text-3 is a canary at 5 %."""
    record(params.events.url, "text-1", "text-2", "text-3")
    engine = connect(params.events.url)
    release_directly(engine, "text-1")
    with held(engine, "text", "ada", 30) as lease:
        for deployment, last in (("text-2", State.CANARY_1), ("text-3", State.CANARY_5)):
            made = store.register(engine, deployment, Note("ada", "it is new"), lease.token)
            for to in WAY[1 : WAY.index(last) + 1]:
                made = store.move(engine, made.release, made.version, to, Note("ada", "step by step"), lease.token)
            if deployment == "text-2":
                store.move(engine, made.release, made.version, State.ROLLED_BACK, Note("bob", HOSTILE), lease.token)
    engine.dispose()


def test_with_nothing_there_the_page_is_written_and_says_what_is_missing(params: Params) -> None:
    began = time.monotonic()
    text = page(params, nobody())
    assert time.monotonic() - began < 2.5
    said = words(text)
    assert said.startswith("Look at the text line, the image line, the gateway and 6 more")
    for part in (
        "No text model answers (nothing listens on its port)",
        "The events database cannot be read: no events database at",
        "Prometheus: nothing listens on its port",
        "Alertmanager: nothing listens on its port",
        "No report is kept yet",
        "neither Prometheus nor the events database has them",
    ):
        assert part in said
    assert not re.search(r"\bNone\b|\bnan\b|Undefined", said)
    assert "src=" not in text and "<link" not in text and "@import" not in text  # it loads nothing


def test_releases_are_told_with_who_and_why_and_their_words_are_only_words(params: Params) -> None:
    released(params)
    text = page(params, nobody())
    said = words(text)
    assert "champion text-1 for 0 s" in said
    assert "candidate text-3 in canary , 5 % of users, for 0 s . It holds: canary_5 has 0 of 30 calls" in said
    assert "text-2.1 canary 1 % → rolled back by bob:" in said
    assert HOSTILE not in text and "<img" not in text and text.count("<script>") == 1  # the page's own
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_without_prometheus_requests_failures_and_latency_come_from_the_events(params: Params) -> None:
    from tests.components.events.examples import accepted, finished

    now = time.time()
    rows = [accepted(f"r{i}", at=now - 60) for i in range(20)]
    ends = [finished(f"r{i}", at=now - 59) for i in range(18)]
    ends += [finished(f"r{i}", at=now - 59).model_copy(update={"outcome": "error", "status": 500}) for i in (18, 19)]
    store_events(params.events.url, [*rows, *ends])
    said = words(page(params, nobody(), now))
    assert "20 requests, 1 h 10.0 % failed (2) 500 ms p95, 1 h From the events database" in said
    assert "10.0 % of 20 text requests failed within an hour" in said


def test_a_broken_database_and_broken_reports_are_said(params: Params, tmp_path: Path) -> None:
    (tmp_path / "events.db").write_text("this is no database, but long enough to be taken for one " * 40)
    (tmp_path / "reports" / "cut").mkdir(parents=True)
    (tmp_path / "reports" / "cut" / "report.json").write_text('{"since": 1')
    said = words(page(params, nobody()))
    assert "file is not a database" in said and "No report is kept yet" in said


def test_a_locked_database_is_waited_for_two_seconds(params: Params, tmp_path: Path) -> None:
    released(params)
    began = time.monotonic()
    with closing(sqlite3.connect(tmp_path / "events.db")) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        assert "another process keeps it locked" in words(page(params, nobody()))
    assert time.monotonic() - began < 5


def test_a_service_that_hangs_holds_the_page_up_for_two_seconds(params: Params) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        urls = dict.fromkeys(NAMES, f"http://127.0.0.1:{silent.getsockname()[1]}/")
        began = time.monotonic()
        assert "Prometheus: no answer within 2 s" in words(page(params, urls))
        assert time.monotonic() - began < 4


def test_the_experiment_and_drift_are_shown_over_the_reports(params: Params, tmp_path: Path) -> None:
    now = time.time()
    for i in range(8):
        moved = i > 5
        write(tmp_path / "reports", f"run{i}", now - 3600 * (8 - i), drift(0.5 if moved else 0.05, moved))
    text = page(params, nobody(), now)
    assert text.count("interval -10.0 to +30.0") == 16  # of each look, its bar and its dot
    assert [len(re.findall(f'class="mark {name}"', text)) for name in ("none", "watch")] == [6, 2]
    assert "colours · inconclusive" in words(text) and 'href="run7/report.html"' in text
    assert "The newest report is" not in words(text)
    assert "The newest report is 4 hours old" in words(page(params, nobody(), now + 3 * 3600))


def test_every_experiment_of_the_newest_report_is_shown(params: Params, tmp_path: Path) -> None:
    ended, shapes = EXPERIMENT | {"experiment": "ended"}, EXPERIMENT | {"experiment": "shapes"}
    following = EXPERIMENT | {"experiment": "following", "treatment": "control", "reason": "Its weights follow likes."}
    for i, looks in enumerate([(ended, shapes), (shapes, following)]):
        told = [{"analysis": look} for look in looks]
        write(tmp_path / "reports", f"run{i}", 1000.0 + i, drift(0.05), experiments=told)
    text = page(params, nobody())
    assert re.findall(r"<h2>Experiment (\w+)", text) == ["shapes", "following"]
    assert text.count("interval -10.0 to +30.0") == 4  # of two looks at shapes; the other compares nothing
    assert "Its weights follow likes." in text


def test_prometheus_and_alertmanager_tell_of_failures(params: Params, binaries: Path, tmp_path: Path) -> None:
    shown = CollectorRegistry()  # whatever else this process counted is other tests' and would fire more
    for metric in (metrics.REQUESTS, metrics.SECONDS, metrics.LATE):
        shown.register(metric)
    exporter, thread = start_http_server(0, "127.0.0.1", shown)
    metrics.start_at_zero({"text": [("", "control")]})
    urls = nobody()

    def told() -> str:
        for _ in range(5):
            metrics.REQUESTS.labels("text", "500", "error", "", "control").inc()
            metrics.SECONDS.labels("text").observe(0.2)
        return words(page(params, urls))

    try:
        with (
            webhook() as hook,
            alertmanager(binaries, tmp_path / "alertmanager", hook) as manager,
            prometheus(
                binaries, tmp_path / "prometheus", manager, f"http://127.0.0.1:{exporter.server_port}"
            ) as server,
        ):
            urls |= {"prometheus": f"{server}/-/ready", "alertmanager": f"{manager}/-/ready"}
            eventually(lambda: "page AvailabilityBurnFast text: " in told())
            none_late = "100 % of budget left, burning 0.0×"
            said = eventually(
                lambda: "over budget, burning 100.0×" in (found := told()) and none_late in found and found
            )
            assert re.search(r"[1-9]\d* requests, 1 h 100.0 % failed", said)
            assert "99 % answered" in said
            assert "docs/runbooks/AvailabilityBurnFast.md" in page(params, urls)
            urls["alertmanager"] = nobody()["alertmanager"]
            eventually(
                lambda: "known to Prometheus alone, and nobody was told. page AvailabilityBurnFast text" in told()
            )
    finally:
        exporter.shutdown()
        exporter.server_close()
        thread.join()
