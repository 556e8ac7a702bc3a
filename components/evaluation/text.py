"""Stage `evaluate_text`: the language model before and after fine-tuning, on pairs whose concepts it never saw.

Every figure stands beside what needs no model: `echo` returns the phrase, `nearest_answer` what training has for the
phrase most like it, `unigram` knows how often each token is written. Loss and perplexity are taken over a seeded sample
of held-out pairs. The answers to the first phrases of that sample, written as they are served, are compared with the
wanted ones, and the gate looks at that. `chrf` is the F-score of their character n-grams (Popovic 2015, torchmetrics):
1 for the same text, 0 for nothing in common, whatever the language; what is missing counts more than what is too much.
`exact` asks for the same text. `gain` is by how much the fine-tuned model's chrF exceeds that of the best answers
without a model, with the lower bound of its one-sided 95 % interval over phrases. `naming` is the share of answers
whose MiniLM cosine with the concept's name reaches a threshold: to repeat a phrase that contains the name wins there,
so that such phrases are counted apart.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.functional.text import chrf_score
from transformers import PreTrainedModel

from components import config
from components.artifact import canonical, verify, write_text
from components.config import EvaluateText, Serving
from components.data.pairs import Pair, read_pairs
from components.evaluation.paired import Values, mean_difference
from components.models.brought import opened
from components.models.language import IGNORED, Chat, held_out_loss, load_base, load_merged, write
from components.models.text_encoder import TextEncoder
from components.paths import TEXT_BASE, TEXT_METRICS
from components.paths import TEXT_CHECKPOINT as CHECKPOINT
from components.paths import TEXT_SPLIT as SPLIT
from components.paths import WRITTEN_PROMPTS as WRITTEN
from components.stage import StageError, run

METRICS = TEXT_METRICS / "evaluate.json"
LOSS_PAIRS = 256  # held-out pairs the loss is taken over, so that the stage stays short on a CPU
BASELINES = ("echo", "nearest_answer")


def similarities(encoder: TextEncoder, texts: Sequence[str], concepts: Sequence[str]) -> list[float]:
    """Cosine of each text and its concept's name; an empty text names nothing and scores 0."""
    cosines = (encoder.embed(texts) * encoder.embed(concepts)).sum(-1).tolist()
    return [cosine if text else 0.0 for text, cosine in zip(texts, cosines, strict=True)]


@dataclass(frozen=True)
class Answers:
    """One writer's answers to all phrases, scored; arrays of N phrases."""

    texts: list[str]
    similarity_N: Values
    chrf_N: Values
    exact_N: Values

    @classmethod
    def of(cls, texts: list[str], pairs: Sequence[Pair], encoder: TextEncoder) -> Answers:
        similar = similarities(encoder, texts, [pair.concept for pair in pairs])
        wanted = [pair.completion for pair in pairs]
        same = [exact(*both) for both in zip(texts, wanted, strict=True)]
        return cls(texts, np.array(similar), np.array(chrf(texts, wanted)), np.array(same))

    def scores(self, threshold: float, chosen_N: NDArray[np.bool_]) -> dict[str, float]:
        """Means over the chosen phrases."""
        similarity = self.similarity_N[chosen_N]
        return {
            "exact": float(self.exact_N[chosen_N].mean()),
            "chrf": float(self.chrf_N[chosen_N].mean()),
            "naming": float((similarity >= threshold).mean()),
            "similarity": float(similarity.mean()),
        }


def by_phrase(answers: Answers, named_N: NDArray[np.bool_], threshold: float) -> dict[str, Any]:
    """Scores over all phrases, and over those apart that contain the name and that do not, where there are any."""
    apart = {"phrases_with_the_name": named_N, "phrases_without_the_name": ~named_N}
    groups = {name: answers.scores(threshold, chosen_N) for name, chosen_N in apart.items() if chosen_N.any()}
    return answers.scores(threshold, named_N | ~named_N) | groups


def gain(after: Answers, baselines: dict[str, Answers], seed: int) -> dict[str, Any]:
    """What the fine-tuned model gains over the best of the baselines; `lower` is a bound of the gain in chrF."""
    best = max(baselines, key=lambda name: baselines[name].chrf_N.mean())
    shared, lower = mean_difference(after.chrf_N, baselines[best].chrf_N, "lower", seed)
    same = float(after.exact_N.mean() - max(other.exact_N.mean() for other in baselines.values()))
    return {"over": best, "chrf": shared, "chrf_lower": lower, "exact": same}


