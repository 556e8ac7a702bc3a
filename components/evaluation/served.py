"""What serves, measured: answers of the engine as the Bento runs it, judged by the model that was trained.

Alone and in company, by its paged cache and its own sampler, with and without an adapter. The reference never sees
the engine, nor the engine the reference; what passes between them is tokens.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import PreTrainedModel

from components.chat import Message
from components.evaluation.exported_text import Compared
from components.evaluation.intervals import beside_rounding
from components.evaluation.replay import Answer, Replayed, replay, root_mean_square
from components.evaluation.rounding import rounded
from components.models.language import IGNORED, TARGETS, Chat, Encoded, adapted
from components.runtimes.base import TextRequest, TextResult
from components.runtimes.text import WEIGHTS, OpenVinoText

COMPANY = 16  # requests at a time
ADAPTER_SHARE = 0.1  # of each matrix' length (Frobenius norm): enough to change what is written
ADAPTER_RANK = 4


def ask(runtime: OpenVinoText, requests: Sequence[TextRequest], company: int) -> list[TextResult]:
    """The answers, `company` requests at a time."""
    groups = [requests[start : start + company] for start in range(0, len(requests), company)]
    return [result for group in groups for result in runtime.generate(group)]


def answer_of(result: TextResult) -> Answer:
    assert result.trace is not None
    return Answer(result.trace.prompt, result.trace.tokens, result.trace.log_probs)


def requests(prompts: Sequence[Sequence[Message]], max_new_tokens: int, temperature: float = 0.0) -> list[TextRequest]:
    """One for each prompt, with seeds counting from 0."""
    return [
        TextRequest(tuple(messages), max_new_tokens, temperature, seed=seed, traced=True)
        for seed, messages in enumerate(prompts)
    ]


def greedy(
    runtime: OpenVinoText,
    reference: PreTrainedModel,
    chat: Chat,
    prompts: Sequence[Sequence[Message]],
    max_new_tokens: int,
    tie: float,
) -> dict[str, Any]:
    """Greedy answers, alone and in company, as PyTorch sees them; up to `tie` a margin is one of rounding.

    Equal answers are equal to PyTorch: it reads each once.
    """
    asked = requests(prompts, max_new_tokens)
    alone, company = ask(runtime, asked, 1), ask(runtime, asked, COMPANY)
    results = [*alone, *company]
    answers = {(answer.prompt, answer.tokens): answer for answer in map(answer_of, results)}
    read = dict(zip(answers, replay(reference, list(answers.values()), chat.pad), strict=True))
    replayed = [read[answer.prompt, answer.tokens] for answer in map(answer_of, results)]
    ends = [ends_well(*pair, chat.format.ends, tie) for pair in zip(results, replayed, strict=True)]
    return {
        "alone": differences(replayed[: len(alone)], tie),
        "in_company": differences(replayed[len(alone) :], tie),
        "alike": share_equal(alone, company),
        "wrong_ends": ends.count(False),
    }


def differences(replayed: Sequence[Replayed], tie: float) -> dict[str, Any]:
    """Where greedy answers are not those that PyTorch would have written.

    `equal`: share of answers that are. `first_difference`: median position (from 0) of the first token that is not, in
    the others. `largest_margin`: in logits, by which PyTorch prefers another token. `faults`: tokens beyond `tie`.
    """
    margins = torch.cat([each.margins_T for each in replayed])
    positions = sorted(at for each in replayed if (at := each.differs_at) is not None)
    return {
        "answers": len(replayed),
        "tokens": len(margins),
        "equal": 1 - len(positions) / len(replayed),
        "first_difference": positions[len(positions) // 2] if positions else None,
        "largest_margin": margins.max().item(),
        "faults": int((margins > tie).sum()),
    }


def ends_well(result: TextResult, replayed: Replayed, ends: Sequence[int], tie: float) -> bool:
    """Whether an answer ends on its first end token, where PyTorch would end it too; or is cut before any."""
    tokens = answer_of(result).tokens
    if result.finish_reason != "stop":
        return not any(token in ends for token in tokens)
    clean = tokens[-1] in ends and not any(token in ends for token in tokens[:-1])
    return clean and replayed.margins_T[-1].item() <= tie


def share_equal(left: Sequence[TextResult], right: Sequence[TextResult]) -> float:
    """Of answers that are the same to the token."""
    same = [answer_of(one).tokens == answer_of(other).tokens for one, other in zip(left, right, strict=True)]
    return sum(same) / len(same)


def seeds(runtime: OpenVinoText, prompts: Sequence[Sequence[Message]], max_new_tokens: int) -> dict[str, float]:
    """Share of answers sampled at temperature 1 that their seed repeats: asked twice alone, once more in company."""
    asked = requests(prompts, max_new_tokens, temperature=1.0)
    first, again, company = (ask(runtime, asked, size) for size in (1, 1, COMPANY))
    return {"alone": share_equal(first, again), "in_company": share_equal(first, company)}


def errors(answers: Sequence[Answer], replayed: Sequence[Replayed]) -> Tensor:
    """By how much (nats) the engine's log-probability of each token exceeds the reference's."""
    engine = torch.tensor([value for answer in answers for value in answer.log_probs])
    return engine - torch.cat([each.log_probs_T for each in replayed])


def forced(runtime: OpenVinoText, samples: Sequence[Encoded], compared: Compared) -> dict[str, Any]:
    """The error (nats) of what serves at the tokens of completions that were `compared`, beside that of rounding."""
    scored = runtime.score([ids for ids, _ in samples])
    served = [log_probs[labels.count(IGNORED) - 1 :] for (_, labels), log_probs in zip(samples, scored, strict=True)]
    errors_N = torch.tensor([each for log_probs in served for each in log_probs]) - compared.columns["own"]
    return beside_rounding(errors_N, compared.rounding_errors, compared.counts)


def applied(
    folder: Path,
    reference: PreTrainedModel,
    chat: Chat,
    prompts: Sequence[Sequence[Message]],
    max_new_tokens: int,
    weight_format: str,
) -> dict[str, Any]:
    """An adapter in the engine beside the same one merged into PyTorch's weights: errors of log-probabilities (nats).

    `rounding`: of the merged weights, rounded, on the same tokens. `without`: of the weights without it, which says
    that it does anything. Random and fixed by a seed, on every matrix that adapters are trained on; `reference` is
    itself again afterwards.
    """
    config = LoraConfig(r=ADAPTER_RANK, lora_alpha=ADAPTER_RANK, target_modules=TARGETS, task_type="CAUSAL_LM")
    tuned = get_peft_model(reference, config)
    try:
        _randomise(tuned)
        answers = _answered(folder, tuned, requests(prompts, max_new_tokens))
        tuned.merge_adapter()
        merged = adapted(tuned)
        exact = replay(merged, answers, chat.pad)
        with rounded(merged, weight_format):
            coarse = replay(merged, answers, chat.pad)
        tuned.unmerge_adapter()
    finally:
        tuned.unload()
    without = replay(reference, answers, chat.pad)
    counts = [len(answer.tokens) for answer in answers]
    moved_N = torch.cat([left.log_probs_T - right.log_probs_T for left, right in zip(coarse, exact, strict=True)])
    return {
        "tokens": sum(counts),
        **beside_rounding(errors(answers, exact), moved_N, counts),
        "without": root_mean_square(errors(answers, without)),
    }


def _answered(folder: Path, tuned: Any, asked: Sequence[TextRequest]) -> list[Answer]:
    """What the engine writes with the adapter of `tuned` beside the export's weights."""
    with tempfile.TemporaryDirectory() as adapter:
        tuned.save_pretrained(adapter)
        runtime = OpenVinoText(folder / "openvino", Path(adapter) / WEIGHTS)
        try:
            return [answer_of(result) for result in ask(runtime, asked, COMPANY)]
        finally:
            runtime.close()


def _randomise(tuned: Any) -> None:
    """Adapters' products as long as `ADAPTER_SHARE` of the matrices that they are added to."""
    generator = torch.Generator().manual_seed(0)
    for layer in tuned.modules():
        if "default" not in getattr(layer, "lora_A", {}):
            continue
        down_RI, up_OR = (part["default"].weight.data for part in (layer.lora_A, layer.lora_B))
        for part in (down_RI, up_OR):
            part.normal_(generator=generator)
        up_OR.mul_(ADAPTER_SHARE * layer.get_base_layer().weight.norm() / (up_OR @ down_RI).norm())
