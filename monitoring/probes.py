"""What the running services say of themselves: whether they are ready, Prometheus' numbers, Alertmanager's alerts.

All are asked at once, and each answer is waited for two seconds in all. A service that is down is an answer too.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urljoin

import aiohttp

from components import engine_token
from components.lines import PROGRAMS

Ask = Callable[[aiohttp.ClientSession, str], Awaitable[Any]]
SECONDS = 2.0
RULES = '{__name__=~"line:atelier_.+"}'  # all that infra/prometheus/recording.yml keeps by line
UP = "avg_over_time(max by (job) (up)[1h:15s])"
# Each 15 s, as often as rules are evaluated.
FIRED = 'timestamp(ALERTS{alertstate="firing"})[24h:15s]'


@dataclass(frozen=True)
class Alert:
    """An alert as people are told of it. `until`: when it was last seen firing, None where it is said to fire now.
    `held_back`: another one says it already."""

    name: str
    about: str
    severity: str
    summary: str
    since: float
    until: float | None = None
    held_back: bool = False

    @property
    def pages(self) -> bool:
        """Whether it wakes somebody, by the label that infra/prometheus/alerts.yml gives it."""
        return self.severity == "page"


@dataclass(frozen=True)
class Metrics:
    """Prometheus' newest value of each recording rule by (rule, line), NaN left out; for how much of an hour each job
    answered; and what fired within a day by its own record, which is known without Alertmanager."""

    rules: dict[tuple[str, str], float]
    up: dict[str, float]
    fired: list[Alert]


@dataclass(frozen=True)
class Service:
    """`problem` says why it is not ready, empty where it is; `answer` is what it says, by its kind: a deployment
    (model Bentos), `Metrics` (Prometheus), a list of `Alert`s (Alertmanager), else None."""

    name: str
    url: str
    problem: str
    answer: Any = None


def look(urls: Mapping[str, str]) -> dict[str, Service]:
    """Ask every service; `urls` are the addresses at which each says that it is ready, by name."""
    return asyncio.run(_look(urls))


async def _look(urls: Mapping[str, str]) -> dict[str, Service]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS)) as session:
        answers = await asyncio.gather(*(_ask(session, name, url) for name, url in urls.items()))
    return dict(zip(urls, answers, strict=True))


async def _ask(session: aiohttp.ClientSession, name: str, url: str) -> Service:
    ask, base_url = _QUESTIONS.get(name, _ready), urljoin(url, "/")
    try:
        return Service(name, base_url, "", await ask(session, url))
    except (aiohttp.ClientError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return Service(name, base_url, describe_error(error))


def describe_error(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {SECONDS:g} s"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "nothing listens on its port"
    if isinstance(error, aiohttp.ClientResponseError):
        return f"answers with status {error.status}"
    return f"its answer is not understood ({type(error).__name__}: {error})"


async def _ready(session: aiohttp.ClientSession, url: str) -> None:
    async with session.get(url, raise_for_status=True):
        pass


async def _deployment(session: aiohttp.ClientSession, url: str) -> str:
    address, allowed = urljoin(url, "/info"), engine_token.headers()
    async with session.post(address, json={}, headers=allowed, raise_for_status=True) as response:
        return str((await response.json())["deployment"])


async def _metrics(session: aiohttp.ClientSession, url: str) -> Metrics:
    queries = (RULES, UP, f"min_over_time({FIRED})", f"max_over_time({FIRED})")
    rules, up, first, last = await asyncio.gather(*(_query(session, url, query) for query in queries))
    began = {_key(labels): value for labels, value in first}
    return Metrics(
        rules={(labels["__name__"], labels["line"]): value for labels, value in rules},
        up={labels["job"]: value for labels, value in up},
        fired=[
            Alert(labels["alertname"], _about(labels), labels.get("severity", ""), "", began[_key(labels)], value)
            for labels, value in last
        ],
    )


async def _query(session: aiohttp.ClientSession, url: str, query: str) -> list[tuple[dict[str, str], float]]:
    """An instant query's series: labels and value."""
    address = urljoin(url, "/api/v1/query")
    async with session.get(address, params={"query": query}, raise_for_status=True) as response:
        result = (await response.json())["data"]["result"]
    values = [(series["metric"], float(series["value"][1])) for series in result]
    return [(labels, value) for labels, value in values if not math.isnan(value)]


def _key(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))


async def _alerts(session: aiohttp.ClientSession, url: str) -> list[Alert]:
    async with session.get(urljoin(url, "/api/v2/alerts"), raise_for_status=True) as response:
        alerts = await response.json()
    return [
        Alert(
            name=alert["labels"]["alertname"],
            about=_about(alert["labels"]),
            severity=alert["labels"].get("severity", ""),
            summary=alert["annotations"].get("summary", ""),
            since=datetime.fromisoformat(alert["startsAt"]).timestamp(),
            held_back=alert["status"]["state"] == "suppressed",
        )
        for alert in alerts
    ]


def _about(labels: Mapping[str, str]) -> str:
    return labels.get("line") or labels.get("job") or ""


_QUESTIONS: dict[str, Ask] = {
    **dict.fromkeys(PROGRAMS, _deployment),
    "prometheus": _metrics,
    "alertmanager": _alerts,
}
