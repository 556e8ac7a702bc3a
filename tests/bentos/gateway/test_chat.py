"""Chat completions through the official client: whole, streamed, cancelled, failed; and what is recorded of them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from bentos.gateway.chat import sampling
from bentos.gateway.schemas import ChatRequest
from components.config import load
from components.events.database import connect
from components.events.schema import ACCEPTED, FINISHED
from components.experiments.assignment import assign
from tests.bentos.gateway.conftest import KEY, TOP_P, Running, serve_gateway
from tests.bentos.processes import free_port, process_command, running, workspace
from tests.components.experiments.examples import placed
from tests.tiny_language import SYSTEM_PROMPT, tiny_chat


def ask(gateway: Running, content: str, **options: Any) -> Any:
    messages: Any = [{"role": "system", "content": "be brief"}, {"role": "user", "content": content}]
    create: Any = gateway.client().chat.completions.with_raw_response.create
    return create(model="atelier-text", messages=messages, **options)


def rows(gateway: Running, request_id: str) -> tuple[Any, Any]:
    """The accepted and finished rows of a response, None where there is none."""
    with connect(gateway.events).connect() as connection:
        accepted = connection.execute(ACCEPTED.select().where(ACCEPTED.c.request_id == request_id)).one_or_none()
        finished = connection.execute(FINISHED.select().where(FINISHED.c.request_id == request_id)).one_or_none()
    return accepted, finished


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether `condition` holds within 10 s; for what another process does on its own."""
    waits = Retrying(
        stop=stop_after_delay(10),
        wait=wait_fixed(0.05),
        retry=retry_if_result(lambda held: not held),
        retry_error_callback=lambda _: False,
    )
    return bool(waits(condition))


def job(gateway: Running, prompt: str) -> dict[str, Any]:
    jobs: list[Any] = gateway.log()["jobs"]
    return next(j for j in reversed(jobs) if j.get("messages") and j["messages"][-1][1] == prompt)


def test_a_whole_answer_and_its_record(gateway: Running) -> None:
    raw = ask(gateway, "a red boat", user="ann", max_tokens=9)
    completion = raw.parse()
    assert completion.choices[0].message.content == "you said: a red boat"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage.total_tokens == 8
    assert raw.headers["x-request-id"] == completion.id
    assert raw.headers["x-deployment"] == "text-standin"
    accepted, finished = rows(gateway, completion.id)
    assert (accepted.line, accepted.deployment, accepted.variant) == ("text", "text-standin", raw.headers["x-variant"])
    assert (finished.outcome, finished.status, finished.batch_size) == ("ok", 200, 2)
    assert (finished.prompt, finished.output) == ("a red boat", "you said: a red boat")
    assert job(gateway, "a red boat")["max_new_tokens"] == 9


def test_the_variant_decides_the_temperature_and_stays_with_its_user(gateway: Running) -> None:
    (experiment,) = load().experiments
    seen = set()
    for user in ("ann", "bob", "cid", "dora", "eve", "finn", "gus", "hal"):
        prompt = f"prompt of {user}"
        variants = {ask(gateway, prompt, user=user).headers["x-variant"] for _ in range(2)}
        (variant,) = variants
        seen.add(variant)
        given = experiment.variants[variant].temperature
        assert job(gateway, prompt)["temperature"] == (load().serving.text_temperature if given is None else given)
        assert job(gateway, prompt)["top_p"] == TOP_P
    assert seen == set(experiment.variants)


def test_the_recorded_variant_is_the_assignment_of_the_recorded_user(gateway: Running) -> None:
    accepted, _ = rows(gateway, ask(gateway, "a boat", user="ann").parse().id)
    expected = assign(placed(load().experiments[0]), accepted.user_key)
    assert (accepted.experiment, accepted.variant) == (expected.experiment, expected.variant)
    assert accepted.propensity == expected.propensity
    assert "ann" not in accepted.user_key


def test_who_chooses_the_temperature_is_outside_the_experiment(gateway: Running) -> None:
    raw = ask(gateway, "my own", user="ann", temperature=0, top_p=0.5, seed=-1)
    assert "x-variant" not in raw.headers
    assert (job(gateway, "my own")["temperature"], job(gateway, "my own")["top_p"]) == (0, 0.5)
    assert job(gateway, "my own")["seed"] == 2**32 - 1
    assert rows(gateway, raw.parse().id)[0].experiment == ""


def test_without_an_experiment_the_lines_defaults_hold() -> None:
    serving = load().serving.model_copy(update={"text_temperature": 0.3, "text_top_p": 0.8})
    body = {"model": "atelier-text", "messages": [{"role": "user", "content": "a boat"}]}
    assert sampling(ChatRequest.model_validate(body), None, serving) == (0.3, 0.8)


