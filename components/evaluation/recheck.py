"""One answer of production in many, computed again by PyTorch: is what was served what was trained?

Text is not sampled again, as no two samplers draw alike: the served tokens are read by the trained model, one by one
(`replay`). A fault is a conversation that became other tokens; a token that the trained model could not have sampled,
however rounding fell; an answer that ended where it would not have. What no single answer shows, many do: the error of
the engine's log-probabilities, beside that of the rounded model on the same tokens (`components.events.rechecks`).
A picture is painted again from its seed, and compared pixel by pixel; that of a pipeline with what the pipeline paints
with the weights that are stored, and their distance with what the engine's arithmetic costs.

It cannot see: a wrong choice among tokens that are all likely (a sampler that always takes the second), and what
happened on the way from these tokens to the user.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import PreTrainedModel

from components.evaluation.psnr import psnr
from components.evaluation.replay import Answer, Replayed, replay
from components.evaluation.rounding import rounded
from components.evaluation.verify_pipeline import MAX_ROUNDING
from components.events.rechecks import Judgement, Verdict
from components.models.language import Chat
from components.runtimes.base import ImageRequest, ImageRuntime, NotFiniteError
from components.runtimes.reference import DiffusersPipeline

Kept = tuple[dict[str, Any], dict[str, Any]]  # a job and its answer
GREEDY = 1e-6  # a temperature at which nothing but the likeliest token has any probability
# Of top-p: what rounding changes the mass of likelier tokens by is in `surer_T` already; this is float32's own share.
SLACK = 1e-3
# Of a picture by a pipeline, in steps of 255: one value in 16 may come out 1 more or less where float32 serves, about
# what latents that are apart by as much as the gate lets pass make of it (tiny pipelines: one value in 10,000).
ROUNDED = 0.25


@dataclass(frozen=True)
class TextReference:
    """The trained model with its format; `tie`: how far rounding may move a distance of logits, by its own gate."""

    model: PreTrainedModel
    chat: Chat
    weight_format: str
    tie: float


def judge_texts(reference: TextReference, kept: Sequence[Kept]) -> list[Judgement]:
    """Of `TextJob`s and their `Trace`s, as the gateway keeps them."""
    pad = reference.chat.pad
    answers = [
        Answer(trace["prompt"], trace["tokens"], trace["log_probs"], job["temperature"] or GREEDY)
        for job, trace in kept
    ]
    exact = replay(reference.model, answers, pad, reference.tie)
    with rounded(reference.model, reference.weight_format):
        coarse = replay(reference.model, answers, pad)
    return [_judge(reference.chat, job, *parts) for (job, _), *parts in zip(kept, answers, exact, coarse, strict=True)]


def _judge(chat: Chat, job: Mapping[str, Any], served: Answer, exact: Replayed, coarse: Replayed) -> Judgement:
    prompt = chat.prompt([(role, text) for role, text in job["messages"]])
    if prompt != [*served.prompt]:
        at = next((i for i, pair in enumerate(zip(prompt, served.prompt, strict=False)) if pair[0] != pair[1]), None)
        where = f"token {at} of" if at is not None else f"{len(served.prompt)} tokens in the place of {len(prompt)}:"
        return Judgement(Verdict.FAULT, f"{where} the conversation is not what the template and tokenizer give")
    errors_T = torch.tensor(served.log_probs) - exact.log_probs_T
    expected_T = coarse.log_probs_T - exact.log_probs_T
    sums = Judgement(
        Verdict.SAME,
        "each token is one that the trained model may write there",
        len(errors_T),
        errors_T.square().sum().item(),
        expected_T.square().sum().item(),
    )
    impossible = (exact.surer_T >= min(job["top_p"] + SLACK, 1.0)).nonzero().flatten().tolist()
    if not impossible:
        return sums
    return replace(sums, verdict=Verdict.FAULT, why=_impossible(chat, served, exact, impossible))


def _impossible(chat: Chat, served: Answer, exact: Replayed, positions: Sequence[int]) -> str:
    at = positions[0]
    token = chat.tokenizer.convert_ids_to_tokens(served.tokens[at])
    return (
        f"{len(positions)} of {len(served.tokens)} tokens are none that the trained model could write; the first, "
        f"{token!r} at {at}, lies {exact.margins_T[at].item():.2f} below the likeliest, in logits"
    )


def judge_picture(reference: ImageRuntime, kept: Kept, min_psnr: float) -> Judgement:
    """Of an `ImageJob` and its `Picture`, as the gateway keeps them; `min_psnr` in dB."""
    job, answer = kept
    request = ImageRequest(job["prompt"], job["seed"], job["steps"], job["guidance"])
    try:
        served_HWC, painted_HWC = alike(answer["png"], reference.generate([request])[0], job["side"])
    except (ValueError, NotFiniteError) as error:
        return Judgement(Verdict.FAULT, str(error))
    ratio = psnr(served_HWC, painted_HWC)
    verdict = Verdict.SAME if ratio >= min_psnr else Verdict.FAULT
    return Judgement(verdict, f"{ratio:.1f} dB from the picture that PyTorch paints, at least {min_psnr:g} is required")


def judge_pipeline_picture(reference: DiffusersPipeline, kept: Kept) -> Judgement:
    """The same of a picture that a pipeline's export painted; `reference` has the weights that are stored in it."""
    job, answer = kept
    native, side = reference.description.size, job["side"]
    smaller = side if side and side < native else None  # painted so, where larger ones are enlarged
    request = ImageRequest(job["prompt"], job["seed"], job["steps"], job["guidance"], smaller)
    served_in = reference.computes_in
    try:
        exact_HWC = _exactly(reference, request)
        served_HWC, painted_HWC = alike(answer["png"], exact_HWC, side)
        coarse_HWC = reference.generate([request])[0] if served_in != "f32" else exact_HWC
    except (ValueError, NotFiniteError) as error:
        return Judgement(Verdict.FAULT, str(error))
    far, allowed = _apart(served_HWC, painted_HWC), ROUNDED + MAX_ROUNDING * _apart(exact_HWC, coarse_HWC)
    verdict = Verdict.SAME if far <= allowed else Verdict.FAULT
    why = f"it is {far:.2f} of 255 steps from what diffusers paints; {served_in} allows {allowed:.2f}"
    return Judgement(verdict, why)


def _exactly(reference: DiffusersPipeline, request: ImageRequest) -> NDArray[np.uint8]:
    served_in, reference.computes_in = reference.computes_in, "f32"
    try:
        return reference.generate([request])[0]
    finally:
        reference.computes_in = served_in


def _apart(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Root of the mean squared difference."""
    return float(np.sqrt(np.square(one.astype(np.float64) - other).mean()))


def alike(png: str, painted_HWC: NDArray[np.uint8], side: int | None) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A served picture and one that was painted again, as large as was asked for; raises `ValueError` in words."""
    try:
        served = Image.open(io.BytesIO(base64.b64decode(png, validate=True))).convert("RGB")
    except (OSError, binascii.Error) as error:
        raise ValueError(f"what was served is no picture: {error}") from error
    painted = Image.fromarray(painted_HWC)
    if side and side != painted.width:
        painted = painted.resize((side, side), Image.Resampling.LANCZOS)  # as the Bento does
    if painted.size != served.size:
        raise ValueError(f"{served.size} pixels were served, {painted.size} were asked for")
    return np.asarray(served), np.asarray(painted)


def parsed(row: Mapping[str, Any]) -> Kept:
    """A waiting row's job and answer."""
    return json.loads(row["job"]), json.loads(row["answer"])
