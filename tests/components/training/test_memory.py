"""A model that is too large is refused with the arithmetic; the estimate of a token is what autograd keeps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from components.chat import context_length
from components.config import load
from components.models.language import IGNORED, collate, completion_losses, load_base
from components.stage import StageError
from components.training.memory import PER_LOGIT, longest, of_a_token, of_weights, require_pipeline_room, require_room
from tests.components.training.test_text import SETTINGS
from tests.conftest import ROOT

FULL = SETTINGS.model_copy(update={"adapter": "full"})
BF16 = SETTINGS.model_copy(update={"precision": "bf16"})


def test_a_model_larger_than_memory_is_refused_with_the_arithmetic() -> None:
    require_room(1_000_000_000, BF16, 3_000_000_000)
    with pytest.raises(StageError) as refused:
        require_room(1_000_000_000, FULL, 16_000_000_000)
    assert "1,000 M parameters with 16 bytes each" in str(refused.value)
    assert "16.00 GB of the 16.00 GB" in str(refused.value) and "adapter: lora" in str(refused.value)


def test_what_is_trained_decides_what_the_weights_take() -> None:
    sharded = FULL.model_copy(update={"strategy": "deepspeed_stage_2", "devices": 4})
    assert [of_weights(100, settings) for settings in (SETTINGS, BF16, FULL, sharded)] == [400, 200, 1600, 700]


def test_samples_are_the_shorter_the_more_of_them_a_step_holds() -> None:
    config = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 259}
    few, many = (SETTINGS.model_copy(update={"batch_size": size}) for size in (2, 8))
    assert longest(1000, config, few, 10**9) == pytest.approx(4 * longest(1000, config, many, 10**9), rel=0.01)
    parts = many.model_copy(update={"micro_batch": 2})
    assert longest(1000, config, parts, 10**9) == longest(1000, config, few, 10**9)
    checkpointed = many.model_copy(update={"gradient_checkpointing": True})
    assert longest(1000, config, checkpointed, 10**9) > longest(1000, config, many, 10**9)


def test_a_model_that_also_sees_is_planned_by_its_language_model() -> None:
    own = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 259}
    own |= {"max_position_embeddings": 512}
    sees = {"model_type": "gemma3", "text_config": own, "vision_config": {"hidden_size": 9}}
    assert context_length(sees) == context_length(own) == 512
    assert of_a_token(sees, SETTINGS) == of_a_token(own, SETTINGS) > 0
    with pytest.raises(StageError, match=r"names no hidden_size.*set train.text.max_length"):
        longest(1000, {"model_type": "mine"}, SETTINGS, 10**9)


def test_a_token_takes_what_autograd_keeps_of_it(tiny_base: Path) -> None:
    model = load_base(tiny_base, torch.float32)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    ids = torch.randint(3, 259, (4, 64)).tolist()
    batch = collate([(row, [IGNORED] * 62 + row[62:]) for row in ids], 2)  # hardly any logits
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = completion_losses(model, batch)[0].sum()
    measured = sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / batch.ids_BL.numel()
    assert loss.item() > 0
    estimate = of_a_token(model.config.to_dict(), FULL) - PER_LOGIT * 259
    assert 0.75 * estimate <= measured <= 1.25 * estimate


def test_a_pipeline_larger_than_memory_is_refused_with_the_arithmetic() -> None:
    parts = {"unet": 2_600_000_000, "text_encoder": 123_000_000, "text_encoder_2": 695_000_000, "vae": 84_000_000}
    adapter = load(ROOT / "params.yaml").train.image
    require_pipeline_room(parts, "unet", adapter, 7_000_000_000)
    with pytest.raises(
        StageError, match=r"unet has 2,600 M parameters with 2 bytes each, 1 times: 5.20 GB of the 6.00"
    ):
        require_pipeline_room(parts, "unet", adapter, 6_000_000_000)
    with pytest.raises(StageError, match=r"text_encoder_2 has 695 M .*vae has 84 M parameters with 4 bytes"):
        require_pipeline_room(parts, "unet", adapter, 2_000_000_000)
    with pytest.raises(StageError, match=r"20 bytes each, 1 times: 52.00 GB .*set train.image.lora_rank"):
        require_pipeline_room(parts, "unet", adapter.model_copy(update={"lora_rank": None}), 40_000_000_000)
