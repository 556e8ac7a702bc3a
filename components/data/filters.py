"""What makes a sample unfit: a filter is a class with its thresholds that keeps a sample or says slug and fault.

Here are the filters that models need, and what those share that `params.yaml` may list (`Chosen`): a new one of these
is a class and a place in `TEXT_RULES` or `PICTURE_RULES`. Pure: no files, no Daft.
"""

from __future__ import annotations

import math
import re
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, NamedTuple, ParamSpec

import numpy as np
from PIL.Image import Image, Resampling
from pydantic import Field, ValidationError
from tokenizers import Tokenizer

from components.config import Clean, FilterEntry, Settings, refusal
from components.data.picture import FIRST_FRAME, PictureError, encode_png, load, load_mask, remarks
from components.stage import StageError

Judged = ParamSpec("Judged")  # what a filter is called with
LARGEST_SIDE = 512  # the largest that a model may have (`train.image.model.size`): no later stage can use more
LARGEST_SIDE_OF_PIPELINES = 2048  # the longer one of the narrowest picture that has the area of 1024 × 1024
WIDEST = 4  # to 1; a narrower picture would be trained on at a side for which no pipeline was made
# Of 5,244 emoji names (package emoji 2.16.0) no English, German, French, Turkish, Russian or Arabic one has any unknown
# piece, and 84 % of the Chinese ones have more than this share. "rocket 🚀" has just this share, and stays.
_MAX_UNKNOWN = 0.5
# Where most lengths are equal the quartiles say nothing of how far is far.
_FAR = 3.0
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f]")  # Unicode's category Cc


class Drop(NamedTuple):
    """Why a sample is dropped: the slug under which such samples are counted, and the fault with its value in words."""

    slug: str
    reason: str


@dataclass
class Candidate:
    """A sample as filters see it: normalised texts, and what `UnreadablePicture` and `UnfitMask` have decoded.

    `texts`: all that is said, as it came. `flagged`, `redacted`: names and counts of what chosen filters noted.
    """

    text: str
    completion: str = ""
    data: bytes | None = None
    mask_data: bytes | None = None
    texts: list[str] = field(default_factory=list)
    flagged: list[str] = field(default_factory=list)
    redacted: Counter[str] = field(default_factory=Counter)
    picture: Image = field(init=False)
    mask: Image | None = field(init=False, default=None)

    def shrink(self, largest: int) -> None:
        """Picture and mask to at most `largest` pixels a side."""
        self.picture.thumbnail((largest, largest), Resampling.LANCZOS)
        if self.mask:
            self.mask = self.mask.resize(self.picture.size, Resampling.BILINEAR)

    def encoded(self) -> tuple[bytes, bytes | None]:
        """Picture and mask as PNG."""
        return encode_png(self.picture), encode_png(self.mask) if self.mask else None


class Filter(ABC, Generic[Judged]):
    """Called with what it judges: None keeps it, a `Drop` says why it goes."""

    slug: str

    def __call__(self, *values: Judged.args, **named: Judged.kwargs) -> Drop | None:
        fault = self.fault(*values, **named)
        return Drop(self.slug, fault) if fault else None

    @abstractmethod
    def fault(self, *values: Judged.args, **named: Judged.kwargs) -> str:
        """What is wrong, in words; empty where nothing is."""


class Chosen(Settings, ABC):
    """A filter that `params.yaml` lists: its thresholds are fields, its name is the slug that counts its rejects."""

    name: str
    action: Literal["drop", "flag"] = Field(default="drop", description="drop, or flag: it stays, counted and marked")

    def __call__(self, candidate: Candidate) -> Drop | None:
        fault = self.fault(candidate)
        return Drop(self.name, fault) if fault else None

    @abstractmethod
    def fault(self, candidate: Candidate) -> str:
        """What is wrong, in words; empty where nothing is."""

    def note(self, candidate: Candidate) -> None:
        """What is done to a faulty candidate that stays."""
        candidate.flagged.append(self.name)


def chosen(entries: Sequence[FilterEntry], rules: Sequence[type[Chosen]], key: str) -> list[Chosen]:
    """The filters of a list at a `key` of params.yaml; raises `StageError` that names all that is wrong with it."""
    classes = {rule.model_fields["name"].default: rule for rule in rules}
    filters, faults = list[Chosen](), list[str]()
    for number, entry in enumerate(entries):
        if entry.name not in classes:
            faults.append(f"{key}.{number}.name: there is no filter {entry.name}; there are {', '.join(classes)}")
            continue
        try:
            # As params.yaml itself is read: lists for tuples, and nothing else is coerced.
            filters.append(classes[entry.name].model_validate_json(entry.model_dump_json()))
        except ValidationError as error:
            faults.append(refusal(error, classes[entry.name], f"{key}.{number}"))
    if faults:
        raise StageError("; ".join(faults))
    return filters


