"""Image generations through the official client."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import openai
import pytest
from PIL import Image

from bentos.gateway.images import sampling
from components.config import Variant, load
from tests.bentos.gateway.conftest import Running, serve_gateway
from tests.bentos.gateway.test_chat import rows


def generate(gateway: Running, **options: Any) -> Any:
    create: Any = gateway.client().images.with_raw_response.generate
    return create(**options)


def pictures(response: Any) -> list[Image.Image]:
    return [Image.open(io.BytesIO(base64.b64decode(item.b64_json))) for item in response.data]


def test_picture_i_is_painted_from_seed_plus_i(gateway: Running) -> None:
    raw = generate(gateway, prompt="a boat", model="atelier-image", n=3, extra_body={"seed": 40})
    painted = pictures(raw.parse())
    assert [picture.getpixel((0, 0)) for picture in painted] == [(40, 0, 0), (41, 0, 0), (42, 0, 0)]
    assert painted[0].size == (32, 32)
    accepted, finished = rows(gateway, raw.headers["x-request-id"])
    assert (accepted.line, accepted.model, accepted.experiment) == ("image", "atelier-image", "")
    assert finished.output.startswith("3 x 32x32 png") and finished.batch_size == 4


def test_sizes_are_multiples_of_the_models_own(gateway: Running) -> None:
    raw = generate(gateway, prompt="a boat", size="256x256", response_format="b64_json")
    assert pictures(raw.parse())[0].size == (256, 256)
    assert pictures(generate(gateway, prompt="a boat", size="auto").parse())[0].size == (32, 32)


def test_without_a_seed_pictures_differ(gateway: Running) -> None:
    colours = {pictures(generate(gateway, prompt="a boat").parse())[0].getpixel((0, 0)) for _ in range(6)}
    assert len(colours) > 1


def test_when_one_picture_fails_the_request_fails_and_is_recorded(gateway: Running) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        generate(gateway, prompt="FAIL", n=2)
    assert caught.value.body["code"] == "internal"  # type: ignore[index]


def test_the_variant_of_a_picture_decides_guidance_and_steps_and_is_on_record(standin: str, tmp_path: Path) -> None:
    arms = {
        "weak": {"weight": 0.5, "guidance": 1.5, "steps": 5},
        "strong": {"weight": 0.5, "guidance": 6.0, "steps": 9},
    }
    experiment = {"name": "guidance", "line": "image", "salt": "guidance-1", "variants": arms}
    urls = f"{standin}/text", f"{standin}/image"
    seen = set()
    with serve_gateway(tmp_path / "gateway", standin, *urls, experiment=experiment) as gateway:
        for user in ("ann", "bob", "cid", "dora", "eve", "finn", "gus", "hal"):
            raw = generate(gateway, prompt=f"a boat of {user}", model="atelier-image", user=user)
            variant = raw.headers["x-variant"]
            accepted, _ = rows(gateway, raw.headers["x-request-id"])
            assert (accepted.experiment, accepted.variant, accepted.propensity) == ("guidance", variant, 0.5)
            (job,) = [found for found in gateway.log()["jobs"] if found.get("prompt") == f"a boat of {user}"]  # type: ignore[attr-defined]
            assert (job["guidance"], job["steps"]) == (arms[variant]["guidance"], arms[variant]["steps"])  # type: ignore[index]
            seen.add(variant)
    assert seen == set(arms)


def test_what_a_variant_leaves_out_is_the_lines_default() -> None:
    serving = load().serving
    assert sampling(None, serving) == (serving.image_steps, serving.image_guidance)
    assert sampling(Variant(weight=0.5, guidance=0.0), serving) == (serving.image_steps, 0.0)
