"""Settings of what turns files into files: DVC's stages from `fetch` to `gate`, and the searches beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from components.config.base import Count, Digest, Fraction, Line, Positive, Precision, Seed, Settings, Strategy


class Package(Settings):
    version: str = Field(description="Version of the asset package")
    sha256: Digest = Field(description="SHA-256 of the package's wheel")


class Fetch(Settings):
    packages: dict[str, Package] = Field(description="Asset packages of the Python Package Index, by name")


class Example(Settings):
    drawings: int = Field(ge=3, description="Line drawings in the example folder")


class BaseText(Settings):
    model: str = Field(
        min_length=1,
        description="What is fine-tuned: smollm2, a folder, owner/name@commit of a hub, or a .gguf file",
    )
    licence: str | None = Field(default=None, description="The model's licence, where its own files name none")


class BaseImage(Settings):
    model: str = Field(
        min_length=1,
        description="What is fine-tuned: sticker, or a diffusers pipeline as a folder or owner/name@commit of a hub",
    )
    licence: str | None = Field(default=None, description="The pipeline's licence, where its own files name none")

    @property
    def is_built_in(self) -> bool:
        return self.model == "sticker"


class Prepare(Settings):
    source: Literal["openmoji", "folder", "jsonl"] = Field(
        description="Where samples come from: what `fetch` brought, a folder with metadata.jsonl (image), pairs (text)"
    )
    path: Path = Field(description="Folder or file of the source")
    limit: Count | None = Field(default=None, description="Samples taken at most; null takes all")
    size: int = Field(ge=8, le=512, default=32, description="Side that OpenMoji's drawings are rendered at, in pixels")


class Clean(Settings):
    low_percentile: float = Field(
        ge=0,
        le=100,
        description="Lengths below this percentile are dropped where they are also far from the rest, in %",
    )
    high_percentile: float = Field(
        ge=0,
        le=100,
        description="Lengths above this percentile are dropped where they are also far from the rest, in %",
    )
    max_pixels: Count = Field(description="Pixels that a picture may claim at most")
    min_side: Count = Field(description="Shortest side of a picture that is kept, in pixels")


class Split(Settings):
    seed: Seed = Field(description="Seed of the sides")
    validation: float = Field(gt=0, lt=0.5, description="Share of the samples for validation")
    test: float = Field(gt=0, lt=0.5, description="Share of the samples for the test")
    near_duplicate_similarity: float = Field(
        gt=0, le=1, description="Similarity from which samples stay on one side together"
    )


class TrainBase(Settings):
    seed: Seed = Field(description="Seed of weights, order and noise")
    max_steps: Count = Field(description="Optimiser steps")
    batch_size: Count = Field(description="Samples in a step, over all devices")
    learning_rate: Positive = Field(description="Highest learning rate")
    precision: Precision = Field(description="What the network computes in; weights are float32 in either")
    strategy: Strategy = Field(description="How Lightning spreads the work over devices; changes no result")
    devices: Count = Field(description="Processes that train together")
    checkpoint_every: Count = Field(description="Steps after which training can be resumed")


class TrainText(TrainBase):
    max_steps: Count = Field(
        description="Optimiser steps for the source's pairs; learned pairs add steps in proportion"
    )
    learned_share: float = Field(
        ge=0,
        lt=1,
        description="Share of the training pairs that users' reactions and annotators taught, by repeating these",
    )
    preference_weight: float = Field(
        ge=0, description="Weight of the loss on answers that users disliked, beside that on the pairs"
    )
    system_prompt: str = Field(description="Leads each conversation that brings none, in service too; empty: none")
    max_length: int = Field(ge=8, le=131_072, description="Longest conversation that is trained on, in tokens")
    lora_rank: Count = Field(description="Rank of the low-rank adapter")
    lora_alpha: Count = Field(description="Scale of the adapter, divided by its rank")
    lora_dropout: float = Field(ge=0, lt=1, description="Share of the adapter's inputs that is dropped in training")


class ImageModel(Settings):
    """Shape of the diffusion transformer."""

    size: int = Field(ge=8, le=512, description="Side of the pictures, in pixels")
    patch: Count = Field(description="Side of a patch, in pixels; divides the size")
    hidden: Count = Field(description="Width of the network; a multiple of heads")
    layers: Count = Field(description="Transformer blocks")
    heads: Count = Field(description="Attention heads of a block")
    text_tokens: int = Field(
        ge=1, le=256, description="Token states of the text encoder that a picture is conditioned on"
    )

    @model_validator(mode="after")
    def _divides(self) -> ImageModel:
        if self.size % self.patch or self.hidden % self.heads:
            raise ValueError("size must be a multiple of patch, and hidden of heads")
        return self


class ImageSamples(Settings):
    """Pictures painted while a pipeline is trained."""

    every: Count = Field(description="Steps between two sheets")
    prompts: tuple[str, ...] = Field(min_length=1, description="What the pictures are of, one picture each")
    steps: Count = Field(default=20, description="Steps of the pipeline's sampler")
    guidance: float = Field(default=5.0, ge=0, description="Scale of classifier-free guidance")


class TrainImage(TrainBase):
    start_from_base: bool = Field(description="Fine-tune the shipped base; false trains from random weights")
    lora_rank: Count | None = Field(description="Rank of the adapter that alone is trained; null trains every weight")
    lora_alpha: Positive | None = Field(
        default=None, description="Scale of the adapter, divided by its rank; null: the rank. Of pipelines alone"
    )
    caption_dropout: float = Field(
        ge=0, lt=1, description="Share of captions left out in training, which guidance needs"
    )
    rehearsed: float = Field(
        ge=0,
        lt=1,
        default=0,
        description="Share of the training pictures that the shipped base paints of what it knows, to keep it",
    )
    ema_decay: float = Field(gt=0, lt=1, description="Decay, per step, of the average of the weights that is kept")
    model: ImageModel = Field(description="Shape of the built-in model; a pipeline that was brought has its own")
    sizes: tuple[Count, ...] | None = Field(
        default=None,
        min_length=1,
        description="Pictures of a pipeline have the area of squares of these sides, in pixels; null: its native one",
    )
    min_snr: Positive | None = Field(
        default=None,
        description="Bound of the signal-to-noise ratio in the loss's weight, often 5; null: no weight",
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Compute activations twice instead of keeping them: slower, in less memory"
    )
    samples: ImageSamples | None = Field(
        default=None, description="Pictures painted while a pipeline is trained, at fixed seeds; null: none"
    )

    def for_built_in(self) -> dict[str, Any]:
        """The settings without those that mean nothing to the built-in model; one that is set is refused by name."""
        names = {"lora_alpha", "sizes", "min_snr", "gradient_checkpointing", "samples"}
        if given := sorted(name for name in names if getattr(self, name)):
            raise ValueError(f"train.image.{given[0]} is for pipelines that were brought; base.image.model is sticker")
        return self.model_dump(mode="json", exclude=names)

    @model_validator(mode="after")
    def _adapter_has_a_base(self) -> TrainImage:
        if self.lora_rank is not None and not self.start_from_base:
            raise ValueError("lora_rank adapts a base: set start_from_base: true, or lora_rank: null")
        if self.rehearsed and not self.start_from_base:
            raise ValueError(
                "train.image.rehearsed keeps what a base knows: set start_from_base: true, or rehearsed: 0"
            )
        return self


class Tune(Settings):
    """A search of `train.<line>`'s settings, judged by the held-out loss.

    The image line's is weighed with and without captions as `serving.image_guidance` does.
    """

    line: Line = Field(description="Line whose training settings are searched")
    trials: Count = Field(description="Trainings of the search")
    seed: Seed = Field(description="Seed of the search")
    max_steps: Count = Field(description="Optimiser steps of a trial")


class TuneSampling(Settings):
    trials: Count = Field(description="Settings that the search tries")
    phrases: int = Field(ge=2, description="Phrases of the validation and of the test side at most, one per concept")
    seed: Seed = Field(description="Seed of the search, the phrases and the noise")
    step_cost: float = Field(ge=0, description="Alignment (a cosine) that one more step has to be worth")


class EvaluateText(Settings):
    samples: Count = Field(description="Test phrases that prompts are written for, sampled as `serving` does")
    seed: Seed = Field(description="Seed of the phrases and of sampling")
    similarity: Fraction = Field(description="Cosine of text encodings from which a prompt names the intended picture")


class EvaluateImage(Settings):
    samples: int = Field(
        ge=2, description="Captions of each kind that pictures are painted of, sampled as `serving` does"
    )
    seed: Seed = Field(description="Seed of the captions and of the noise")
    batch_size: Count = Field(description="Pictures painted at a time")
    sheet: Count = Field(description="Pictures on the sheet of examples")
    inception: Path | None = Field(
        default=None,
        description="Inception weights as safetensors (docs/base_image.md) for FID and score; null: neither",
    )


class ExportText(Settings):
    weight_format: Literal["int8", "int4"] = Field(description="What the exported weights are stored in")


class ExportImage(Settings):
    weight_format: Literal["f32", "int8"] = Field(description="What the exported network computes in")
    calibration: Count = Field(description="Inputs of the network that int8 is calibrated on")


class VerifyText(Settings):
    prompts: Count = Field(description="Held-out prompts on which engine and PyTorch are compared")
    max_perplexity_ratio: Positive = Field(description="Perplexity of the engine, as a multiple of PyTorch's, at most")
    min_top1_agreement: Fraction = Field(description="Share of tokens on which both agree, at least")


class VerifyImage(Settings):
    samples: Count = Field(description="Held-out captions on which engine and PyTorch are compared")
    min_velocity_cosine: Fraction = Field(description="Cosine of the two networks' outputs, at least")
    min_image_psnr: Positive = Field(description="Signal to noise of the two pictures, at least, in dB")


class GateText(Settings):
    max_loss_ratio: Positive = Field(
        description="Held-out loss, as a multiple of the lesser of the base model's and token frequencies', at most"
    )
    min_chrf_gain: float = Field(
        ge=-1, le=1, description="By how much chrF must exceed that of the best answers that need no model"
    )
    min_exact_gain: float = Field(
        ge=-1,
        le=1,
        description="By how much the share of exact answers must exceed that of the best that need no model",
    )
    max_perplexity_increase: Fraction = Field(
        description="Share by which held-out perplexity may exceed the champion's"
    )


class GateImage(Settings):
    max_kid_upper: Positive = Field(description="Upper bound of the KID to held-out pictures, at most")
    min_alignment: float = Field(ge=-1, le=1, description="Cosine of picture and caption, by the judge, at least")
    max_named_shortfall: Fraction = Field(
        description="By how much recognition of seen captions may fall short of that of the real pictures"
    )
    max_recognition_loss: Fraction = Field(
        description="By how much recognition of held-out captions may be below the champion's"
    )
    max_kid_increase: Positive = Field(description="By how much KID to held-out pictures may exceed the champion's")
