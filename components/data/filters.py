"""What makes a sample unfit, one rule per function: each returns the reason to drop it, or an empty string to keep it.

Pure: no files, no Daft. `clean` decides in which order they are asked and counts what they say.
"""

from __future__ import annotations

import math
import unicodedata

from PIL import Image
from tokenizers import Tokenizer

from components.data.picture import PictureError, encode_png, header, load

# The largest side a model may have (`train.image.model.size`): no later stage can use more.
_LARGEST_SIDE = 512
# Of 5,244 emoji names (package emoji 2.16.0) no English, German, French, Turkish, Russian or Arabic one has any unknown
# piece, and 84 % of the Chinese ones have more than this share. "rocket 🚀" has just this share, and stays.
_MAX_UNKNOWN = 0.5
# Where most lengths are equal the quartiles say nothing of how far is far.
_FAR = 3.0


def normalise(text: str) -> str:
    """Unicode NFC, control characters as spaces, runs of white space as one space, none at the ends.

    For comparing alone: what a user gave and what a model learns to write is never replaced by it.
    """
    composed = unicodedata.normalize("NFC", text)
    return " ".join("".join(" " if unicodedata.category(c) == "Cc" else c for c in composed).split())


def empty(text: str, field: str) -> str:
    return "" if text else f"{field} is empty"


def unknown_pieces(text: str, tokenizer: Tokenizer) -> str:
    """Whether the text encoder's (English) vocabulary knows too few of the word pieces of `text` to learn from them.

    A word that is too long for the encoder is one unknown piece, in whatever language: that has a reason of its own.
    """
    pieces = tokenizer.encode(text, add_special_tokens=False).tokens
    unknown = pieces.count("[UNK]")
    if pieces and unknown <= _MAX_UNKNOWN * len(pieces):
        return ""
    words = tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))
    longest, most = max((len(word) for word, _ in words), default=0), tokenizer.model.max_input_chars_per_word
    if longest > most:
        return f"a word of {longest} characters, longer than {most}, the most that the text encoder reads as a word"
    return f"{unknown} of {len(pieces)} word pieces are unknown to the text encoder: translate the caption into English"


def length_outlier(length: int, shortest: int, longest: int) -> str:
    """`shortest` and `longest` are bounds in characters, both still kept."""
    if shortest <= length <= longest:
        return ""
    bound = f"shorter than {shortest}" if length < shortest else f"longer than {longest}"
    return f"text of {length} characters, {bound} and far from the other samples"


def length_bounds(histogram: dict[int, int], low: float, high: float) -> tuple[int, int]:
    """The shortest and the longest length that is kept, from length → count.

    What is beyond has to be both rare (beyond the percentile, by nearest rank, so that a handful of samples loses none)
    and far from the rest (beyond Tukey's outer fences of the logarithm, and by a factor of `_FAR` at least): of a set
    without outliers nothing is dropped, however large it is.
    """
    lengths = sorted(histogram)
    total = sum(histogram.values())
    lower, upper = (max(_at_rank(lengths, histogram, share * total), 1) for share in (0.25, 0.75))
    factor = max((upper / lower) ** 3, _FAR)
    shortest = min(_at_rank(lengths, histogram, low / 100 * total), math.ceil(lower / factor))
    return shortest, max(_at_rank(lengths, histogram, high / 100 * total), math.floor(upper * factor))


def picture(data: bytes | None, *, max_pixels: int, min_side: int) -> tuple[bytes | None, str]:
    """The picture as RGB PNG of at most 512 px, and no reason; or the bytes as they came, and the reason.

    Size is judged from the header, before anything is decoded, so that a few bytes that claim gigapixels cost nothing.
    """
    if data is None:
        return data, "no picture"
    try:
        width, height = header(data)
        if min(width, height) < min_side:
            return data, f"picture of {width}×{height} pixels, smaller than {min_side}"
        if min(width, height) * _LARGEST_SIDE < min_side * max(width, height):
            return data, f"picture of {width}×{height} pixels, narrower than {min_side}:{_LARGEST_SIDE}; crop it"
        image = load(data, max_pixels=max_pixels)
    except PictureError as error:
        return data, str(error)
    if image.getextrema() == ((255, 255),) * 3:
        return data, "picture is white throughout (transparent becomes white): put it on another background"
    image.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE), Image.Resampling.LANCZOS)
    return encode_png(image), ""


def _at_rank(lengths: list[int], histogram: dict[int, int], rank: float) -> int:
    seen = 0
    for length in lengths:
        seen += histogram[length]
        if seen >= rank:
            return length
    return lengths[-1] if lengths else 0
