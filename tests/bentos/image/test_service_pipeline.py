"""The image Bento serves a brought pipeline: the golden picture, other sizes, and what was read of a long prompt."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import numpy as np
import pytest

from components import engine_token
from tests.bentos.image.test_service import paint, pixels
from tests.bentos.processes import free_port, process_command, running, workspace
from tests.conftest import TinyPipeline


@pytest.mark.parametrize("tiny_pipeline", ["sdxl"], indirect=True)
async def test_a_pipeline_paints_its_golden_picture_and_smaller_ones(
    tiny_pipeline: TinyPipeline, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{(port := free_port())}"
    (golden,) = json.loads((tiny_pipeline.export / "golden/golden.json").read_bytes())["requests"]
    expected = np.load(tiny_pipeline.export / "golden/golden.npz", allow_pickle=False)["pictures"][0]
    folder = workspace(tmp_path / "bento")
    environment = {"ATELIER_IMAGE_ARTIFACT": str(tiny_pipeline.export)}
    with running(process_command("bentos.image.service:ImageBento", port), folder, f"{url}/readyz", environment):
        async with httpx.AsyncClient(headers=engine_token.headers()) as client:
            info = (await client.post(f"{url}/info", json={})).json()
            whole = await paint(client, url, name="golden", **golden)
            small = await paint(client, url, name="small", side=32)
            large = await paint(client, url, name="large", side=128)
            long = await paint(client, url, name="long", prompt="an apple " * 50)
    assert (info["side"], info["multiple"]) == (64, 16)
    assert np.abs(np.asarray(pixels(whole)).astype(int) - expected).max() <= 1
    assert "read" not in whole
    assert (pixels(small).size, pixels(large).size) == ((32, 32), (128, 128))
    assert long["read"] and "an apple".startswith(long["read"][:8])
