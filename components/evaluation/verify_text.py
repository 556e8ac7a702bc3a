"""Stage `verify_text`: does what serves write what the trained model would?

PyTorch in fp32 is the reference; what serves is the engine of `components/runtimes/text.py` with its paged cache. How
far apart they may be follows from the export's precision alone: the reference is rounded as an export is, and what that
moves is the measure (`exported_text`). Conversations have to become the same tokens. The exported graph and the engine
may be no further from the reference than rounding takes it. Greedy answers, alone and in company, may differ from
PyTorch's only where rounding decides. A seed has to repeat, and an adapter beside the weights to do what it does merged
into them. A failed parity is written down first, in words, and stops the pipeline then.
How much faster it is `make bench NAME=engines` measures: a stage's result must not depend on how busy the machine is.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from transformers import PreTrainedModel

from components import config
from components.artifact import canonical, verify, write_text
from components.chat import Message, context_length
from components.config import VerifyText
from components.data.pairs import Pair, read_pairs
from components.evaluation import served
from components.evaluation.conversations import conversations
from components.evaluation.exported_text import compare, distances, parity
from components.evaluation.gate import Check, Relation
from components.evaluation.intervals import most_unseen
from components.evaluation.replay import ROWS
from components.models.brought import opened
from components.models.language import IGNORED, Chat, batches, collate, load_merged, vocabulary_of
from components.paths import TEXT_BASE, TEXT_EXPORT, TEXT_METRICS
from components.paths import TEXT_CHECKPOINT as CHECKPOINT
from components.paths import TEXT_SPLIT as SPLIT
from components.runtimes.base import RequestRefusedError
from components.runtimes.text import OpenVinoText, load_text
from components.stage import StageError, run

METRICS = TEXT_METRICS / "verify.json"
PAIRS_PER_PROMPT = 6  # so that what is compared token by token rests on hundreds of them
ANSWER_TOKENS = 48  # of an answer that is compared at most


def measure(
    folder: Path,
    reference: PreTrainedModel,
    chat: Chat,
    test: Sequence[Pair],
    bounds: VerifyText,
    weight_format: str,
) -> dict[str, Any]:
    """The whole of `metrics/text/verify.json` for an exported folder; `reference` is the merged model in fp32.

    `left_out`: held-out pairs that are longer than the model holds. Raises `StageError` where all are.
    """
    short = fitting(test, chat, reference)
    left_out, test = len(test) - len(short), short
    samples = [chat.encode(pair) for pair in test[: bounds.prompts * PAIRS_PER_PROMPT]]
    padded = [collate(batch, chat.pad) for batch in batches(samples, ROWS, vocabulary=vocabulary_of(reference))]
    token_by_token = compare(folder, reference, padded, weight_format)
    apart = distances(token_by_token)
    compared: dict[str, Any] = {"left_out": left_out, **parity(token_by_token)}
    compared["rounding"] = asdict(apart) | {"tie": bounds.max_rounding * apart.tie}
    prompts = list(dict.fromkeys(pair.messages for pair in test))[: bounds.answers]
    few = prompts[: bounds.prompts]
    special = [token.content for token in chat.tokenizer.added_tokens_decoder.values() if token.special]
    shown = conversations(test[: bounds.prompts], special)
    runtime = load_text(folder)
    try:
        differing = sum(not same_prompt(runtime, chat, messages) for messages in shown)
        compared |= {"conversations": len(shown), "same_prompt_ids": differing == 0}
        compared["same_text"] = same_texts(runtime, chat, [pair.completion for pair in test])
        engine = {"forced": served.forced(runtime, samples, token_by_token)}
        engine |= served.greedy(runtime, reference, chat, prompts, ANSWER_TOKENS, compared["rounding"]["tie"])
        engine["seeds"] = served.seeds(runtime, few, ANSWER_TOKENS)
    finally:
        runtime.close()
    engine["adapter"] = served.applied(
        folder, reference, chat, prompts[: 2 * bounds.prompts], ANSWER_TOKENS, weight_format
    )
    compared["served"] = engine
    rows = [question.row() for question in questions(compared, bounds)]
    passed = all(row["passed"] for row in rows)
    return {"passed": passed, "parity": compared | {"passed": passed}, "checks": rows}


def fitting(test: Sequence[Pair], chat: Chat, reference: PreTrainedModel) -> list[Pair]:
    """The pairs that the model holds, with their completion and with an answer of its own."""
    holds = context_length(reference.config.to_dict())

    def needs(pair: Pair) -> int:
        ids, labels = chat.encode(pair)
        return max(len(ids), labels.count(IGNORED) + ANSWER_TOKENS)

    short = [pair for pair in test if not holds or needs(pair) <= holds]
    if not short:
        raise StageError(f"each of {len(test)} held-out pairs, with an answer, is longer than the {holds} tokens held")
    if len(short) < len(test):
        print(f"{len(test) - len(short)} of {len(test)} held-out pairs are left out: the model holds {holds} tokens")
    return short


@dataclass(frozen=True)
class Question:
    """A check, and what it asks in words."""

    words: str
    check: Check

    def row(self) -> dict[str, Any]:
        return {"words": self.words, **self.check.row()}


def most(name: str, value: float, bound: float, words: str, note: str = "") -> Question:
    return Question(words, Check(name, value, Relation.AT_MOST, bound, note=note))


def least(name: str, value: float, bound: float, words: str, note: str = "") -> Question:
    return Question(words, Check(name, float(value), Relation.AT_LEAST, bound, note=note))


def questions(compared: Mapping[str, Any], bounds: VerifyText) -> list[Question]:
    """What has to hold for the model to be served, in the order in which one would look for a fault."""
    rounding, engine = compared["rounding"], compared["served"]
    alone, company, adapter = engine["alone"], engine["in_company"], engine["adapter"]
    ratio, top1 = compared["perplexity_ratio"], compared["top1_agreement"]
    faults, wrong_ends = alone["faults"] + company["faults"], engine["wrong_ends"]
    tokens, answers = alone["tokens"] + company["tokens"], alone["answers"]
    likely = f"{ratio:.4g}, {between(compared['perplexity_ratio_interval'])}"
    as_often = between(compared["top1_agreement_interval"])
    same = f"of {tokens} tokens of greedy answers PyTorch would write the same, or nearly"

    def rounds(name: str, found: Mapping[str, Any], words: str) -> Question:
        return most(name, found["error"] / found["rounding"], bounds.max_rounding, words, between(found["interval"]))

    return [
        least("same_prompt_ids", compared["same_prompt_ids"], 1, "every conversation becomes the tokens of training"),
        least("same_text", compared["same_text"], 1, "users read what the tokens say"),
        # To both sides: an export that is far better than its reference is not that model either.
        most(
            "perplexity_ratio", max(ratio, 1 / ratio), bounds.max_perplexity_ratio, "held-out text is as likely", likely
        ),
        least("top1_agreement", top1, bounds.min_top1_agreement, "the same token comes first", as_often),
        most("weights", rounding["unexplained"], bounds.max_unexplained, "the weights are those of training, rounded"),
        rounds("graph", rounding["graph"], "the graph errs as rounding does"),
        rounds("engine", engine["forced"], "so does the engine that serves"),
        most("faults", faults, 0, same, rests_on(faults, answers)),
        most("wrong_ends", wrong_ends, 0, "answers end where PyTorch ends them", rests_on(wrong_ends, answers)),
        least("alike", engine["alike"], bounds.min_alike, "an answer is the same alone and in company"),
        least("seed", engine["seeds"]["alone"], 1, "a seed repeats its answer"),
        rounds("adapter", adapter, "an adapter does what it does merged"),
        least("adapter_effect", adapter["without"] / adapter["error"], 2, "and it does something"),
    ]


def between(interval: Sequence[float]) -> str:
    return f"95 % interval {interval[0]:.4g} to {interval[1]:.4g}"


def rests_on(faults: int, answers: int) -> str:
    """How rare what no answer showed has to be."""
    rare = "" if faults else f"; so, with 95 % confidence, of all at most {most_unseen(answers):.1%}"
    return f"of {answers} answers{rare}"


def same_prompt(runtime: OpenVinoText, chat: Chat, messages: Sequence[Message]) -> bool:
    """Whether serving renders and tokenises a conversation as training did, or refuses it as training did."""
    try:
        trained: list[int] | None = chat.prompt(messages)
    except (ValueError, TemplateError):
        trained = None
    try:
        return runtime.prompt_ids(messages) == trained
    except RequestRefusedError:
        return trained is None


def same_texts(runtime: OpenVinoText, chat: Chat, texts: Sequence[str]) -> bool:
    """Whether users read what the tokens say: parity of tokens alone would pass a broken decoder."""
    tokens = list(map(chat.text, texts))
    return [runtime.decode(ids) for ids in tokens] == chat.tokenizer.batch_decode(tokens)


def main() -> None:
    """Write `metrics/text/verify.json`; fails after writing where the export is not at parity."""
    bounds = config.load().verify.text
    base, _ = opened(TEXT_BASE)
    verify(CHECKPOINT)
    manifest = verify(TEXT_EXPORT)
    reference = load_merged(base, CHECKPOINT, torch.float32)
    test = read_pairs(SPLIT / "test.parquet")
    random.Random(0).shuffle(test)  # noqa: S311 – stored order groups flags with flags
    weight_format = manifest.parameters["weight_format"]
    document = measure(TEXT_EXPORT, reference, Chat.read(base, CHECKPOINT), test, bounds, weight_format)
    write_text(METRICS, canonical(document | {"export": manifest.digest}))
    for row in document["checks"]:
        print(describe(row))
    if not document["passed"]:
        failed = "; ".join(row["words"] for row in document["checks"] if not row["passed"])
        raise StageError(f"parity with PyTorch failed: not so that {failed}; see {METRICS}, bounds under verify.text")


def describe(row: Mapping[str, Any]) -> str:
    """A check as one line for people."""
    verdict = "yes" if row["passed"] else "NO "
    note = f" ({row['note']})" if "note" in row else ""
    return f"{verdict} {row['words']}: {row['name']} {row['value']:.4g}{note}, {row['relation']} {row['threshold']:g}"


if __name__ == "__main__":
    run(main)
