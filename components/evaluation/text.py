"""Stage `evaluate_text`: the language model before and after fine-tuning, on pairs that it never saw.

Loss and perplexity are taken over a seeded sample of held-out pairs, beside those of `unigram`, which knows how often
each token is written. The answers to the first phrases of that sample, written as they are served, are compared with
the wanted ones (`components.evaluation.answers`), beside those of the base model (`before`) and of what needs no model:
`echo` returns the phrase, `nearest_answer` what training has for the phrase most like it, `majority_answer` what
training has most often. A metric of the user's own (`components.evaluation.own_metric`) is taken of all of them; a
judge (`components.evaluation.pairwise`) compares the fine-tuned model with the base. Where pairs name the concept of a
picture, `components.evaluation.naming` says how often answers do.

`gain` is by how much the fine-tuned model exceeds the best of the others in each metric; names that end with `_lower`,
and those under `lower`, are the lower ends of one-sided 95 % intervals over phrases. The gate looks at these.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from components import config
from components.artifact import canonical, verify, write_text
from components.config import EvaluateText, Serving
from components.data.pairs import Pair, read_pairs
from components.evaluation import own_metric, pairwise
from components.evaluation.answers import METRICS, Scores, scored
from components.evaluation.naming import Naming
from components.evaluation.paired import Values, mean_difference
from components.models.brought import opened
from components.models.language import IGNORED, Chat, held_out_loss, load_base, load_merged, write
from components.models.text_encoder import TextEncoder
from components.paths import TEXT_BASE, TEXT_METRICS
from components.paths import TEXT_CHECKPOINT as CHECKPOINT
from components.paths import TEXT_SPLIT as SPLIT
from components.paths import WRITTEN_PROMPTS as WRITTEN
from components.stage import StageError, run

EVALUATION = TEXT_METRICS / "evaluate.json"
LOSS_PAIRS = 256  # held-out pairs the loss is taken over, so that the stage stays short on a CPU
BASELINES = ("before", "echo", "nearest_answer", "majority_answer")  # what the fine-tuned model must be better than


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
    document: dict[str, Any] = {"own_metric": own_metric.described(settings.metric)} if settings.metric else {}
    count = min(max(LOSS_PAIRS, settings.samples), len(sides["test"]))
    test = random.Random(settings.seed).sample(sides["test"], count)  # noqa: S311 – a sample
    pairs, shown = not_learned(test)[: settings.samples], not_learned(sides["train"])
    if len(pairs) < 2 or not shown:
        raise StageError(
            f"{SPLIT}: {len(pairs)} held-out phrases and {len(shown)} to train on; 2 and 1 are "
            "needed: raise split.text.test or evaluate.text.samples"
        )
    texts = without_model(encoder, pairs, shown)
    texts |= {name: as_served(model, chat, pairs, settings.seed, serving) for name, model in models.items()}
    wanted = [pair.completion for pair in pairs]
    scores = {name: scored(written, wanted) for name, written in texts.items()}
    if settings.metric:
        own = own_metric.measure(settings.metric, pairs, texts)
        scores = {name: row | own[name] for name, row in scores.items()}
    losses = {name: held_out_loss(model, chat, test) for name, model in models.items()}
    losses["unigram"] = unigram_loss(chat, sides["train"], test)
    document |= {name: {"loss": loss, "perplexity": math.exp(loss)} for name, loss in losses.items()}
    document |= {name: document.get(name, {}) | means(row) for name, row in scores.items()}
    document["after"]["lower"] = {name: lower_end(row_N, settings.seed) for name, row_N in scores["after"].items()}
    document |= {"gain": gain(scores, settings.seed), "pairs": len(test), "samples": len(pairs)}
    similar: dict[str, Values] = {}
    if any(pair.concept for pair in pairs):
        naming = Naming(pairs, encoder, settings.similarity)
        similar = {name: naming.similarity(written) for name, written in texts.items()}
        document |= {name: document[name] | naming.row(scores[name], similar[name]) for name in texts}
        document |= naming.document()
    if settings.judge:
        document["judge"] = pairwise.compare(pairs, texts["before"], texts["after"], settings.judge)
    return document, evidence(pairs, texts, scores, similar)


def without_model(encoder: TextEncoder, pairs: Sequence[Pair], training: Sequence[Pair]) -> dict[str, list[str]]:
    """The answers that need no model, by who gives them."""
    phrases = [pair.phrase for pair in pairs]
    return {
        "echo": phrases,
        "nearest_answer": nearest_answers(encoder, phrases, training),
        "majority_answer": [majority_answer(training)] * len(pairs),
    }


def means(scores: Scores) -> dict[str, Any]:
    return {name: float(values_N.mean()) for name, values_N in scores.items()}


def lower_end(values_N: Values, seed: int) -> float:
    """The lower end of the mean's one-sided 95 % interval over phrases."""
    return mean_difference(values_N, np.zeros_like(values_N), "lower", seed)[1]


