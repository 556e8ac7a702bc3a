"""A low-rank adapter on the denoiser: few weights to train on few pictures, merged into plain weights afterwards.

LoRA (Hu et al. 2021, arXiv:2106.09685) through PEFT, on every linear layer of the transformer. A merged denoiser has
the shape and the speed of the one it came from. Knows nothing of training.
"""

from __future__ import annotations

from peft import LoraConfig, PeftModel, get_peft_model

from components.models.denoiser import Denoiser

LAYERS = r".*\.(to_q|to_k|to_v|to_out\.0|ff\.net\.0\.proj|ff\.net\.2|linear|linear_1|linear_2|proj_out)"


def adapted(denoiser: Denoiser, rank: int) -> PeftModel:
    """`denoiser` with an adapter, which alone is trainable and changes nothing yet; scaled so that rank is no gain."""
    return get_peft_model(denoiser, LoraConfig(r=rank, lora_alpha=rank, target_modules=LAYERS))


def merged(network: PeftModel) -> Denoiser:
    """The denoiser with the adapter's product added to its weights."""
    denoiser = network.merge_and_unload()
    if not isinstance(denoiser, Denoiser):
        raise TypeError(f"expected a Denoiser under the adapter, found {type(denoiser).__name__}")
    return denoiser
