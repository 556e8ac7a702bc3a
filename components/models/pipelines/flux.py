"""FLUX.1 (Black Forest Labs 2024): a transformer on packed latents with rotary positions, CLIP and T5.

Guidance is an input of the distilled models (`guidance_embeds`), so that painting asks the network once a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import DiffusionPipeline, FluxPipeline
from torch import Tensor, nn

from components.models.pipelines.family import States
from components.models.pipelines.flow import Flow

TRAINED_GUIDANCE = 1.0  # that a distilled network is tuned with, as in diffusers' training script for this family


class Flux(Flow):
    pipeline = "FluxPipeline"
    network_name = "transformer"
    encoders = ("text_encoder", "text_encoder_2")
    targets = (
        *("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"),
        *("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"),
        *("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2"),
    )
    guided_rows = 1
    longest = {"tokenizer_2": 512}  # noqa: RUF012 - as the pipeline's default
    openvino = "OVFluxPipeline"
    even = True

    def native_size(self, folder: Path) -> int:
        """The VAE's: the transformer names none."""
        return int(self.part(folder, "vae")["sample_size"])

    def channels(self, folder: Path) -> int:
        return int(self.part(folder, "transformer")["in_channels"]) // self.patch**2

    @torch.no_grad()
    def encode(self, pipeline: DiffusionPipeline, captions: Sequence[str]) -> States:
        prompt_BLD, pooled_BD, _ = pipeline.encode_prompt(list(captions))
        return {"prompt": prompt_BLD, "pooled": pooled_BD}

    def states(self, pipeline: DiffusionPipeline, ids: dict[str, Tensor]) -> States:
        pooled_BD = pipeline.text_encoder(ids["tokenizer"]).pooler_output
        return {"prompt": pipeline.text_encoder_2(ids["tokenizer_2"])[0], "pooled": pooled_BD}

    def blank(self, folder: Path, rows: int) -> States:
        return self.conditioned(folder, rows, self.longest["tokenizer_2"])

    def without_caption(self, unconditional: States, rows: int) -> States:
        """Guidance is the network's own: nothing is painted without a caption."""
        return {}

    def unpacked(self, pipeline: DiffusionPipeline, latents: Tensor, size: int) -> Tensor:
        unpacked_BCHW: Tensor = FluxPipeline._unpack_latents(latents, size, size, pipeline.vae_scale_factor)
        return unpacked_BCHW

    def predict(self, network: nn.Module, noisy_BCHW: Tensor, time_B: Tensor, states: States) -> Tensor:
        B, C, H, W = noisy_BCHW.shape
        places = FluxPipeline._prepare_latent_image_ids(B, H // 2, W // 2, noisy_BCHW.device, noisy_BCHW.dtype)
        guidance_B = states["guidance"] if "guidance" in states else torch.full_like(time_B, TRAINED_GUIDANCE)
        output_BLD = network(
            hidden_states=FluxPipeline._pack_latents(noisy_BCHW, B, C, H, W),
            timestep=time_B,
            guidance=guidance_B if network.config.guidance_embeds else None,
            encoder_hidden_states=states["prompt"],
            pooled_projections=states["pooled"],
            txt_ids=places.new_zeros(states["prompt"].shape[1], 3),
            img_ids=places,
            return_dict=False,
        )[0]
        output: Tensor = FluxPipeline._unpack_latents(output_BLD, H, W, 1)
        return output