def gain(scores: dict[str, Scores], seed: int) -> dict[str, Any]:
    """What the fine-tuned model gains in each metric over the best of the others, and the lower end of that."""
    row: dict[str, Any] = {"over": {}}
    for metric, after_N in scores["after"].items():
        best = max(BASELINES, key=lambda name: scores[name][metric].mean())
        row["over"][metric] = best
        row[metric], row[f"{metric}_lower"] = mean_difference(after_N, scores[best][metric], "lower", seed)
    return row


def nearest_answers(encoder: TextEncoder, phrases: Sequence[str], training: Sequence[Pair]) -> list[str]:
    """For each phrase the completion of the training pair whose phrase is most like it."""
    cosines_PT = encoder.embed(phrases) @ encoder.embed([pair.phrase for pair in training]).T
    return [training[number].completion for number in cosines_PT.argmax(1).tolist()]


def majority_answer(training: Sequence[Pair]) -> str:
    """The completion that training has most often; of several the first."""
    return Counter(pair.completion for pair in training).most_common(1)[0][0]


def unigram_loss(chat: Chat, training: Sequence[Pair], test: Sequence[Pair]) -> float:
    """Loss in nats per completion token of who knows how often each token is written in training, and nothing else."""

    def tokens(pairs: Sequence[Pair]) -> torch.Tensor:
        rows = (chat.encode(pair)[1] for pair in pairs)
        return torch.tensor([token for row in rows for token in row if token != IGNORED])

    counts_V = torch.bincount(tokens(training), minlength=len(chat.tokenizer)).double() + 1  # none is impossible
    return float(-(counts_V / counts_V.sum()).log()[tokens(test)].mean())


def not_learned(pairs: Sequence[Pair]) -> list[Pair]:
    """What users wrote is neither printed, nor given to a user's metric, nor sent to a judge."""
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


def evidence(
    pairs: Sequence[Pair], texts: dict[str, list[str]], scores: dict[str, Scores], similar: dict[str, Values]
) -> list[dict[str, Any]]:
    """A row for each phrase: the wanted answer, who wrote what, and how good that is.

    Where the pair has a concept it stands there, too, with how similar the answers are to its name.
    """
    rows: list[dict[str, Any]] = []
    for i, pair in enumerate(pairs):
        row: dict[str, Any] = {"phrase": pair.phrase, "reference": pair.completion}
        row |= {name: texts[name][i] for name in ("before", "after", "nearest_answer")}
        for name in ("before", "after"):
            row |= {f"{metric}_{name}": float(values_N[i]) for metric, values_N in scores[name].items()}
        if pair.concept:
            row["concept"] = pair.concept
            row |= {f"similarity_{name}": float(similar[name][i]) for name in ("echo", "before", "after")}
        rows.append(row)
    return rows


def in_words(document: dict[str, Any]) -> list[str]:
    """What was found, a line for each of who answers."""
    loss = f"loss {document['before']['loss']:.3f} → {document['after']['loss']:.3f} of {document['pairs']} pairs"
    lines = [loss]
    own = [name for name in document["gain"]["over"] if name not in METRICS]
    for name in ("after", *BASELINES):
        row = document[name]
        words = f"exactly the wanted answer {row['exact']:.0%}, but for case and punctuation "
        words += f"{row['exact_normalised']:.0%}, F1 {row['token_f1']:.2f}, ROUGE-L {row['rouge_l']:.2f}, "
        words += f"chrF {row['chrf']:.2f}" + "".join(f", {metric} {row[metric]:.3g}" for metric in own)
        words += f", names the picture {row['naming']:.0%}" if "naming" in row else ""
        lines.append(f"{name}: {words} of {document['samples']}")
    return [*lines, *([pairwise.in_words(document["judge"])] if "judge" in document else [])]


def main() -> None:
    """Write the metrics and every written answer."""
    params = config.load()
    base, _ = opened(TEXT_BASE)
    verify(CHECKPOINT)
    models = {"before": load_base(base, torch.bfloat16), "after": load_merged(base, CHECKPOINT, torch.bfloat16)}
    sides = {side: read_pairs(SPLIT / f"{side}.parquet") for side in ("train", "test")}
    document, written = evaluate(
        models, Chat.read(base, CHECKPOINT), TextEncoder(), sides, params.evaluate.text, params.serving
    )
    write_text(WRITTEN, canonical(written))
    write_text(EVALUATION, canonical(document))
    print("\n".join(in_words(document)))


if __name__ == "__main__":
    run(main)