def evaluate(
    models: dict[str, PreTrainedModel],
    chat: Chat,
    encoder: TextEncoder,
    sides: dict[str, list[Pair]],
    settings: EvaluateText,
    serving: Serving,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The metrics document and its evidence; `models` are called `before` and `after`, `sides` `train` and `test`.

    Raises `StageError` where there are too few phrases for an interval, or no training answer to compare with.
    """
    count = min(max(LOSS_PAIRS, settings.samples), len(sides["test"]))
    test = random.Random(settings.seed).sample(sides["test"], count)  # noqa: S311 – a sample
    pairs, shown = not_learned(test)[: settings.samples], not_learned(sides["train"])
    if len(pairs) < 2 or not shown:
        raise StageError(
            f"{SPLIT}: {len(pairs)} held-out phrases and {len(shown)} to train on; 2 and 1 are "
            "needed: raise split.text.test or evaluate.text.samples"
        )
    phrases = [pair.phrase for pair in pairs]
    texts = {"echo": phrases, "nearest_answer": nearest_answers(encoder, phrases, shown)}
    texts |= {name: as_served(model, chat, pairs, settings.seed, serving) for name, model in models.items()}
    answers = {name: Answers.of(written, pairs, encoder) for name, written in texts.items()}
    named_N = np.array([names(pair.phrase, pair.concept) for pair in pairs])
    document: dict[str, Any] = {n: by_phrase(row, named_N, settings.similarity) for n, row in answers.items()}
    losses = {name: held_out_loss(model, chat, test) for name, model in models.items()}
    losses["unigram"] = unigram_loss(chat, sides["train"], test)
    for name, loss in losses.items():
        document[name] = {"loss": loss, "perplexity": math.exp(loss), **document.get(name, {})}
    document["gain"] = gain(answers["after"], {name: answers[name] for name in BASELINES}, settings.seed)
    document |= {"pairs": len(test), "samples": len(pairs), "threshold": settings.similarity}
    document["samples_with_the_name"] = int(named_N.sum())
    return document, evidence(pairs, answers)


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def chrf(answers: Sequence[str], references: Sequence[str]) -> list[float]:
    """The score of each answer beside its reference; a reference of under six characters keeps all below 1."""
    wanted = [[reference] for reference in references]
    _, scores_N = chrf_score(answers, wanted, n_word_order=0, return_sentence_level_score=True)
    return scores_N.tolist()


def exact(answer: str, reference: str) -> float:
    """1 for the same text, white space around it aside, else 0."""
    return float(answer.strip() == reference.strip())


def names(phrase: str, concept: str) -> bool:
    """Whether the concept's name stands in the phrase, word by word."""
    return f" {' '.join(words(concept))} " in f" {' '.join(words(phrase))} "


def nearest_answers(encoder: TextEncoder, phrases: Sequence[str], training: Sequence[Pair]) -> list[str]:
    """For each phrase the completion of the training pair whose phrase is most like it."""
    cosines_PT = encoder.embed(phrases) @ encoder.embed([pair.phrase for pair in training]).T
    return [training[number].completion for number in cosines_PT.argmax(1).tolist()]


def unigram_loss(chat: Chat, training: Sequence[Pair], test: Sequence[Pair]) -> float:
    """Loss in nats per completion token of who knows how often each token is written in training, and nothing else."""

    def tokens(pairs: Sequence[Pair]) -> torch.Tensor:
        rows = (chat.encode(pair)[1] for pair in pairs)
        return torch.tensor([token for row in rows for token in row if token != IGNORED])

    counts_V = torch.bincount(tokens(training), minlength=len(chat.tokenizer)).double() + 1  # none is impossible
    return float(-(counts_V / counts_V.sum()).log()[tokens(test)].mean())


def not_learned(pairs: Sequence[Pair]) -> list[Pair]:
    """What users wrote is not printed, and a learned pair names no concept that could be looked for."""
    return [pair for pair in pairs if not pair.learned]


def as_served(model: PreTrainedModel, chat: Chat, pairs: Sequence[Pair], seed: int, serving: Serving) -> list[str]:
    """What the model writes with the defaults of service."""
    return write(
        model,
        chat,
        [pair.messages for pair in pairs],
        max_new_tokens=serving.text_max_new_tokens,
        temperature=serving.text_temperature,
        top_p=serving.text_top_p,
        seed=seed,
    )


def evidence(pairs: Sequence[Pair], answers: dict[str, Answers]) -> list[dict[str, Any]]:
    """A row for each phrase: what it means, the wanted answer, who wrote what for it, and how similar that is."""
    return [
        {"phrase": pair.phrase, "concept": pair.concept, "reference": pair.completion}
        | {name: answers[name].texts[i] for name in ("before", "after", "nearest_answer")}
        | {f"similarity_{name}": float(answers[name].similarity_N[i]) for name in ("echo", "before", "after")}
        for i, pair in enumerate(pairs)
    ]


def main() -> None:
    """Write the metrics and every written prompt."""
    params = config.load()
    base, _ = opened(TEXT_BASE)
    verify(CHECKPOINT)
    models = {"before": load_base(base, torch.bfloat16), "after": load_merged(base, CHECKPOINT, torch.bfloat16)}
    sides = {side: read_pairs(SPLIT / f"{side}.parquet") for side in ("train", "test")}
    document, written = evaluate(
        models, Chat.read(base, CHECKPOINT), TextEncoder(), sides, params.evaluate.text, params.serving
    )
    write_text(WRITTEN, canonical(written))
    write_text(METRICS, canonical(document))
    print(f"loss {document['before']['loss']:.3f} → {document['after']['loss']:.3f} of {document['pairs']} pairs")
    for name in ("before", "after", *BASELINES):
        row = document[name]
        scores = f"chrF {row['chrf']:.2f}, exact {row['exact']:.0%}, names the picture {row['naming']:.0%}"
        print(f"{name}: {scores} of {len(written)}")


if __name__ == "__main__":
    run(main)
