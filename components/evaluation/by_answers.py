"""An endpoint has no perplexity: it is compared with another model by its answers to held-out phrases.

It is asked once, when it is released; what it answered lies in its artifact. A comparison asks nobody, as that would
cost, and what users or annotators taught is never sent.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from components.artifact import read_manifest
from components.config import EvaluateText, Params
from components.data.pairs import Pair, distinct_pairs
from components.evaluation.answers import chrf
from components.evaluation.paired import Values
from components.evaluation.text import not_learned
from components.runtimes.base import TextRequest
from components.runtimes.endpoint import ANSWERS, KIND
from components.runtimes.text import load_text
from components.stage import StageError


def to_ask(test: Sequence[Pair], settings: EvaluateText) -> list[Pair]:
    """The held-out pairs that an endpoint is asked about, one of what is alike."""
    return distinct_pairs(not_learned(test), settings.seed)[: settings.samples]


def sampled(pair: Pair, params: Params) -> TextRequest:
    """A held-out phrase as a request, with the defaults of service."""
    serving, seed = params.serving, params.evaluate.text.seed
    return TextRequest(pair.messages, serving.text_max_new_tokens, serving.text_temperature, serving.text_top_p, seed)


def conversation(pair: Pair) -> str:
    """What stands for a pair's messages among an endpoint's answers."""
    return json.dumps(pair.messages, ensure_ascii=False)


def by_answers(*packages: Path) -> bool:
    """Whether one of them is an endpoint."""
    return any(read_manifest(folder).kind == KIND for folder in packages)


def similarities(packages: tuple[Path, Path], test: Sequence[Pair], params: Params) -> tuple[Values, Values]:
    """chrF of each package's answers, over the held-out phrases that every endpoint among them was asked, and that are
    short enough for every model among them: how many are not is printed.

    Raises `StageError` where there are fewer than two.
    """
    given = {f: json.loads((f / ANSWERS).read_bytes()) for f in packages if by_answers(f)}
    known = [pair for pair in not_learned(test) if all(conversation(pair) in answers for answers in given.values())]
    pairs = distinct_pairs(known, params.evaluate.text.seed)
    if len(pairs) < 2:
        raise StageError(
            f"{len(pairs)} held-out pairs that differ are among those that the endpoint was asked about, 2 are "
            "needed: the data has changed since; release the endpoint again"
        )
    first, second = (_answers(folder, given.get(folder), pairs, params) for folder in packages)
    rows = [
        (left, right, pair.completion)
        for left, right, pair in zip(first, second, pairs, strict=True)
        if left is not None and right is not None
    ]
    if long := len(pairs) - len(rows):
        print(f"{long} of {len(pairs)} held-out pairs are left out: with an answer they are longer than a model holds")
    if len(rows) < 2:
        raise StageError(f"{len(rows)} held-out pairs are short enough for both models, 2 are needed")
    lefts, rights, wanted = (list(column) for column in zip(*rows, strict=True))
    return np.array(chrf(lefts, wanted)), np.array(chrf(rights, wanted))


def _answers(folder: Path, given: dict[str, str] | None, pairs: Sequence[Pair], params: Params) -> Sequence[str | None]:
    """None to what the package's model is too small for."""
    if given is not None:
        return [given[conversation(pair)] for pair in pairs]
    runtime = load_text(folder)
    try:
        requests = [sampled(pair, params) for pair in pairs]
        taken = [runtime.takes(request) for request in requests]
        texts = iter(runtime.generate([r for r, takes in zip(requests, taken, strict=True) if takes]))
        return [next(texts).text if takes else None for takes in taken]
    finally:
        runtime.close()
