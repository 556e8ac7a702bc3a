"""Stage `evaluate_prompts`: does the text line help the image line? Pictures of what it wrote, judged.

For every held-out phrase of `metrics/text/written.json` the image line paints the phrase itself, what training has for
the phrase most like it, the base language model's prompt and the fine-tuned one's, with equal seeds; the judge compares
each picture with the intended name. `reference` paints the wanted prompt: more than that no text model can be worth.
Where the pairs of the text line have no concept there is nothing to paint, and the metrics say so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from components import config
from components.artifact import canonical, write_text
from components.evaluation.image import Painting, paint
from components.models import judge as judges
from components.models.brought import BUILT_IN
from components.models.judge import Judge, alignment
from components.models.text_encoder import TextEncoder
from components.paths import IMAGE_EXPORT as EXPORT
from components.paths import IMAGE_METRICS
from components.paths import WRITTEN_PROMPTS as WRITTEN
from components.runtimes.base import ImageRuntime
from components.runtimes.image import load_image
from components.stage import StageError, run

METRICS = IMAGE_METRICS / "prompts.json"
WHY = "the shipped judge knows pictures of the built-in network alone"
PROMPTS = {  # as `WRITTEN` calls them
    "phrase": "phrase",
    "nearest_answer": "nearest_answer",
    "base_model": "before",
    "fine_tuned_model": "after",
    "reference": "reference",
}


def evaluate(
    runtime: ImageRuntime,
    judge: Judge,
    encoder: TextEncoder,
    written: Sequence[dict[str, Any]],
    painting: Painting,
) -> dict[str, Any]:
    """Alignment and recognition of the intended picture, by who wrote the prompt."""
    embeddings_BD = encoder.embed([row["concept"] for row in written])
    document: dict[str, Any] = {"phrases": len(written)}
    for writer, column in PROMPTS.items():
        pictures_BCHW = paint(runtime, [row[column] for row in written], painting)
        document[writer] = alignment(judge, pictures_BCHW, embeddings_BD)
    return document


def main() -> None:
    """Write the metrics."""
    params = config.load()
    if params.base.image.model != BUILT_IN["image"]:
        write_text(METRICS, canonical({"applies": False, "why": WHY}))
        return print(f"prompts: {WHY}")
    rows = json.loads(WRITTEN.read_bytes())
    if len(rows) < 2:
        raise StageError(f"{WRITTEN}: {len(rows)} prompts; raise evaluate.text.samples to compare pictures")
    written = [row for row in rows if row.get("concept")]
    if len(written) < 2:
        why = f"{len(written)} of {len(rows)} held-out pairs of the text line mean a picture; 2 are needed to compare"
        write_text(METRICS, canonical({"phrases": 0, "why": why}))
        return print(f"evaluate_prompts: nothing painted, {why}")
    encoder = TextEncoder(tokens=params.train.image.model.text_tokens)
    runtime = load_image(EXPORT, "openvino")
    document = evaluate(runtime, judges.load(), encoder, written, Painting.served(params))
    write_text(METRICS, canonical(document))
    for writer in PROMPTS:
        row = document[writer]
        print(f"{writer}: alignment {row['alignment']:.3f}, named {row['top1']:.0%} of {document['phrases']}")


if __name__ == "__main__":
    run(main)
