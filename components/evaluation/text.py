"""Stage `evaluate_text`: the language model before and after fine-tuning, on pairs whose concepts it never saw.

Loss and perplexity over a seeded sample of held-out pairs; and, on the first phrases of that sample, how often the
prompt the model writes names the intended picture: MiniLM cosine between the written prompt and the concept's name at
or above a threshold.
Both models see the same phrases, system prompt, temperature and seed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from components import config
from components.artifact import canonical, verify, write_text
from components.config import EvaluateText
from components.data.pairs import Pair, read_pairs
from components.models.base_text import BASE
from components.models.language import held_out_loss, load_base, load_merged, load_tokenizer, write
from components.models.text_encoder import TextEncoder
from components.stage import run
from components.training.text import CHECKPOINT, SPLIT

METRICS = Path("metrics/text/evaluate.json")
WRITTEN = Path("metrics/text/written.json")
LOSS_PAIRS = 256  # held-out pairs the loss is taken over, so that the stage stays short on a CPU


@dataclass(frozen=True)
class Written:
    """One phrase, what it means, and what each model wrote for it with its similarity to the concept's name."""

    phrase: str
    concept: str
    before: str
    after: str
    similarity_before: float
    similarity_after: float


def similarities(encoder: TextEncoder, texts: Sequence[str], names: Sequence[str]) -> list[float]:
    """Cosine of each text and its name; an empty text names nothing and scores 0."""
    cosines = (encoder.embed(texts) * encoder.embed(names)).sum(-1).tolist()
    return [cosine if text else 0.0 for text, cosine in zip(texts, cosines, strict=True)]


def naming(similarity: Sequence[float], threshold: float) -> float:
    """Share of texts at or above the threshold."""
    return sum(value >= threshold for value in similarity) / len(similarity)


def score(loss: float, similarity: Sequence[float], threshold: float) -> dict[str, float]:
    """A model's numbers: loss in nats per completion token, its perplexity, naming share and mean similarity."""
    return {
        "loss": loss,
        "perplexity": math.exp(loss),
        "naming": naming(similarity, threshold),
        "similarity": sum(similarity) / len(similarity),
    }


def try_out(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    test: Sequence[Pair],
    asked: Sequence[Pair],
    settings: EvaluateText,
) -> tuple[float, list[str]]:
    """Held-out loss over `test`, and what the model writes for the phrases of `asked`."""
    texts = write(
        model,
        tokenizer,
        [pair.phrase for pair in asked],
        max_new_tokens=settings.max_new_tokens,
        temperature=settings.temperature,
        seed=settings.seed,
    )
    return held_out_loss(model, tokenizer, test), texts


def evaluate(
    models: dict[str, PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    encoder: TextEncoder,
    test: Sequence[Pair],
    settings: EvaluateText,
) -> tuple[dict[str, Any], list[Written]]:
    """The metrics document and its evidence; `models` are called `before` and `after`."""
    count = min(max(LOSS_PAIRS, settings.samples), len(test))
    test = random.Random(settings.seed).sample(list(test), count)  # noqa: S311 – a sample
    # What users wrote is not printed, and a learned pair names no concept that could be looked for.
    asked = [pair for pair in test if not pair.learned][: settings.samples]
    names = [pair.concept for pair in asked]
    tried = {name: try_out(model, tokenizer, test, asked, settings) for name, model in models.items()}
    near = {name: similarities(encoder, texts, names) for name, (_, texts) in tried.items()}
    document: dict[str, Any] = {n: score(loss, near[n], settings.similarity) for n, (loss, _) in tried.items()}
    document |= {"pairs": len(test), "samples": len(asked), "threshold": settings.similarity}
    written = [
        Written(
            pair.phrase, pair.concept, tried["before"][1][i], tried["after"][1][i], near["before"][i], near["after"][i]
        )
        for i, pair in enumerate(asked)
    ]
    return document, written


def main() -> None:
    """Write the metrics and every written prompt, none left out."""
    settings = config.load().evaluate.text
    verify(BASE)
    verify(CHECKPOINT)
    models = {
        "before": load_base(BASE, torch.bfloat16),
        "after": load_merged(BASE, CHECKPOINT, torch.bfloat16),
    }
    test = read_pairs(SPLIT / "test.parquet")
    document, written = evaluate(models, load_tokenizer(BASE), TextEncoder(), test, settings)
    write_text(WRITTEN, canonical([asdict(row) for row in written]))
    write_text(METRICS, canonical(document))
    for name in models:
        row = document[name]
        print(f"{name}: loss {row['loss']:.3f}, names the picture in {100 * row['naming']:.0f} % of {len(written)}")


if __name__ == "__main__":
    run(main)
