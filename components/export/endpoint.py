"""What serves the text line where an API does: an artifact that says which, with its answers to held-out phrases.

No stage of the graph, as to ask is an effect on somebody's server, and may cost: `atelier release start` runs it. The
API is asked `evaluate.text.samples` phrases at most, one of those that are alike, and none that users or annotators
taught. An artifact that says the same is kept and nobody is asked again, unless most of what is held out now is new to
it. The answers stand beside those that need no model; a later model of one's own is compared with them
(`components.evaluation.by_answers`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from components import config
from components.artifact import ArtifactError, Manifest, canonical, seal, staged, verify, write_text
from components.config import EvaluateText, Params
from components.data.pairs import Pair, read_pairs
from components.evaluation.answers import scored
from components.evaluation.by_answers import conversation, sampled, to_ask
from components.evaluation.text import means, not_learned, without_model
from components.models.text_encoder import TextEncoder
from components.paths import TEXT_ENDPOINT, TEXT_SPLIT
from components.runtimes.base import RequestRefusedError, TextResult
from components.runtimes.endpoint import ANSWERS, KIND, Endpoint, EndpointError, EndpointText
from components.stage import StageError, run

AT_A_TIME = 4
EVALUATED_ON = "evaluated_on"  # the role of the data among the parents: nothing was learnt from it


def parameters_of(params: Params) -> dict[str, Any]:
    """What an artifact says of the API, and how that was asked about the held-out phrases."""
    base, serving = params.base.text, params.serving
    return {
        "url": base.endpoint,
        "model": base.model,
        "licence": base.licence,
        "omit": list(base.omit),
        "price": base.price.model_dump() if base.price else None,
        "system_prompt": params.train.text.system_prompt,
        "evaluation": {
            **params.evaluate.text.model_dump(),
            "max_new_tokens": serving.text_max_new_tokens,
            "temperature": serving.text_temperature,
            "top_p": serving.text_top_p,
        },
    }


def at_hand(parameters: dict[str, Any], test: Sequence[Pair], settings: EvaluateText) -> Manifest | None:
    """The artifact that says just that, where half of what it could be asked now is answered in it.

    More pairs, such as users teach each night, change what is held out a little: no reason for another deployment.
    """
    try:
        manifest = verify(TEXT_ENDPOINT)
    except ArtifactError:
        return None
    answered = json.loads((TEXT_ENDPOINT / ANSWERS).read_bytes())
    known = sum(conversation(pair) in answered for pair in not_learned(test))
    fits = (manifest.kind, manifest.parameters) == (KIND, parameters)
    return manifest if fits and 2 * known >= len(to_ask(test, settings)) else None


def ask(endpoint: Endpoint, pairs: Sequence[Pair], params: Params) -> list[TextResult]:
    """The API's answers, sampled as in service; raises `StageError` where one does not come."""

    async def answers() -> list[TextResult]:
        engine = EndpointText.with_kept_key(endpoint, params.serving.request_timeout)
        try:
            return await engine.generate([sampled(pair, params) for pair in pairs], AT_A_TIME)
        finally:
            await engine.close()

    try:
        return asyncio.run(answers())
    except (EndpointError, RequestRefusedError) as error:
        raise StageError(
            f"base.text.endpoint: {endpoint.url}: {error}; a parameter that it refuses can be left out by "
            "base.text.omit"
        ) from error


def evaluated(pairs: Sequence[Pair], results: Sequence[TextResult], training: Sequence[Pair]) -> dict[str, Any]:
    """The API's figures beside those of answers that need no model."""
    wanted = [pair.completion for pair in pairs]
    texts = {"endpoint": [result.text for result in results]} | without_model(TextEncoder(), pairs, training)
    tokens = {
        "prompt_tokens": sum(result.prompt_tokens for result in results),
        "completion_tokens": sum(result.completion_tokens for result in results),
    }
    return {
        "samples": len(pairs),
        **tokens,
        **{name: means(scored(written, wanted)) for name, written in texts.items()},
    }


def package(params: Params) -> Manifest:
    """Write `artifacts/text/endpoint`, evaluated where there are held-out pairs."""
    parameters, parents = parameters_of(params), dict[str, str]()
    test: list[Pair] = []
    training: list[Pair] = []
    if TEXT_SPLIT.exists():
        parents[EVALUATED_ON] = verify(TEXT_SPLIT).digest
        test, training = (read_pairs(TEXT_SPLIT / f"{side}.parquet") for side in ("test", "train"))
    if kept := at_hand(parameters, test, params.evaluate.text):
        print(f"{TEXT_ENDPOINT}: says the same already, nobody is asked again")
        return kept
    pairs = to_ask(test, params.evaluate.text)
    endpoint = Endpoint(parameters["url"], parameters["model"], parameters["system_prompt"], tuple(parameters["omit"]))
    results = ask(endpoint, pairs, params)
    shown = not_learned(training)
    metrics = evaluated(pairs, results, shown) if pairs and shown else {}
    answers = {conversation(pair): result.text for pair, result in zip(pairs, results, strict=True)}
    with staged(TEXT_ENDPOINT) as folder:
        write_text(folder / ANSWERS, canonical(answers))
        return seal(folder, line="text", kind=KIND, parents=parents, parameters=parameters, metrics=metrics)


def main() -> None:
    """Write the artifact and print its figures."""
    params = config.load()
    if params.base.text.endpoint is None:
        raise StageError("base.text.endpoint: names no API")
    metrics = package(params).metrics
    if not metrics:
        print(f"{params.base.text.endpoint}: not evaluated, as {TEXT_SPLIT} holds no pairs: atelier pipeline run")
    for name in ("endpoint", "nearest_answer", "echo", "majority_answer") if metrics else ():
        row = metrics[name]
        print(f"{name}: chrF {row['chrf']:.2f}, exact {row['exact']:.0%} of {metrics['samples']}")


if __name__ == "__main__":
    run(main)
