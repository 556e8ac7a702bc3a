"""Image generations through the official client."""

from __future__ import annotations

import base64
import io
from typing import Any

import openai
import pytest
from PIL import Image

from tests.bentos.gateway.conftest import Running
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
