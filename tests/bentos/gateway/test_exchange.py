"""One exchange on record, however it ends: over a real event store, without a server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from bentos.gateway.admission import Admission
from bentos.gateway.auth import Keys
from bentos.gateway.background import Background
from bentos.gateway.errors import ApiError, unavailable
from bentos.gateway.exchange import Caller, Exchange, Gateway, recorded, segments
from bentos.gateway.traffic import Traffic
from bentos.gateway.upstream import Upstream
from components.api_keys import DEFAULT
from components.config import Feedback, load
from components.events.read import finished, request
from components.events.store import EventStore
from monitoring import metrics


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that waits a tenth of a second for its models, of which there are none."""
    params = load()
    events = await EventStore.open(f"sqlite:///{tmp_path / 'events.db'}")
    yield Gateway(
        serving=params.serving.model_copy(update={"request_timeout": 0.1}),
        feedback=params.feedback,
        keys=Keys({"k": DEFAULT}, "secret"),
        admission={"text": Admission("text", 1, 1)},
        upstream=cast(Upstream, None),
        events=events,
        traffic=cast(Traffic, None),
        background=Background(0.0),
    )
    await events.close()


def exchange() -> Exchange:
    return Exchange("text", "atelier-text", Caller("u"), "text-1", "a red boat", "chatcmpl")


def counted(status: str) -> float:
    """Requests of the text line that ended with this status, so far."""
    samples = [sample for family in metrics.REQUESTS.collect() for sample in family.samples]
    return sum(s.value for s in samples if s.name.endswith("_total") and s.labels["status"] == status)


def row(tmp_path: Path, asked: Exchange) -> dict[str, Any]:
    found = finished(f"sqlite:///{tmp_path / 'events.db'}", asked.id)
    assert found is not None
    return found


async def test_a_request_is_on_record_before_its_answer_and_complete_after(gateway: Gateway, tmp_path: Path) -> None:
    sent, url = exchange(), f"sqlite:///{tmp_path / 'events.db'}"
    assert await gateway.events.who_asked(sent.id) is None
    async with recorded(gateway, sent) as result:
        assert await gateway.events.who_asked(sent.id) == ("u", sent.created)
        assert request(url, sent.id) is not None and finished(url, sent.id) is None
        result.output, result.completion_tokens = "boat", 1
    assert (row(tmp_path, sent)["outcome"], row(tmp_path, sent)["output"]) == ("ok", "boat")


def test_of_metadata_only_what_the_parameters_list_is_kept() -> None:
    rules = Feedback(max_age_days=7.0, segments={"plan": ["free", "paid"], "country": ["de"]})
    told = {"plan": "paid", "country": "ada@example.org", "email": "ada@example.org"}
    assert segments(rules, told) == {"plan": "paid", "country": "other"}
    assert segments(rules, None) == {}


async def test_a_slow_model_is_a_504_under_the_recorded_id(gateway: Gateway, tmp_path: Path) -> None:
    asked, before = exchange(), counted("504")
    with pytest.raises(ApiError) as caught:
        async with recorded(gateway, asked):
            await asyncio.Event().wait()
    assert counted("504") - before == 1 and caught.value.on_record  # so that it is not counted as refused, too
    assert caught.value.status == row(tmp_path, asked)["status"] == 504
    assert caught.value.headers["x-request-id"] == asked.id


async def test_a_refusal_keeps_its_headers_and_gains_the_recorded_id(gateway: Gateway, tmp_path: Path) -> None:
    asked = exchange()
    with pytest.raises(ApiError) as caught:
        async with recorded(gateway, asked):
            raise unavailable("text")
    assert caught.value.headers | {"retry-after": "5", "x-request-id": asked.id} == caught.value.headers
    assert row(tmp_path, asked)["status"] == 503


async def test_a_client_who_leaves_is_recorded_as_gone(gateway: Gateway, tmp_path: Path) -> None:
    asked, entered = exchange(), asyncio.Event()

    async def work() -> None:
        async with recorded(gateway, asked):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (row(tmp_path, asked)["outcome"], row(tmp_path, asked)["status"]) == ("cancelled", 499)


def sample_of(metric: Any, ending: str, **labels: str) -> float:
    samples = [sample for family in metric.collect() for sample in family.samples]
    return sum(s.value for s in samples if s.name.endswith(ending) and labels.items() <= s.labels.items())


def observed() -> list[float]:
    """Texts whose time was taken, and those of them that were late."""
    return [sample_of(metrics.SECONDS, "_count", line="text"), sample_of(metrics.LATE, "_total", line="text")]


@pytest.mark.parametrize(("waited", "late"), [(1.0, 0), (30.0, 1)])
async def test_09_who_gives_up_on_a_late_answer_counts_as_late(gateway: Gateway, waited: float, late: int) -> None:
    before, asked = observed(), replace(exchange(), began=time.monotonic() - waited)
    with pytest.raises(asyncio.CancelledError):
        async with recorded(gateway, asked):
            raise asyncio.CancelledError
    assert [now - earlier for now, earlier in zip(observed(), before, strict=True)] == [late, late]


@pytest.mark.parametrize(("bound", "late"), [(2.5, 1), (20.0, 0)])
async def test_what_is_late_is_the_users_to_say(gateway: Gateway, bound: float, late: int) -> None:
    """A large model on a CPU takes longer than the built-in one, and is not in trouble for it."""
    late_seconds = {"text": bound, "image": bound}
    serving = gateway.serving.model_copy(update={"late_seconds": late_seconds, "request_timeout": 60.0})
    before, asked = observed(), replace(exchange(), began=time.monotonic() - 10)
    async with recorded(replace(gateway, serving=serving), asked):
        pass
    assert [now - earlier for now, earlier in zip(observed(), before, strict=True)] == [1, late]


@pytest.mark.parametrize(("prompt_tokens", "waited"), [(0, False), (7, True)])
async def test_tokens_that_an_api_has_not_counted_are_none_that_nobody_wrote(
    gateway: Gateway, prompt_tokens: int, waited: bool
) -> None:
    serving = gateway.serving.model_copy(update={"request_timeout": 60.0})
    before = sample_of(metrics.COUNTED_SECONDS, "_total")
    async with recorded(replace(gateway, serving=serving), replace(exchange(), began=time.monotonic() - 10)) as result:
        result.prompt_tokens = prompt_tokens
    assert (sample_of(metrics.COUNTED_SECONDS, "_total") - before >= 10) is waited


async def test_what_cannot_be_recorded_is_not_answered(gateway: Gateway) -> None:
    await gateway.events.close()
    before = counted("503")
    with pytest.raises(ApiError) as caught:
        async with recorded(gateway, exchange()):
            raise AssertionError("an answer without a record")
    assert counted("503") == before and not caught.value.on_record
    assert (caught.value.status, caught.value.code) == (503, "events_unavailable")
