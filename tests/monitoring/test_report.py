from __future__ import annotations

import asyncio
import json
import math
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from components.config import Params, load
from components.events.database import DatabaseError
from components.events.read import record_deployment
from components.events.schema import Accepted, Event, Feedback
from components.events.store import EventStore
from monitoring.experiments import users_of
from monitoring.report import write_report
from monitoring.simulated import AudienceRun, SimulatedPicture, audience_folder, write_run
from tests.components.events.examples import DEPLOYMENT, accepted, finished, like
from tests.components.experiments.examples import in_force

NOW = 10_000.0
COLOURS = load().experiments[0].model_copy(update={"name": "colours"})


def params_in(folder: Path) -> Params:
    """The project's parameters with every effect in `folder`."""
    params = load()
    return params.model_copy(
        update={
            "events": params.events.model_copy(update={"url": f"sqlite:///{folder / 'events.db'}"}),
            "monitor": params.monitor.model_copy(update={"report": str(folder / "reports")}),
        }
    )


def store(url: str, events: list[Event]) -> None:
    async def write() -> None:
        opened = await EventStore.open(url)
        await asyncio.gather(*(opened.append(event) for event in events))
        await opened.close()

    asyncio.run(write())


def traffic(count: int) -> list[Event]:
    events: list[Event] = []
    for i in range(count):
        variant, at = ("control", "treatment")[i % 2], NOW - 600 + i
        events += [accepted(f"r{i}", at=at, user=f"u{i}", variant=variant), finished(f"r{i}", at=at + 1)]
        events += [like(f"r{i}", f"k{i}", at=at + 2, user=f"u{i}", value=float(i % 3 == 0))]
    return events


class _Links(HTMLParser):
    """Everything a page would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.loads += [value or "" for name, value in attrs if name == "src" or (tag == "link" and name == "href")]


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    params = params_in(tmp_path)
    in_force(params.events.url, COLOURS)
    monkeypatch.chdir(tmp_path)  # no training data and no package here: the report must do without
    return params


def test_the_page_stands_alone_and_agrees_with_its_summary(params: Params) -> None:
    store(params.events.url, [*traffic(40), accepted("running", at=NOW - 5)])
    record_deployment(params.events.url, DEPLOYMENT)
    page = write_report(params, NOW)
    text, summary = page.read_text(), json.loads(page.with_suffix(".json").read_text())
    links = _Links()
    links.feed(text)
    assert links.scripts == 0
    assert links.loads == []
    assert summary["requests"] == 41
    assert summary["traffic"][0]["unfinished"] == 1
    assert summary["experiments"][0]["analysis"]["verdict"] == "inconclusive"
    assert summary["deployments"][0]["digest"] == "a" * 64
    assert "<b>41</b><span>requests</span>" in text
    assert summary["severity"] == "not enough data"
    assert "Not enough data: the first traffic of text-1 has 0 values and 50 are needed" in text
    assert "Simulated traffic" not in text
    assert {(g["guardrail"], g["status"]) for g in summary["experiments"][0]["analysis"]["guards"]} == {
        (name, "undecided") for name in ("slow", "failed", "refused")
    }
    assert text.count('<td class="left warn">undecided</td>') == 3
    assert not re.search(r"\bnan\b|None|undefined", re.sub(r"<style>.*?</style>", "", text, flags=re.S))


def test_what_is_simulated_is_called_simulated_and_its_pictures_are_shown(params: Params) -> None:
    store(params.events.url, traffic(12))
    folder = audience_folder(params.monitor.report)
    picture = SimulatedPicture("p.png", 'a <b>"fox"</b>', "r1")
    run = AudienceRun(7, 5, NOW - 600, NOW - 500, 0.0, ["r1", "r2", "elsewhere"], ["r3"], 1, 2, 1, [picture])
    write_run(folder, run)
    (folder / "p.png").write_bytes(b"\x89PNG")
    page = write_report(params, NOW)
    text = page.read_text()
    assert "3 of 12 requests in this window" in text
    assert "The users are simulated" in text
    assert "a &lt;b&gt;&#34;fox&#34;&lt;/b&gt;" in text
    assert "data:image/png;base64,iVBORw==" in text


def test_a_window_without_traffic_says_so(params: Params) -> None:
    store(params.events.url, traffic(3))
    text = write_report(params, NOW + 10 * 3600).read_text()
    assert "No request arrived in this window" in text


def test_a_drift_that_lasts_is_acted_on_and_the_index_shows_how_it_came(params: Params) -> None:
    day = [accepted(f"d{i}", at=NOW + 60 * i, user=f"u{i}") for i in range(600)]
    late = [item.model_copy(update={"request_id": f"l{i}", "time": NOW + 60 * (600 + i)}) for i, item in enumerate(day)]
    ends = [finished(item.request_id, at=item.time + 1) for item in day]
    slow = [finished(item.request_id, at=item.time + 9) for item in late]
    ends = [end.model_copy(update={"latency_s": 0.5 + (i % 7) / 10}) for i, end in enumerate(ends)]
    slow = [end.model_copy(update={"latency_s": 2.0 + (i % 7) / 10}) for i, end in enumerate(slow)]
    store(params.events.url, [*day, *late, *ends, *slow])
    params = params.model_copy(
        update={"monitor": params.monitor.model_copy(update={"reference_minutes": 600, "keep": 3})}
    )
    pages = [write_report(params, NOW + 60 * until, 120) for until in (600, 720, 840, 960)]
    said = [json.loads(page.with_suffix(".json").read_text()) for page in pages if page.exists()]
    assert [summary["severity"] for summary in said] == ["watch", "watch", "act"]
    assert "latency (s), for 3 windows in a row" in said[-1]["advice"][0]["words"]
    assert not pages[0].exists()  # three are kept
    index = (pages[0].parent.parent / "index.html").read_text()
    assert index.count("text service: latency (s)") == 3
    assert (pages[-1].parent / "drift-text-service.html").exists()


def test_clocks_that_jump_are_said(params: Params) -> None:
    ahead = accepted("ahead", at=time.time() + 3600)
    store(params.events.url, [*traffic(3), accepted("back", at=NOW - 5), finished("back", at=NOW - 900), ahead])
    write_report(params, NOW + 7200)
    text = write_report(params, NOW).read_text()
    assert "1 requests ended before they were accepted" in text
    assert "1 requests are dated in the future" in text
    assert "1 earlier reports are of later windows" in text


def test_requests_sent_twice_are_said(params: Params) -> None:
    again = [accepted(f"again{i}", at=NOW - 100 + i, user="u1") for i in range(10)]
    store(params.events.url, [*traffic(40), *again, *[finished(a.request_id, at=a.time + 1) for a in again]])
    page = write_report(params, NOW).read_text()
    assert "10 of 50 text requests looked at repeat a prompt of the same user: each counts once" in page


def test_the_same_report_twice_is_one_run(params: Params) -> None:
    store(params.events.url, traffic(60))
    first, second = write_report(params, NOW), write_report(params, NOW)
    assert first == second
    assert (first.parent.parent / "index.html").read_text().count("report.html") == 1


def random_events(seed: int) -> list[Event]:
    """Users of two variants with pasts, some of whom cross over, answer each other's requests or say nothing."""
    rng, events = np.random.default_rng(seed), list[Event]()
    outside = {"experiment": "", "variant": "", "propensity": 1.0}
    for i in range(int(rng.integers(1, 150))):
        user, at = int(rng.integers(20)), float(rng.uniform(0, NOW))
        variant = ("control", "treatment")[user % 2 if rng.random() < 0.98 else 0]
        request = accepted(f"r{i}", at=at, user=f"u{user}", variant=variant)
        events.append(request.model_copy(update=outside) if rng.random() < 0.4 else request)
        for k in range(int(rng.integers(4))):
            who = f"u{user if rng.random() < 0.9 else rng.integers(20)}"
            later, delay = at + float(rng.choice([1.0, NOW / 4])), float(rng.choice([-1.0, 0.0, NOW / 8]))
            said = like(f"r{i}", f"k{i}-{k}", at=later, user=who, value=float(rng.integers(2)))
            events.append(said.model_copy(update={"received": later + delay if delay >= 0 else 0.0}))
    return events


