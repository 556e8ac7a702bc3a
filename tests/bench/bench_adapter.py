"""What the text engine writes with real phrases, and what an adapter costs: paired rounds on the packaged model.

`make bench NAME=adapter` prints the figures and writes them to `metrics/text/adapter.json`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch

from components.artifact import canonical, seal, verify, write_text
from components.config import load
from components.data.pairs import read_pairs
from components.models.brought import opened
from components.models.language import add_adapter, load_base
from components.runtimes.base import TextRequest, TextResult
from components.runtimes.text import OpenVinoText, load_text
from components.training.text import save
from tests.bench.timing import Load, paired_ratio
from tests.conftest import ROOT

PACKAGE, ROUNDS = ROOT / "artifacts/text/package", 10
CALLERS = {1: 16, 8: 64, 32: 160}  # and how many phrases they ask for in a round


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, OpenVinoText]]:
    """The packaged model without and with an adapter of the trained shape, whose weights say nothing."""
    folder, settings = tmp_path_factory.mktemp("adapter"), load().train.text
    base, _ = opened(ROOT / "data/base/text")
    model = load_base(base, torch.float32)
    save(add_adapter(model, rank=settings.lora_rank, alpha=settings.lora_alpha, dropout=0.0), folder)
    parents = {"checkpoint": verify(PACKAGE).parents["checkpoint"]}
    seal(folder, line="text", kind="adapter", parents=parents, parameters={"scale": 1.0}, metrics={})
    found = {"without": load_text(PACKAGE), "with": load_text(PACKAGE, folder)}
    yield found
    for engine in found.values():
        engine.close()


async def speed(engine: OpenVinoText, phrases: list[str], callers: int) -> tuple[float, float, float]:
    """(tokens/s, tokens read, tokens written, of a phrase) with so many callers, each asking when it is answered."""
    settings, left, results = load().serving, list(enumerate(phrases)), list[TextResult]()

    async def caller() -> None:
        while left:
            seed, phrase = left.pop()
            request = TextRequest(
                (("user", phrase),),
                settings.text_max_new_tokens,
                settings.text_temperature,
                settings.text_top_p,
                seed,
            )
            results.extend([item async for item in engine.stream(request) if isinstance(item, TextResult)])

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    written = sum(result.completion_tokens for result in results)
    read = sum(result.prompt_tokens for result in results) / len(results)
    return written / (time.perf_counter() - began), read, written / len(results)


@pytest.mark.timeout(1800)
def test_speed_with_real_phrases_and_with_an_adapter(engines: dict[str, OpenVinoText]) -> None:
    phrases = [pair.phrase for pair in read_pairs(Path(ROOT / "data/text/split/test.parquet"))]
    found: dict[tuple[str, int], list[tuple[float, float, float]]] = {}
    with Load() as busy:
        for number in range(ROUNDS):
            for callers, count in CALLERS.items():
                asked = [phrases[(number * count + i) % len(phrases)] for i in range(count)]
                for name in sorted(engines, reverse=bool(number % 2)):  # who comes second finds a warmer machine
                    found.setdefault((name, callers), []).append(asyncio.run(speed(engines[name], asked, callers)))
    print()
    document: dict[str, Any] = {"package": verify(PACKAGE).digest, "rounds": ROUNDS, "machine": busy.machine()}
    for callers in CALLERS:
        plain, fitted = ([one[0] for one in found[name, callers]] for name in ("without", "with"))
        assert min(plain + fitted) > 0
        ratio = asdict(paired_ratio(fitted, plain))  # of speeds
        read, wrote = (median(one[i] for one in found["without", callers]) for i in (1, 2))
        row = {"without": median(plain), "with": median(fitted), "ratio": ratio, "read": read, "written": wrote}
        print(f"{callers:2} callers, tokens/s and tokens a phrase: {row}")
        document[f"callers_{callers}"] = row
    write_text(ROOT / "metrics/text/adapter.json", canonical(document))
