"""Stable Diffusion 3 and 3.5 (Esser et al. 2024, arXiv:2403.03206): joint attention, two CLIP encoders and T5."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn
from torch.nn import functional

from components.models.pipelines.family import States
from components.models.pipelines.flow import Flow


class Sd3(Flow):
    pipeline = "StableDiffusion3Pipeline"
    network_name = "transformer"
    encoders = ("text_encoder", "text_encoder_2", "text_encoder_3")
    targets = (
        *("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"),
        *("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"),
    )
    optional = ("text_encoder_3", "tokenizer_3")
    longest = {"tokenizer_3": 256}  # noqa: RUF012 - as the pipeline's default
    openvino = "OVStableDiffusion3Pipeline"

    def read(
        self, folder: Path, dtype: torch.dtype = torch.float32, *, without: Sequence[str] = ()
    ) -> DiffusionPipeline:
        """Where T5 is missing, its states are zeros of as many tokens as CLIP reads, as in OpenVINO GenAI.

        In diffusers they are of 256 tokens, with which the network paints something else.
        """
        pipeline = super().read(folder, dtype, without=without)
        if pipeline.text_encoder_3 is None and "text_encoder_3" not in without:
            width = int(self.part(folder, self.network_name)["joint_attention_dim"])

            tokens = int(pipeline.tokenizer_max_length)

            def zeros(
                prompt: str | list[str], num_images_per_prompt: int = 1, *, device: torch.device, **_: Any
            ) -> Tensor:
                rows = num_images_per_prompt * (1 if isinstance(prompt, str) else len(prompt))
                return torch.zeros(rows, tokens, width, dtype=dtype, device=device)

            pipeline._get_t5_prompt_embeds = zeros
        return pipeline

    def native_size(self, folder: Path) -> int:
        return int(self.part(folder, "transformer")["sample_size"]) * self.factor(folder)

    def channels(self, folder: Path) -> int:
        return int(self.part(folder, "transformer")["in_channels"])

    @torch.no_grad()
    def encode(self, pipeline: DiffusionPipeline, captions: Sequence[str]) -> States:
        texts = list(captions)
        prompt_BLD, _, pooled_BD, _ = pipeline.encode_prompt(texts, None, None, do_classifier_free_guidance=False)
        return {"prompt": prompt_BLD, "pooled": pooled_BD}

    def blank(self, folder: Path, rows: int) -> States:
        clip = self.part(folder, "text_encoder")["max_position_embeddings"]
        t5 = self.longest["tokenizer_3"] if (folder / "text_encoder_3").is_dir() else clip
        return self.conditioned(folder, rows, clip + t5)

    def states(self, pipeline: DiffusionPipeline, ids: dict[str, Tensor]) -> States:
        first = pipeline.text_encoder(ids["tokenizer"], output_hidden_states=True)
        second = pipeline.text_encoder_2(ids["tokenizer_2"], output_hidden_states=True)
        clip_BLD = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1)
        width = int(pipeline.transformer.config.joint_attention_dim)
        t5_BLD = (
            pipeline.text_encoder_3(ids["tokenizer_3"])[0]
            if pipeline.text_encoder_3 is not None
            else clip_BLD.new_zeros(*clip_BLD.shape[:2], width)
        )
        clip_BLD = functional.pad(clip_BLD, (0, width - clip_BLD.shape[-1]))
        return {"prompt": torch.cat([clip_BLD, t5_BLD], 1), "pooled": torch.cat([first[0], second[0]], -1)}

    def predict(self, network: nn.Module, noisy_BCHW: Tensor, time_B: Tensor, states: States) -> Tensor:
        output: Tensor = network(
            hidden_states=noisy_BCHW,
            timestep=time_B * 1000,  # in which its embedding counts
            encoder_hidden_states=states["prompt"],
            pooled_projections=states["pooled"],
            return_dict=False,
        )[0]
        return output
