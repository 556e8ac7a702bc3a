"""Stable Diffusion XL (Podell et al. 2023, arXiv:2307.01952): a UNet that predicts noise or v, two CLIP encoders."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, DiffusionPipeline
from diffusers.training_utils import compute_snr
from torch import Tensor, nn

from components.models.pipelines.family import Family, States

BETAS = {"beta_start", "beta_end", "beta_schedule"}
PREDICTIONS = ("epsilon", "v_prediction", "sample")


class Sdxl(Family):
    pipeline = "StableDiffusionXLPipeline"
    network_name = "unet"
    encoders = ("text_encoder", "text_encoder_2")
    targets = ("to_q", "to_k", "to_v", "to_out.0")
    sampler = "EulerDiscreteScheduler"  # by OpenVINO GenAI 2026.4's other ones, parity refuses what is painted
    openvino = "OVStableDiffusionXLPipeline"
    kohya = "lora_unet_"  # ComfyUI and OpenVINO GenAI
    weighed_by_snr = True

    def faults(self, folder: Path) -> Iterator[str]:
        yield from super().faults(folder)
        given = json.loads((folder / "scheduler/scheduler_config.json").read_bytes())
        if not given.get("trained_betas") and BETAS - given.keys():
            yield f"its scheduler/scheduler_config.json names no {', '.join(sorted(BETAS - given.keys()))}"
        if (prediction := given.get("prediction_type", "epsilon")) not in PREDICTIONS:
            yield f"its scheduler's prediction_type is {prediction!r}; these are known: {', '.join(PREDICTIONS)}"

    def native_size(self, folder: Path) -> int:
        return int(self.part(folder, "unet")["sample_size"]) * self.factor(folder)

    def multiple(self, folder: Path) -> int:
        """So that every level of the UNet halves its sides evenly."""
        levels: int = len(self.part(folder, "unet")["block_out_channels"])
        return self.factor(folder) * 2 ** (levels - 1)

    def channels(self, folder: Path) -> int:
        return int(self.part(folder, "unet")["in_channels"])

    @torch.no_grad()
    def encode(self, pipeline: DiffusionPipeline, captions: Sequence[str]) -> States:
        prompt_BLD, _, pooled_BD, _ = pipeline.encode_prompt(list(captions), do_classifier_free_guidance=False)
        return {"prompt": prompt_BLD, "pooled": pooled_BD}

    def blank(self, folder: Path, rows: int) -> States:
        network = self.part(folder, "unet")
        tokens = self.part(folder, "text_encoder")["max_position_embeddings"]
        pooled = network["projection_class_embeddings_input_dim"] - 6 * network["addition_time_embed_dim"]
        return {
            "prompt": torch.zeros(rows, tokens, network["cross_attention_dim"]),
            "pooled": torch.zeros(rows, pooled),
            "time_ids": torch.zeros(rows, 6),
        }

    def states(self, pipeline: DiffusionPipeline, ids: dict[str, Tensor]) -> States:
        first = pipeline.text_encoder(ids["tokenizer"], output_hidden_states=True)
        second = pipeline.text_encoder_2(ids["tokenizer_2"], output_hidden_states=True)
        return {"prompt": torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1), "pooled": second[0]}

    @torch.no_grad()
    def unconditional(self, pipeline: DiffusionPipeline) -> States:
        """Zeros where the pipeline paints with zeros for no negative prompt, as the base does."""
        _, prompt_BLD, _, pooled_BD = pipeline.encode_prompt([""], do_classifier_free_guidance=True)
        return {"prompt": prompt_BLD, "pooled": pooled_BD}

    def framing(self, original: tuple[int, int], corner: tuple[int, int], size: tuple[int, int]) -> States:
        return {"time_ids": torch.tensor([[*original, *corner, *size]], dtype=torch.float32)}

    def levels(self, scheduler: Any, steps: int) -> tuple[Tensor, Tensor]:
        """Spacing "trailing" makes one time too many of some numbers of steps (61), and "log_linear" one level."""
        scheduler.set_timesteps(steps)
        last_1 = scheduler.sigmas[len(scheduler.timesteps)].view(1)
        return torch.cat([scheduler.sigmas[:steps], last_1]), scheduler.timesteps[:steps]

    def scheduler(self, folder: Path) -> DDPMScheduler:
        """The discrete schedule of training, with the betas and the prediction type of the one that samples."""
        config = DDPMScheduler.load_config(folder / "scheduler", local_files_only=True)
        known = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type")
        given = {name: config[name] for name in (*known, "rescale_betas_zero_snr") if name in config}
        return DDPMScheduler(**given)

    def times(self, scheduler: Any, uniform_B: Tensor, latents_BCHW: Tensor) -> Tensor:
        steps: int = scheduler.config.num_train_timesteps
        return (uniform_B * steps).long().clamp(0, steps - 1)

    def predict(self, network: nn.Module, noisy_BCHW: Tensor, time_B: Tensor, states: States) -> Tensor:
        added = {"text_embeds": states["pooled"], "time_ids": states["time_ids"]}
        output: Tensor = network(
            noisy_BCHW, time_B, encoder_hidden_states=states["prompt"], added_cond_kwargs=added, return_dict=False
        )[0]
        return output

    def noised(self, scheduler: Any, latents_BCHW: Tensor, noise_BCHW: Tensor, time_B: Tensor) -> Tensor:
        noisy: Tensor = scheduler.add_noise(latents_BCHW, noise_BCHW, time_B)
        return noisy

    def target(self, scheduler: Any, latents_BCHW: Tensor, noise_BCHW: Tensor, time_B: Tensor) -> Tensor:
        if scheduler.config.prediction_type == "v_prediction":
            velocity: Tensor = scheduler.get_velocity(latents_BCHW, noise_BCHW, time_B)
            return velocity
        return latents_BCHW if scheduler.config.prediction_type == "sample" else noise_BCHW

    def weight(self, scheduler: Any, time_B: Tensor, min_snr: float | None) -> Tensor:
        """Min-SNR (Hang et al. 2023, arXiv:2303.09556): the error of the clean latents counts min(SNR, `min_snr`)."""
        if min_snr is None:
            return super().weight(scheduler, time_B, min_snr)
        snr_B = compute_snr(scheduler, time_B)
        divisor = {"epsilon": snr_B, "v_prediction": snr_B + 1}.get(scheduler.config.prediction_type, 1.0)
        return (snr_B.clamp(max=min_snr) / divisor).nan_to_num(nan=1.0)