def screen(candidate: Candidate, filters: Sequence[Chosen]) -> Drop | None:
    """Why the first of the filters drops a candidate; what others flag or redact before is noted on it."""
    for judge in filters:
        if drop := judge(candidate):
            if judge.action == "drop":
                return drop
            judge.note(candidate)
    return None


class Empty(Filter[[Candidate]]):
    def __init__(self, field: str) -> None:
        self.field, self.slug = field, f"empty_{field}"

    def fault(self, candidate: Candidate) -> str:
        return "" if getattr(candidate, self.field) else f"{self.field} is empty"


class UnknownWords(Filter[[Candidate]]):
    """A caption of whose word pieces the text encoder's (English) vocabulary knows too few to learn from them.

    A word that is too long for the encoder is one unknown piece, in whatever language: that has a reason of its own.
    """

    slug = "unknown_words"

    def __init__(self, tokenizer: Tokenizer, max_unknown: float = _MAX_UNKNOWN) -> None:
        self.tokenizer, self.max_unknown = tokenizer, max_unknown

    def fault(self, candidate: Candidate) -> str:
        return self.unread(candidate.text)

    def unread(self, text: str) -> str:
        """What is wrong with a normalised caption; empty where nothing is."""
        pieces = self.tokenizer.encode(text, add_special_tokens=False).tokens
        unknown = pieces.count("[UNK]")
        if pieces and unknown <= self.max_unknown * len(pieces):
            return ""
        normalised = self.tokenizer.normalizer.normalize_str(text)
        words = self.tokenizer.pre_tokenizer.pre_tokenize_str(normalised)
        longest = max((len(word) for word, _ in words), default=0)
        most = self.tokenizer.model.max_input_chars_per_word
        if longest > most:
            return f"a word of {longest} characters, longer than {most}, the most that the text encoder reads as a word"
        share = f"{unknown} of {len(pieces)} word pieces are unknown to the text encoder"
        return f"{share}: translate the caption into English"


class UnreadablePicture(Filter[[Candidate]]):
    """None, one that cannot be decoded, or one that claims more than `max_pixels`, which is judged before decoding."""

    slug = "unreadable_picture"

    def __init__(self, max_pixels: int) -> None:
        self.max_pixels = max_pixels

    def fault(self, candidate: Candidate) -> str:
        if candidate.data is None:
            return "no picture"
        try:
            candidate.picture = load(candidate.data, max_pixels=self.max_pixels)
        except PictureError as error:
            return str(error)
        return ""


class Animation(Filter[[Candidate]]):
    """A file of several pictures, where those are refused."""

    slug = "animation"

    def __init__(self, action: str) -> None:
        self.refused = action == "refuse"

    def fault(self, candidate: Candidate) -> str:
        several = self.refused and FIRST_FRAME in remarks(candidate.data or b"")
        return "it holds several pictures, as an animation does: save the one that is meant" if several else ""


class SmallPicture(Filter[[Candidate]]):
    """A picture with a side below `min_side`, or with less than that left once it is shrunk to `largest`."""

    slug = "small_picture"

    def __init__(self, min_side: int, largest: int = LARGEST_SIDE) -> None:
        self.min_side, self.largest = min_side, largest

    def fault(self, candidate: Candidate) -> str:
        width, height = candidate.picture.size
        if min(width, height) < self.min_side:
            return f"picture of {width}×{height} pixels, smaller than {self.min_side}"
        if min(width, height) * self.largest < self.min_side * max(width, height):
            return f"picture of {width}×{height} pixels, narrower than {self.min_side}:{self.largest}; crop it"
        return ""


class NarrowPicture(Filter[[Candidate]]):
    slug = "narrow_picture"

    def fault(self, candidate: Candidate) -> str:
        width, height = candidate.picture.size
        if max(width, height) <= WIDEST * min(width, height):
            return ""
        return f"picture of {width}×{height} pixels, beyond {WIDEST}:1; crop it"