def told(events: list[Event], user: str, until: float, window: float) -> tuple[float, float]:
    """(outcome, outcome before) of a user by all events at once, as its definition says."""

    def mean(requests: list[Accepted], heard: float) -> float:
        liked = []
        for r in requests:
            own = [e for e in events if isinstance(e, Feedback) and (e.request_id, e.user_key) == (r.request_id, user)]
            said = sorted((e for e in own if (e.received or e.time) < heard), key=lambda e: (e.time, e.received, e.key))
            liked.append(said[-1].value if said else 0.0)
        return sum(liked) / len(liked) if liked else math.nan

    mine = [e for e in events if isinstance(e, Accepted) and e.user_key == user and e.time < until]
    inside = [request for request in mine if request.experiment]
    entered = min(request.time for request in inside)
    first = next(request.variant for request in inside if request.time == entered)
    closes = min(entered + window, until)
    counted = [request for request in inside if request.variant == first and request.time < closes]
    return mean(counted, closes), mean([r for r in mine if r.time < entered], entered)


@pytest.mark.parametrize("seed", range(8))
def test_users_folded_from_the_stream_are_those_of_all_events_at_once(params: Params, seed: int) -> None:
    events, until = random_events(seed), NOW * 0.8
    store(params.events.url, events)
    watched = COLOURS.model_copy(update={"attribution_hours": NOW / 3600 / (seed + 1)})
    window = watched.attribution_seconds
    users = users_of(params.events.url, watched, [(0.0, watched.weights)], until)
    inside = [e for e in events if isinstance(e, Accepted) and e.experiment and e.time < until]
    first = {e.user_key: e.time for e in sorted(inside, key=lambda e: -e.time)}
    names = sorted(first, key=lambda name: first[name])
    found = [(user.outcome("like"), user.before("like")) for user in users]
    assert found == [pytest.approx(told(events, name, until, window), nan_ok=True) for name in names]
    within = [e for e in inside if e.time < first[e.user_key] + window]
    seen = [{e.variant for e in within if e.user_key == name} for name in names]
    assert [user.crossed for user in users] == [len(variants) > 1 for variants in seen]


def test_without_events_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="made when the gateway first starts"):
        write_report(params_in(tmp_path), NOW)
