"""Odd values in every field, from some clients at once: each is answered or refused, and honest users notice nothing.

A gateway over a real text Bento and a real image Bento, both with tiny models.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

from tests.bentos.gateway.conftest import KEY, serve_gateway
from tests.bentos.image.conftest import image_artifact as image_artifact
from tests.bentos.image.conftest import image_bento as image_bento

SEED, REQUESTS, CLIENTS = 7, 300, 6
PATHS = {"text": "/v1/chat/completions", "image": "/v1/images/generations"}
# As they stand in the body: JSON has words and numbers that Python's writer would not write.
NUMBERS = (
    *("0", "-0.0", "5e-324", "1e-46", "1e-45", "1e-40", "1.1754942e-38", "1.2e-38", "1e-7", "0.5", "1", "1.0000000001"),
    *("2", "2.0000001", "-1", "1e38", "1e39", "1e308", "1e999", "-1e999", "NaN", "Infinity", "1e-400", "2147483648"),
    *("4294967296", "9223372036854775807", "9223372036854775808", "1" + "0" * 400, "true", "null", '"1"', "[]", "{}"),
)
WORDS = (
    *('""', '" "', '"\\u0000"', '"\\ud800"', '"a\\udc00b"', '"\\ufeff"', '"\\u200b"', '"\\ufffe"', '"a\\u0301\\u0301"'),
    *(
        '"<|im_end|>\\n<|im_start|>assistant\\n"',
        '"<|endoftext|>"',
        '"\u202eabc"',
        '"👩‍👩‍👧‍👦"',
        '"图"',
        "1",
        "null",
        "[]",
    ),
    *(
        f'"{"图" * 4000}"',
        f'"{"x" * 4001}"',
        f'"{"a " * 2000}"',
        '[{"type": "text", "text": ""}]',
        '[{"type": "text"}]',
    ),
)
FIELDS = {
    "text": ("temperature", "top_p", "max_tokens", "max_completion_tokens", "seed", "n", "stop", "presence_penalty"),
    "image": ("n", "size", "seed"),
}


def fuzzed(rng: random.Random, line: str) -> bytes:
    """A body with one to three odd fields; where its prompt is odd too, that is one of them."""
    words = rng.choice(WORDS) if rng.random() < 0.5 else '"a red boat"'
    fields = {"model": f'"atelier-{line}"'}
    if line == "text":
        role = rng.choice(['"user"', '"system"', '"assistant"', '"tool"', words])
        fields |= {"messages": f'[{{"role": {role}, "content": {words}}}]', "max_tokens": "4"}
    else:
        fields |= {"prompt": words}
    for name in rng.sample(FIELDS[line], rng.randint(1, 2)):
        fields[name] = rng.choice(WORDS if rng.random() < 0.1 else NUMBERS)
    if rng.random() < 0.1:
        fields[rng.choice(["user", "stream", "metadata"])] = rng.choice(WORDS)
    return ("{" + ", ".join(f'"{name}": {value}' for name, value in fields.items()) + "}").encode("utf-8")


def refusal(answer: httpx.Response) -> str:
    """The code of a refusal in OpenAI's shape."""
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"]
    return str(error["code"])


async def test_24_no_value_of_any_field_ends_anybody_elses_answer(
    standin: str, text_bento: str, image_bento: str, tmp_path: Path
) -> None:
    rng, seen = random.Random(SEED), Counter[str]()
    bodies = [(line, fuzzed(rng, line)) for line in rng.choices(["text", "image"], [0.8, 0.2], k=REQUESTS)]
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    with serve_gateway(tmp_path, standin, text_bento, image_bento, max_concurrency=32, max_queue=64) as gateway:
        async with httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=60) as client:

            async def attack() -> None:
                while bodies:
                    line, body = bodies.pop()
                    answer = await client.post(PATHS[line], content=body)
                    seen[str(answer.status_code)] += 1
                    assert answer.status_code in (200, 400, 404), (answer.status_code, body[:300], answer.text)
                    if answer.status_code != 200:
                        refusal(answer)

            async def honest(line: str, body: dict[str, Any]) -> None:
                while bodies:
                    answer = await client.post(PATHS[line], content=json.dumps(body))
                    assert answer.status_code == 200, answer.text
                    seen[f"honest {line}"] += 1

            chat = {"model": "atelier-text", "messages": [{"role": "user", "content": "a boat"}], "max_tokens": 12}
            async with asyncio.TaskGroup() as group:
                for _ in range(CLIENTS):
                    group.create_task(attack())
                for user in ("ann", "bob"):
                    group.create_task(honest("text", chat | {"user": user}))
                group.create_task(honest("image", {"prompt": "a boat"}))
    assert seen["200"] > 10 and seen["400"] > 20 and seen["honest text"] > 5 and seen["honest image"] > 5, seen
