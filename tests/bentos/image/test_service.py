"""The image Bento as a process: batches, sizes, refusals and the work of callers that have gone."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from bentos.protocol import JOB_ID, REQUEST_ID
from components import engine_token
from tests.bentos.image.conftest import SHAPE
from tests.bentos.processes import free_port, process_command, running, workspace
from tests.tiny_image import write_tiny_artifact


def job(name: str, **changes: Any) -> dict[str, Any]:
    return {"id": name, "prompt": "a red boat", "seed": 1, "steps": 2, "guidance": 2.0} | changes


async def paint(client: httpx.AsyncClient, url: str, **changes: Any) -> dict[str, Any]:
    one = job(**changes)
    answer = await client.post(f"{url}/generate", json={"jobs": [one]}, headers={JOB_ID: one["id"]}, timeout=60)
    answer.raise_for_status()
    picture: dict[str, Any] = answer.json()[0]
    return picture


def pixels(picture: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(picture["png"])))


async def test_concurrent_calls_are_painted_together_and_each_gets_its_own_picture(image_bento: str) -> None:
    async with httpx.AsyncClient(headers=engine_token.headers(), limits=httpx.Limits(max_connections=64)) as client:
        # The dispatcher learns the model's speed from single jobs before it batches.
        alone = {seed: await paint(client, image_bento, name=f"alone-{seed}", seed=seed, steps=1) for seed in range(16)}
        for _ in range(5):  # calls that a busy machine brings one by one are painted one by one
            calls = (paint(client, image_bento, name=f"many-{i}", seed=i % 16, steps=1) for i in range(64))
            together = await asyncio.gather(*calls)
            if max(picture["batch_size"] for picture in together) > 1:
                break
    assert max(picture["batch_size"] for picture in together) > 1
    for i, picture in enumerate(together):
        # 2 of 255: rounding of differently shaped matrix products
        assert largest_difference(pixels(picture), pixels(alone[i % 16])) <= 2


def largest_difference(a: Image.Image, b: Image.Image) -> int:
    return max(abs(x - y) for x, y in zip(a.tobytes(), b.tobytes(), strict=True))


async def test_a_side_beyond_the_models_own_enlarges_the_picture(image_bento: str) -> None:
    async with httpx.AsyncClient(headers=engine_token.headers()) as client:
        picture = await paint(client, image_bento, name="large", side=SHAPE.size * 4)
        native = await paint(client, image_bento, name="native")
    assert pixels(picture).size == (SHAPE.size * 4, SHAPE.size * 4)
    assert pixels(native).size == (SHAPE.size, SHAPE.size)


async def test_says_what_it_serves(image_bento: str) -> None:
    async with httpx.AsyncClient(headers=engine_token.headers()) as client:
        info = (await client.post(f"{image_bento}/info", json={})).json()
        picture = await paint(client, image_bento, name="who")
    assert info["side"] == SHAPE.size
    assert info["deployment"] == picture["deployment"] == "image-7"


async def test_a_job_out_of_bounds_is_refused(image_bento: str) -> None:
    async with httpx.AsyncClient(headers=engine_token.headers()) as client:
        for wrong in ({"prompt": ""}, {"prompt": "x" * 5000}, {"steps": 0}, {"side": 4096}, {"seed": -1}):
            body = {"jobs": [job("wrong", **wrong)]}
            assert (await client.post(f"{image_bento}/generate", json=body)).status_code == 400, wrong


async def test_a_call_carries_one_job(image_bento: str) -> None:
    async with httpx.AsyncClient(headers=engine_token.headers()) as client:
        for jobs in ([], [job("first"), job("second")]):
            assert (await client.post(f"{image_bento}/generate", json={"jobs": jobs})).status_code == 400


async def test_output_that_is_not_finite_is_no_picture_and_spoils_none_of_its_batch(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    artifact = write_tiny_artifact(tmp_path / "artifact", broken="rocket")
    environment = {"ATELIER_IMAGE_ARTIFACT": str(artifact), "ATELIER_IMAGE_ENGINE": "pytorch"}
    folder = workspace(tmp_path / "bento", image_max_batch=8)
    with running(process_command("bentos.image.service:ImageBento", port), folder, f"{url}/readyz", environment):
        async with httpx.AsyncClient(headers=engine_token.headers()) as client:
            prompts = ["red apple", "red rocket"] * 8
            calls = (paint(client, url, name=f"n-{i}", prompt=prompt) for i, prompt in enumerate(prompts))
            painted = await asyncio.gather(*calls)
    assert [picture["not_finite"] for picture in painted] == [False, True] * 8
    assert all(bool(picture["png"]) != picture["not_finite"] for picture in painted)
    assert "came out NaN or infinite" in (folder / "server.log").read_text()


async def test_a_job_whose_caller_left_while_it_waited_is_not_painted(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    artifact = write_tiny_artifact(tmp_path / "artifact")
    environment = {"ATELIER_IMAGE_ARTIFACT": str(artifact), "ATELIER_IMAGE_ENGINE": "pytorch"}
    folder = workspace(tmp_path / "bento", image_max_batch=2)
    with running(process_command("bentos.image.service:ImageBento", port), folder, f"{url}/readyz", environment):
        async with httpx.AsyncClient(headers=engine_token.headers()) as client:
            await paint(client, url, name="first")
            long = asyncio.create_task(paint(client, url, name="long", steps=1000))
            await asyncio.sleep(0.2)  # until it is at work, so that the next one waits for it
            with pytest.raises(httpx.ReadTimeout):
                body, names = {"jobs": [job("left")]}, {JOB_ID: "left", REQUEST_ID: "left"}
                await client.post(f"{url}/generate", json=body, headers=names, timeout=0.2)
            assert not long.done()
            assert (await long)["png"]
            await paint(client, url, name="last")
    (line,) = [line for line in (folder / "server.log").read_text().splitlines() if '"left"' in line]
    logged = json.loads(line[line.index("{") :])
    assert (logged["outcome"], logged["batch_size"]) == ("cancelled", 0)