def test_a_streamed_answer_and_its_record(gateway: Running) -> None:
    messages: Any = [{"role": "user", "content": [{"type": "text", "text": "a blue cat"}]}]
    stream = gateway.client().chat.completions.create(
        model="atelier-text", messages=messages, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.strip() == "you said: a blue cat"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 5
    assert len({chunk.id for chunk in chunks}) == 1
    assert rows(gateway, chunks[0].id)[1].output == "you said: a blue cat"
    assert stream.response.headers["x-request-id"] == chunks[0].id


@pytest.mark.parametrize("word", ["FAIL", "CUT"])
def test_a_stream_that_breaks_says_so_to_its_reader(gateway: Running, word: str) -> None:
    stream = ask(gateway, f"please {word}", stream=True)
    with pytest.raises(openai.APIError):
        list(stream.parse())
    finished = rows(gateway, stream.headers["x-request-id"])[1]
    assert finished.outcome == "error"
    assert finished.output.startswith("you said:")


def test_a_failing_model_is_an_honest_500(gateway: Running) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        ask(gateway, "please FAIL")
    assert caught.value.status_code == 500
    assert "out of memory" not in str(caught.value)  # the cause is for the log, not for callers


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_who_leaves_ends_the_work_upstream(gateway: Running, stream: bool) -> None:
    prompt = f"HOLD {stream}"
    body = {"model": "atelier-text", "messages": [{"role": "user", "content": prompt}], "stream": stream}
    with pytest.raises(httpx.ReadTimeout):
        headers = {"authorization": f"Bearer {KEY}"}
        httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers, timeout=1)
    assert eventually(lambda: prompt in gateway.log()["cancelled"])

    def cancelled() -> bool:
        with connect(gateway.events).connect() as connection:
            found = connection.execute(FINISHED.select().where(FINISHED.c.prompt == prompt)).one_or_none()
        return found is not None and found.outcome == "cancelled" and found.status == 499

    assert eventually(cancelled)


OWN = [("system", "Be brief."), ("user", "a red boat")]
OF_THE_LINE = [("system", SYSTEM_PROMPT), ("user", "a red boat")]


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ([("user", "a red boat")], OF_THE_LINE),
        (OWN, OWN),
        ([("developer", "Be brief."), ("user", "a red boat")], OWN),
        (OF_THE_LINE, OF_THE_LINE),
    ],
    ids=["none", "the caller's own", "as developer", "the line's own"],
)
def test_the_model_reads_exactly_one_system_message(
    text_gateway: Running, tiny_base: Path, sent: list[tuple[str, str]], read: list[tuple[str, str]]
) -> None:
    messages: Any = [{"role": role, "content": content} for role, content in sent]
    answer = text_gateway.client().chat.completions.create(model="atelier-text", messages=messages, max_tokens=4)
    expected = tiny_chat(tiny_base).prompt(read)
    assert answer.usage is not None and answer.usage.prompt_tokens == len(expected)  # one token per byte


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_beyond_the_context_is_a_400_whole_or_streamed(text_gateway: Running, stream: bool) -> None:
    messages: Any = [{"role": "user", "content": "x" * 600}]
    with pytest.raises(openai.BadRequestError) as caught:
        text_gateway.client().chat.completions.create(model="atelier-text", messages=messages, stream=stream)
    error: Any = caught.value.body
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
    assert "prompt tokens" in error["message"] and "512" in error["message"]
    _, finished = rows(text_gateway, caught.value.response.headers["x-request-id"])
    assert (finished.outcome, finished.status) == ("error", 400)


@pytest.mark.parametrize("parameter", ["temperature", "top_p"])
async def test_24_a_number_that_is_zero_in_float32_ends_nobody_elses_answer(
    text_gateway: Running, parameter: str
) -> None:
    honest: dict[str, Any] = {"model": "atelier-text", "messages": [{"role": "user", "content": "a red boat"}]}
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {KEY}"}, timeout=60) as client:

        async def post(**changes: Any) -> httpx.Response:
            return await client.post(f"{text_gateway.url}/v1/chat/completions", json=honest | changes)

        calls = (post(**({parameter: 1e-46} if number % 2 else {"seed": number})) for number in range(4))
        answers = await asyncio.gather(*calls)
    assert [answer.status_code for answer in answers] == [200, 400, 200, 400]
    assert answers[1].json()["error"]["param"] == parameter
    assert "float32" in answers[1].json()["error"]["message"]


def test_26_a_prompt_with_too_many_tokens_is_a_400_that_names_them(
    standin: str, tiny_export: Path, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{(port := free_port())}"
    folder = workspace(tmp_path / "bento", text_max_prompt_tokens=200)
    command = process_command("bentos.text.service:TextBento", port)
    with (
        running(command, folder, f"{url}/readyz", {"ATELIER_TEXT_ARTIFACT": str(tiny_export)}),
        serve_gateway(tmp_path / "gateway", standin, url, f"{standin}/image") as gateway,
    ):
        messages: Any = [{"role": "user", "content": "图" * 60}]
        for stream in (False, True):
            with pytest.raises(openai.BadRequestError) as caught:
                gateway.client().chat.completions.create(model="atelier-text", messages=messages, stream=stream)
            error: Any = caught.value.body
            assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
            assert re.search(r"\d+ prompt tokens; at most 200", error["message"])
