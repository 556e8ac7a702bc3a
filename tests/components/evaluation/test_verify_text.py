"""Parity and speed of a tiny export, and what happens to one that is not the model it claims to be."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from components import config
from components.config import VerifyText
from components.data.pairs import Pair
from components.evaluation import verify_text
from components.models.language import load_base
from components.stage import StageError
from tests.tiny_language import tiny_chat

PAIRS = [Pair(f"draw {name}", f"{name}: flat sticker", name) for name in ("apple", "heart", "rocket", "dog")]
BOUNDS = VerifyText(
    prompts=2,
    max_perplexity_ratio=1.02,
    min_top1_agreement=0.8,
    answers=4,
    max_rounding=1.5,
    max_unexplained=0.01,
    min_alike=0.5,
)


def test_an_export_is_at_parity_with_its_model(tiny_base: Path, tiny_export: Path) -> None:
    reference = load_base(tiny_base, torch.float32)
    full = Pair("draw " + "apples " * 58, "apple: flat sticker")  # the model holds it, and no answer of its own
    test = [full, *PAIRS]
    document = verify_text.measure(tiny_export, reference, tiny_chat(tiny_base), test, BOUNDS, "int8")
    assert [row for row in document["checks"] if not row["passed"]] == [] and document["passed"]
    compared = document["parity"]
    assert compared["left_out"] == 1
    assert compared["same_prompt_ids"] and compared["conversations"] > 2 * BOUNDS.prompts
    assert compared["perplexity_ratio"] == pytest.approx(1, abs=0.02)
    assert compared["served"]["alone"]["answers"] == compared["served"]["in_company"]["answers"] == 4
    assert compared["served"]["adapter"]["without"] > 2 * compared["served"]["adapter"]["error"]


def test_another_model_is_refused_and_the_evidence_stays(
    tiny_base: Path, tiny_export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = load_base(tiny_base, torch.float32)
    shifted = other.get_output_embeddings().weight.detach().roll(1, dims=0)
    other.lm_head.weight = torch.nn.Parameter(shifted)  # expects the neighbour of every token
    monkeypatch.setattr(
        verify_text, "verify", lambda _: SimpleNamespace(digest="d", parameters={"weight_format": "int8"})
    )
    monkeypatch.setattr(verify_text, "load_merged", lambda *_: other)
    monkeypatch.setattr(verify_text, "read_pairs", lambda _: PAIRS)
    monkeypatch.setattr(verify_text, "TEXT_BASE", tiny_base)
    tiny_chat(tiny_base).format.write(tmp_path / "checkpoint")
    monkeypatch.setattr(verify_text, "CHECKPOINT", tmp_path / "checkpoint")
    monkeypatch.setattr(verify_text, "TEXT_EXPORT", tiny_export)
    monkeypatch.setattr(verify_text, "METRICS", tmp_path / "verify.json")
    assert config.load().verify.text.max_perplexity_ratio < 2
    with pytest.raises(StageError, match="parity with PyTorch failed"):
        verify_text.main()
    document = json.loads((tmp_path / "verify.json").read_text())
    assert document["passed"] is False
    failed = {row["name"] for row in document["checks"] if not row["passed"]}
    assert {"perplexity_ratio", "weights", "engine", "faults"} <= failed
    assert not {"same_prompt_ids", "same_text", "seed"} & failed
