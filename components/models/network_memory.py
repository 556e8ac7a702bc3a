"""What a LoRA step on one picture takes of memory, for the network of a pipeline that is not loaded.

The network is built of tensors without content (PyTorch's fake ones) and takes its forward pass, so that what autograd
would save is counted exactly, whatever the family's layers are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import diffusers
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks

from components.models.pipelines import FAMILIES, adapters
from components.models.pipelines.family import Family, States

CLIP, T5 = 77, 512  # tokens of a caption, at the most, by what reads it


@dataclass(frozen=True)
class NetworkMemory:
    """Bytes on one device with one picture of `size` pixels a side; `peak` is when the backward pass begins."""

    size: int
    parameters: int
    adapter: int
    weights: int
    optimizer: int
    activations: int

    @property
    def peak(self) -> int:
        return self.weights + self.optimizer + self.activations


def lora(folder: Path, rank: int, size: int | None = None, checkpointing: bool = False) -> NetworkMemory:
    """Of the pipeline in `folder`, which has been examined: the frozen network in bf16, the adapter in float32."""
    family = FAMILIES[json.loads((folder / "model_index.json").read_bytes())["_class_name"]]
    side = size or family.native_size(folder)
    with FakeTensorMode(allow_non_fake_inputs=True):
        config = family.part(folder, family.network_name)
        with _made_of(torch.bfloat16):
            network = getattr(diffusers, config["_class_name"]).from_config(config)
        count = sum(p.numel() for p in network.parameters())
        network = adapters.add(network, family, rank, rank).train()
        if checkpointing:
            network.enable_gradient_checkpointing()
        trained = [p for p in network.parameters() if p.requires_grad]
        storages = [p.untyped_storage() for p in network.parameters()]
        kept: dict[int, torch.UntypedStorage] = {storage._cdata: storage for storage in storages}
        own = set(kept)

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            kept.setdefault(storage._cdata, storage)
            return tensor

        latents = side // family.factor(folder)
        noisy_BCHW = torch.zeros(1, family.channels(folder), latents, latents)
        with (
            saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16, cache_enabled=False),
        ):
            family.predict(network, noisy_BCHW, torch.zeros(1), _states(family, folder, side))
        adapter = sum(p.numel() for p in trained)
        return NetworkMemory(
            size=side,
            parameters=count,
            adapter=adapter,
            weights=sum(kept[key].nbytes() for key in own),
            optimizer=2 * 4 * adapter,
            activations=sum(storage.nbytes() for key, storage in kept.items() if key not in own),
        )


@contextmanager
def _made_of(dtype: torch.dtype) -> Iterator[None]:
    """Inside it new weights are of that type: fake ones cannot be cast once a module has them."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _states(family: Family, folder: Path, side: int) -> States:
    """States of one caption as long as its encoders read, of the widths that the network's configuration names."""
    config = family.part(folder, family.network_name)
    index = json.loads((folder / "model_index.json").read_bytes())
    reads_t5 = any("T5" in str(index.get(encoder, ["", ""])[1]) for encoder in family.encoders)
    width = config.get("joint_attention_dim") or config["cross_attention_dim"]
    times = 6 * (config.get("addition_time_embed_dim") or 0)
    pooled = config.get("pooled_projection_dim") or config["projection_class_embeddings_input_dim"] - times
    states = {"prompt": torch.zeros(1, T5 if reads_t5 else CLIP, width), "pooled": torch.zeros(1, pooled)}
    return states | family.framing((side, side), (0, 0), (side, side))
