"""Stage `evaluate_forgetting`: what fine-tuning has cost. Does the model still paint what its base can?

The judge names pictures of the base and of the fine-tuned model, asked in the base's own styles. The prompts are
captions that the base has learnt, each in the style of one of its drawings of it, and none that training rehearses.
"""

from __future__ import annotations

from typing import Any

from components import config
from components.artifact import canonical, write_text
from components.evaluation.image import Painting, paint
from components.models import judge as judges
from components.models.base_captions import base_captions
from components.models.brought import BUILT_IN
from components.models.judge import Judge, alignment
from components.models.text_encoder import TextEncoder
from components.paths import IMAGE_BASE_EXPORT as BASE_EXPORT
from components.paths import IMAGE_EXPORT as EXPORT
from components.paths import IMAGE_METRICS
from components.runtimes.base import ImageRuntime
from components.runtimes.image import load_image
from components.stage import run

METRICS = IMAGE_METRICS / "forgetting.json"
WHY = "the shipped judge and its list of captions are of the built-in network; compare the sheets before and after"
CAPTIONS = 100  # among whose names each picture's is to be recognised


def remembered(runtime: ImageRuntime, judge: Judge, encoder: TextEncoder, painting: Painting) -> dict[str, Any]:
    """Alignment and recognition of pictures of the base's captions."""
    prompts, names = zip(*base_captions(CAPTIONS, painting.seed, rehearsed=False), strict=True)
    painted_BCHW = paint(runtime, prompts, painting)
    return alignment(judge, painted_BCHW, encoder.embed(names)) | {"pictures": len(painted_BCHW)}


def main() -> None:
    """Write the metrics."""
    params = config.load()
    if params.base.image.model != BUILT_IN["image"]:
        write_text(METRICS, canonical({"applies": False, "why": WHY}))
        return print(f"forgetting: {WHY}")
    encoder, judge = TextEncoder(tokens=params.train.image.model.text_tokens), judges.load()
    document = {
        name: remembered(load_image(folder, "openvino"), judge, encoder, Painting.served(params))
        for name, folder in {"before": BASE_EXPORT, "after": EXPORT}.items()
    }
    write_text(METRICS, canonical(document))
    for name, row in document.items():
        print(f"{name}: {row['top1']:.0%} of {row['pictures']} pictures in the base's styles named")


if __name__ == "__main__":
    run(main)
