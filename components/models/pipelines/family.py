"""What a family of text-to-image pipelines has to say about itself; one module for each family says it.

A family knows its networks and its mathematics. It knows nothing of data, of caches, of the training loop or of where
a pipeline's folder came from; and nothing outside of this package knows a family by its name.
"""

from __future__ import annotations

import inspect
import json
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import diffusers
import torch
import transformers
from torch import Tensor, nn

diffusers.utils.logging.disable_progress_bar()
transformers.utils.logging.disable_progress_bar()
States = dict[str, Tensor]  # what the network is conditioned on: one row for each caption (or picture)


class Family(ABC):
    """`time` is what the family counts in: a step of the noise schedule (diffusion), or sigma in (0, 1) (flows)."""

    pipeline: ClassVar[str]  # the class in model_index.json
    network_name: ClassVar[str]  # the component that is trained
    encoders: ClassVar[tuple[str, ...]]  # the components that turn a caption into states
    targets: ClassVar[tuple[str, ...]]  # the linear layers that an adapter changes, by the ends of their names
    optional: ClassVar[tuple[str, ...]] = ()  # components that a pipeline may come without
    sampler: ClassVar[str]  # the scheduler by which the engines paint what diffusers paints
    openvino: ClassVar[str]  # optimum-intel's class that exports and runs it
    longest: ClassVar[dict[str, int]] = {}  # tokens that the pipeline reads, by tokenizer, where not its own length
    kohya: ClassVar[str] = ""  # how names of layers begin for programs that read kohya's format of it alone
    weighed_by_snr: ClassVar[bool] = False  # whether a min-SNR weight has a meaning
    guided_rows: ClassVar[int] = 2  # of the network for a guided picture: with its caption, and without

    @property
    def name(self) -> str:
        return type(self).__name__.lower()

    # --- a pipeline's folder ---------------------------------------------------------------------------------------

    def read(
        self, folder: Path, dtype: torch.dtype = torch.float32, *, without: Sequence[str] = ()
    ) -> diffusers.DiffusionPipeline:
        """The pipeline, in evaluation mode, from safetensors on this machine alone; `without` these components.

        Its VAE is read in float32 whatever `dtype` is: it computes in that, and rounded weights stay rounded.
        """
        index = json.loads((folder / "model_index.json").read_bytes())
        absent = [name for name in self.optional if (index.get(name) or [None])[0] is None]
        left_out: dict[str, Any] = dict.fromkeys((*without, *absent))  # diffusers wants to be told of both
        dtypes = {"default": dtype, "vae": torch.float32}
        pipeline = getattr(diffusers, self.pipeline).from_pretrained(
            folder, torch_dtype=dtypes, local_files_only=True, use_safetensors=True, trust_remote_code=False, **left_out
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def sampling(self) -> tuple[int, float]:
        """Steps and guidance that the pipeline itself paints with by default."""
        given = inspect.signature(getattr(diffusers, self.pipeline).__call__).parameters
        return given["num_inference_steps"].default, given["guidance_scale"].default

    def network(self, pipeline: diffusers.DiffusionPipeline) -> nn.Module:
        """The component that is trained: noisy latents in, the noise or the velocity out."""
        found = getattr(pipeline, self.network_name)
        if not isinstance(found, nn.Module):
            raise TypeError(f"{self.pipeline} was read without its {self.network_name}")
        return found

    def read_network(self, folder: Path, dtype: torch.dtype = torch.float32) -> nn.Module:
        """The network alone."""
        kind = getattr(diffusers, self.part(folder, self.network_name)["_class_name"])
        return kind.from_pretrained(
            folder / self.network_name, torch_dtype=dtype, local_files_only=True, use_safetensors=True
        ).eval()

    def sketch(self, folder: Path, name: str, dtype: torch.dtype = torch.float32) -> Any:
        """A component of the diffusers library without its weights, on the device "meta"."""
        config = self.part(folder, name)
        with torch.device("meta"):
            component = getattr(diffusers, config["_class_name"]).from_config(config).eval()
        return nn.Module.to(component, dtype)  # diffusers' own warns of what is kept in float32, where weights are read

    def part(self, folder: Path, name: str) -> dict[str, Any]:
        """The configuration of one component."""
        document: dict[str, Any] = json.loads((folder / name / "config.json").read_bytes())
        return document

    def factor(self, folder: Path) -> int:
        """By how much the VAE shrinks a side."""
        return 2 ** (len(self.part(folder, "vae")["block_out_channels"]) - 1)

    @abstractmethod
    def native_size(self, folder: Path) -> int:
        """The side in pixels of the square pictures that the network was made for."""

    @abstractmethod
    def multiple(self, folder: Path) -> int:
        """What both sides of a picture have to be multiples of, in pixels."""

    @abstractmethod
    def channels(self, folder: Path) -> int:
        """The latent channels that the network reads."""

    def faults(self, folder: Path) -> Iterator[str]:
        """What keeps a folder of this class from being trained here, each in words."""
        made, read = self.part(folder, "vae").get("latent_channels"), self.channels(folder)
        if made != read:
            yield f"its VAE makes {made} latent channels and its {self.network_name} reads {read}"
        sampler = json.loads((folder / "model_index.json").read_bytes())["scheduler"][1]
        if sampler != self.sampler:
            yield (
                f"the engines that serve do not paint as diffusers does with {sampler}: name {self.sampler} in "
                "model_index.json, if the network's makers say that it may be sampled so"
            )
        elif json.loads((folder / "scheduler/scheduler_config.json").read_bytes()).get("stochastic_sampling"):
            yield "its scheduler draws noise between steps (stochastic_sampling), which no engine here does"

    def written_out(self, scheduler: Any, folder: Path) -> dict[str, Any]:
        """What the file of the scheduler that is served says otherwise, so that an engine samples as diffusers does.

        A noise schedule's betas as numbers: GenAI spaces them without the last one, so that each is 0.1 % less.
        """
        return {"trained_betas": scheduler.betas.tolist()}

    def as_served(self, scheduler: Any, folder: Path) -> Any:
        """The sampling scheduler with what `written_out` says."""
        return type(scheduler).from_config({**scheduler.config, **self.written_out(scheduler, folder)})

    # --- captions and pictures -------------------------------------------------------------------------------------

    @abstractmethod
    def encode(self, pipeline: diffusers.DiffusionPipeline, captions: Sequence[str]) -> States:
        """The states of captions as the pipeline itself makes them when it paints, one row for each caption."""

    @abstractmethod
    def blank(self, folder: Path, rows: int) -> States:
        """Zeros in the place of states, as the configurations size them, for a plan."""

    @abstractmethod
    def states(self, pipeline: diffusers.DiffusionPipeline, ids: dict[str, Tensor]) -> States:
        """What `encode` makes, from token ids BL of each tokenizer, as long as its encoder reads: what is exported."""

    def cut(self, folder: Path, captions: Sequence[str]) -> int:
        """How many captions are longer than any of the text encoders reads, so that nobody learns from their ends."""
        whole: set[int] = set()
        for name, tokenizer in self.tokenizers(folder):
            most = self.longest.get(name, tokenizer.model_max_length)
            counts = map(len, tokenizer(list(captions), truncation=True, max_length=most + 1).input_ids)
            whole |= {number for number, count in enumerate(counts) if count <= most}
        return len(captions) - len(whole)

    def unread(self, folder: Path, captions: Sequence[str]) -> list[str]:
        """The captions of which no text encoder reads half of the letters, so that nobody learns from their words."""
        left = [caption for caption in captions if any(map(str.isalpha, caption))]
        for _, tokenizer in self.tokenizers(folder):
            left = [caption for caption in left if 2 * _unread(tokenizer, caption) > sum(map(str.isalpha, caption))]
        return left

    def tokenizers(self, folder: Path) -> Iterator[tuple[str, Any]]:
        """Those of the encoders that the pipeline has, by their folders' names."""
        index = json.loads((folder / "model_index.json").read_bytes())
        for encoder in self.encoders:
            name = encoder.replace("text_encoder", "tokenizer")
            if all((index.get(part) or [None])[0] for part in (encoder, name)):
                yield name, transformers.AutoTokenizer.from_pretrained(folder / name, local_files_only=True)

    def unconditional(self, pipeline: diffusers.DiffusionPipeline) -> States:
        """The states (one row) of no caption: what guidance is measured from, and what a left-out caption becomes."""
        return self.encode(pipeline, [""])

    def framing(self, original: tuple[int, int], corner: tuple[int, int], size: tuple[int, int]) -> States:
        """States (one row) that say how a picture was cut; each pair is height and width, or top and left."""
        return {}

    @torch.no_grad()
    def to_latents(self, pipeline: diffusers.DiffusionPipeline, pictures_BCHW: Tensor) -> Tensor:
        """Latents BCHW, scaled as the network reads them, of pictures in [-1, 1]: the mean of the VAE's posterior.

        In float32 whatever the pipeline computes in: SDXL's VAE overflows in half precision.
        """
        with _in_float32(pipeline.vae) as vae:
            mean_BCHW = vae.encode(pictures_BCHW.to(vae.device, torch.float32)).latent_dist.mode()
        shift, scale = _normalisation(vae.config, mean_BCHW)
        return (mean_BCHW - shift) * scale

    @torch.no_grad()
    def to_pictures(self, pipeline: diffusers.DiffusionPipeline, latents_BCHW: Tensor) -> Tensor:
        """Pictures BCHW in [-1, 1] of latents, in float32."""
        latents_BCHW = latents_BCHW.to(pipeline.vae.device, torch.float32)
        shift, scale = _normalisation(pipeline.vae.config, latents_BCHW)
        with _in_float32(pipeline.vae) as vae:
            pictures_BCHW: Tensor = vae.decode(latents_BCHW / scale + shift).sample
        return pictures_BCHW.clamp(-1, 1)

    def paint(
        self,
        pipeline: diffusers.DiffusionPipeline,
        states: States,
        unconditional: States,
        *,
        size: int,
        steps: int,
        guidance: float,
        seeds: Sequence[int],
    ) -> Tensor:
        """Pictures BCHW in [-1, 1], by the pipeline itself, of prompt states; each from the noise of its own seed."""
        latents = pipeline(
            prompt_embeds=states["prompt"],
            pooled_prompt_embeds=states["pooled"],
            height=size,
            width=size,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            output_type="latent",
            **self.without_caption(unconditional, len(seeds)),
        ).images
        return self.to_pictures(pipeline, self.unpacked(pipeline, latents, size))

    def without_caption(self, unconditional: States, rows: int) -> States:
        """What the pipeline is given to be guided away from."""
        return {
            "negative_prompt_embeds": unconditional["prompt"].expand(rows, -1, -1),
            "negative_pooled_prompt_embeds": unconditional["pooled"].expand(rows, -1),
        }

    def unpacked(self, pipeline: diffusers.DiffusionPipeline, latents: Tensor, size: int) -> Tensor:
        """Latents BCHW of those that the pipeline puts out, of pictures of `size`."""
        return latents

    @abstractmethod
    def levels(self, scheduler: Any, steps: int) -> tuple[Tensor, Tensor]:
        """Noise levels from the first step to the last, one more than steps, and the times that `predict` takes there.

        As the pipeline has them from its sampling scheduler, which `written_out` has made the same for all sizes.
        """

    # --- training --------------------------------------------------------------------------------------------------

    @abstractmethod
    def scheduler(self, folder: Path) -> Any:
        """The noise schedule that the network is trained on."""

    @abstractmethod
    def times(self, scheduler: Any, uniform_B: Tensor, latents_BCHW: Tensor) -> Tensor:
        """Times B of the distribution that the family trains on, from even numbers in (0, 1): its quantiles."""

    @abstractmethod
    def predict(self, network: nn.Module, noisy_BCHW: Tensor, time_B: Tensor, states: States) -> Tensor:
        """The network's output BCHW (noise, velocity or latents, as the family has it), without guidance."""

    @abstractmethod
    def noised(self, scheduler: Any, latents_BCHW: Tensor, noise_BCHW: Tensor, time_B: Tensor) -> Tensor:
        """Latents with noise of their times."""

    @abstractmethod
    def target(self, scheduler: Any, latents_BCHW: Tensor, noise_BCHW: Tensor, time_B: Tensor) -> Tensor:
        """What `predict` ought to give."""

    def weight(self, scheduler: Any, time_B: Tensor, min_snr: float | None) -> Tensor:
        """Weights B of the squared error."""
        return torch.ones_like(time_B, dtype=torch.float32)

    def loss(
        self,
        network: nn.Module,
        scheduler: Any,
        latents_BCHW: Tensor,
        states: States,
        noise_BCHW: Tensor,
        time_B: Tensor,
        *,
        min_snr: float | None = None,
        mask_B1HW: Tensor | None = None,
    ) -> Tensor:
        """Each sample's weighted mean squared error B; with a mask, of what it shows (1) and not of what it hides (0).

        Deterministic: who draws noise and times decides what a step learns from.
        """
        dtype = next(network.parameters()).dtype  # frozen weights may be in half precision
        noisy_BCHW = self.noised(scheduler, latents_BCHW, noise_BCHW, time_B).to(dtype)
        states = {name: value.to(dtype) for name, value in states.items()}
        output_BCHW = self.predict(network, noisy_BCHW, time_B, states).float()
        error_BCHW = (output_BCHW - self.target(scheduler, latents_BCHW, noise_BCHW, time_B)).square()
        if mask_B1HW is None:
            error_B = error_BCHW.mean(dim=(1, 2, 3))
        else:
            error_B = (error_BCHW * mask_B1HW).mean(dim=(1, 2, 3)) / mask_B1HW.mean(dim=(1, 2, 3)).clamp(min=1e-6)
        return self.weight(scheduler, time_B, min_snr) * error_B


@torch.no_grad()
def halve(pipeline: diffusers.DiffusionPipeline) -> None:
    """Round every weight to what float16 holds; they stay in float32."""
    for part in pipeline.components.values():
        for parameter in part.parameters() if isinstance(part, nn.Module) else ():
            parameter.data = parameter.data.half().float()


def _unread(tokenizer: Any, caption: str) -> int:
    """Letters of a caption that an encoder was not trained to read.

    CLIP's tokenizers take any letter to pieces, but its encoders learnt from English captions.
    """
    if "CLIP" in type(tokenizer).__name__:
        return sum(c.isalpha() and "LATIN" not in unicodedata.name(c, "") for c in caption)
    encoded = tokenizer(caption, add_special_tokens=False, return_offsets_mapping=True)
    pairs = zip(encoded.input_ids, encoded.offset_mapping, strict=True)
    unknown = (caption[start:end] for token, (start, end) in pairs if token == tokenizer.unk_token_id)
    return sum(map(str.isalpha, "".join(unknown)))


@contextmanager
def _in_float32(module: Any) -> Iterator[Any]:
    dtype = module.dtype
    if dtype != torch.float32:
        module.to(torch.float32)
    yield module
    if dtype != torch.float32:
        module.to(dtype)


def _normalisation(config: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    """Shift and scale of a VAE's latents, by channel where the VAE gives statistics of each."""
    scale = torch.tensor(config.scaling_factor, dtype=like.dtype, device=like.device)
    mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is not None and std is not None:
        mean_1C11, std_1C11 = (like.new_tensor(values).view(1, -1, 1, 1) for values in (mean, std))
        return mean_1C11, scale / std_1C11
    return like.new_tensor(getattr(config, "shift_factor", None) or 0.0), scale