class UnfitMask(Filter[[Candidate]]):
    """A mask that cannot be decoded, is not as large as its picture, or shows nothing of it."""

    slug = "unfit_mask"

    def __init__(self, max_pixels: int) -> None:
        self.max_pixels = max_pixels

    def fault(self, candidate: Candidate) -> str:
        if candidate.mask_data is None:
            return ""
        try:
            candidate.mask = load_mask(candidate.mask_data, max_pixels=self.max_pixels)
        except PictureError as error:
            return f"mask: {error}"
        if candidate.mask.size != candidate.picture.size:
            (width, height), (own_width, own_height) = candidate.picture.size, candidate.mask.size
            return f"mask of {own_width}×{own_height} pixels for a picture of {width}×{height}: make them equally large"
        if candidate.mask.getextrema() == (0, 0):
            return "mask is black throughout: nothing of the picture would be learnt; white is what is learnt"
        return ""


class Masked(Filter[[Candidate]]):
    slug = "masked"

    def fault(self, candidate: Candidate) -> str:
        if candidate.mask_data is None:
            return ""
        return (
            "it has a mask, and the built-in model learns whole pictures: leave mask_file_name out of its row, or "
            "bring a pipeline as base.image.model"
        )


class WhitePicture(Filter[[Candidate]]):
    slug = "white_picture"

    def fault(self, candidate: Candidate) -> str:
        white = candidate.picture.getextrema() == ((255, 255),) * 3
        return "picture is white throughout (transparent becomes white): put it on another background" if white else ""


class LengthOutlier(Filter[[int]]):
    """A length in characters outside of `shortest` to `longest`, both still kept."""

    slug = "length_outlier"

    def __init__(self, shortest: int, longest: int) -> None:
        self.shortest, self.longest = shortest, longest

    @classmethod
    def of(cls, histogram: dict[int, int], low: float, high: float) -> LengthOutlier:
        """Bounds from length → count and the percentiles beyond which a length is rare.

        What is beyond has to be both rare (by nearest rank, so that a handful of samples loses none) and far from the
        rest (beyond Tukey's outer fences of the logarithm, and by a factor of `_FAR` at least): of a set without
        outliers nothing is dropped, however large it is.
        """
        lengths = np.array(sorted(histogram) or [0])
        counts = [histogram.get(length, 0) for length in lengths]
        ranks = np.array([0.25, 0.75, low / 100, high / 100]) * sum(counts)
        lower, upper, rare, frequent = lengths[np.searchsorted(np.cumsum(counts), ranks)].tolist()
        lower, upper = max(lower, 1), max(upper, 1)
        factor = max((upper / lower) ** 3, _FAR)
        return cls(min(rare, math.ceil(lower / factor)), max(frequent, math.floor(upper * factor)))

    def fault(self, length: int) -> str:
        if self.shortest <= length <= self.longest:
            return ""
        bound = f"shorter than {self.shortest}" if length < self.shortest else f"longer than {self.longest}"
        return f"text of {length} characters, {bound} and far from the other samples"


class Duplicate(Filter[[str, str]]):
    """A sample whose content another one has, too; the smallest id is kept."""

    slug = "duplicate"

    def fault(self, identity: str, first: str) -> str:
        return "" if identity == first else f"duplicate of {first}"


class NearDuplicate(Filter[[str, str]]):
    """A sample that is nearly the same as another one that is better and stays."""

    slug = "near_duplicate"

    def fault(self, identity: str, best: str) -> str:
        return "" if identity == best else f"nearly the same as {best}, which stays"


def text_filters() -> list[Filter[[Candidate]]]:
    """What a sample of the text line has to pass by itself, in this order."""
    return [Empty("text"), Empty("completion")]


def pipeline_filters(parameters: Clean) -> list[Filter[[Candidate]]]:
    """What it has to pass for a pipeline that was brought, which keeps a picture's shape.

    What its text encoders read of a caption is known to training, which says so.
    """
    return [
        Empty("text"),
        Animation(parameters.animations),
        UnreadablePicture(parameters.max_pixels),
        SmallPicture(parameters.min_side, LARGEST_SIDE_OF_PIPELINES),
        NarrowPicture(),
        WhitePicture(),
        UnfitMask(parameters.max_pixels),
    ]


def picture_filters(tokenizer: Tokenizer, parameters: Clean) -> list[Filter[[Candidate]]]:
    """What a sample of the image line has to pass by itself, in this order, for the built-in model."""
    return [
        Empty("text"),
        UnknownWords(tokenizer),
        Animation(parameters.animations),
        UnreadablePicture(parameters.max_pixels),
        SmallPicture(parameters.min_side),
        WhitePicture(),
        Masked(),
    ]


def normalise(text: str) -> str:
    """Unicode NFC, control characters as spaces, runs of white space as one space, none at the ends.

    For comparing alone: what a user gave and what a model learns to write is never replaced by it.
    """
    return " ".join(_CONTROLS.sub(" ", unicodedata.normalize("NFC", text)).split())
