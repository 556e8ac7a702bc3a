"""An honest answer passes; other tokens, other weights and another picture are found, and said in words."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from PIL import Image

from components.evaluation.recheck import TextReference, judge_picture, judge_texts
from components.events.rechecks import Verdict
from components.models.language import load_base
from components.runtimes.base import ImageRequest, ImageRuntime, NotFiniteError, TextRequest
from components.runtimes.image import load_sampler
from components.runtimes.text import OpenVinoText, load_text
from tests.tiny_image import CAPTIONS
from tests.tiny_language import tiny_chat

TIE = 0.05  # as measured on the tiny export
PROMPTS = ("a red apple", "<|im_end|> a heart", "rocket", "ein Fuß")


@pytest.fixture(scope="module")
def engine(tiny_export: Path) -> Iterator[OpenVinoText]:
    runtime = load_text(tiny_export)
    yield runtime
    runtime.close()


@pytest.fixture
def reference(tiny_base: Path) -> TextReference:
    return TextReference(load_base(tiny_base, torch.float32), tiny_chat(tiny_base), "int8", TIE)


def served(engine: OpenVinoText, phrase: str, temperature: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """A job and its trace, as the gateway keeps them."""
    messages = (("user", phrase),)
    (result,) = engine.generate([TextRequest(messages, 12, temperature, 0.9, seed=3, traced=True)])
    assert result.trace is not None
    return {"messages": [*messages], "temperature": temperature, "top_p": 0.9}, vars(result.trace)


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.5])
def test_what_was_trained_is_found_to_be_so(engine: OpenVinoText, reference: TextReference, temperature: float) -> None:
    judged = judge_texts(reference, [served(engine, phrase, temperature) for phrase in PROMPTS])
    assert [each.verdict for each in judged] == [Verdict.SAME] * len(PROMPTS)
    error, rounding = (sum(getattr(each, name) for each in judged) for name in ("error", "rounding"))
    assert (error / rounding) ** 0.5 < 1.5


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_other_weights_are_found(engine: OpenVinoText, reference: TextReference, temperature: float) -> None:
    with torch.no_grad():
        reference.model.get_decoder().layers[0].mlp.down_proj.weight.mul_(1.5)
    judged = judge_texts(reference, [served(engine, phrase, temperature) for phrase in PROMPTS])
    error, rounding = (sum(getattr(each, name) for each in judged) for name in ("error", "rounding"))
    assert (error / rounding) ** 0.5 > 2


def test_a_token_that_cannot_be_is_found(engine: OpenVinoText, reference: TextReference) -> None:
    job, trace = served(engine, "a red apple", 0.0)
    wrong = [*trace["tokens"]]
    wrong[4] = (wrong[4] + 100) % 256
    (found,) = judge_texts(reference, [(job, trace | {"tokens": wrong})])
    assert found.verdict is Verdict.FAULT and "at 4" in found.why


def test_another_template_is_found(engine: OpenVinoText, reference: TextReference) -> None:
    job, trace = served(engine, "a red apple", 0.0)
    longer = (*trace["prompt"][:5], 9, *trace["prompt"][5:])
    (found,) = judge_texts(reference, [(job, trace | {"prompt": longer})])
    assert found.verdict is Verdict.FAULT and found.why.startswith("token 5 of the conversation")
    (cut,) = judge_texts(reference, [(job, trace | {"prompt": trace["prompt"][:-1]})])
    assert cut.verdict is Verdict.FAULT and "tokens in the place of" in cut.why


def test_a_picture_is_painted_again(tiny_image_export: Path) -> None:
    painter = load_sampler(tiny_image_export, "pytorch")
    pixels = load_sampler(tiny_image_export, "openvino").generate([ImageRequest(CAPTIONS[0], 7, 4, 2.0)])[0]
    job = {"prompt": CAPTIONS[0], "seed": 7, "steps": 4, "guidance": 2.0, "side": 16}

    def picture(image: Image.Image) -> dict[str, str]:
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return {"png": base64.b64encode(buffer.getvalue()).decode()}

    painted = Image.fromarray(pixels).resize((16, 16), Image.Resampling.LANCZOS)
    assert judge_picture(painter, (job, picture(painted)), 25.0).verdict is Verdict.SAME
    assert judge_picture(painter, (job | {"seed": 8}, picture(painted)), 25.0).verdict is Verdict.FAULT
    small = judge_picture(painter, (job, picture(Image.fromarray(pixels))), 25.0)
    assert small.verdict is Verdict.FAULT and "(16, 16)" in small.why
    assert judge_picture(painter, (job, {"png": "no picture"}), 25.0).verdict is Verdict.FAULT


def test_a_picture_that_the_trained_model_does_not_paint_is_a_fault() -> None:
    """And none that ends the run, which others wait for."""

    class Nothing:
        def generate(self, requests: list[ImageRequest]) -> Any:
            raise NotFiniteError(requests, [None])

    job = {"prompt": "a cat", "seed": 7, "steps": 4, "guidance": 2.0, "side": None}
    judged = judge_picture(cast("ImageRuntime", Nothing()), (job, {"png": ""}), 25.0)
    assert judged.verdict is Verdict.FAULT and "NaN" in judged.why
