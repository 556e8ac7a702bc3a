"""Pictures: bytes in, pixels out, judged from the header before anything is decoded. Knows nothing of samples."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

Pixels = NDArray[np.uint8]  # height × width × 3, RGB
WHITE = (255, 255, 255)
# The decoders a sample may reach; each further one is attack surface for untrusted bytes.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
# The caller's own, lower bound refuses what Pillow only warns of.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class PictureError(ValueError):
    """A picture cannot be used; the message is the reason, fit to stand beside a rejected sample."""


def decode(data: bytes, size: int, *, max_pixels: int = 2**24) -> Pixels:
    """Any supported picture as `size` × `size` × 3 uint8 RGB, on white, padded to a square, Lanczos.

    Transparent, greyscale, palette, 16-bit and animated (first frame) pictures become plain RGB; EXIF rotation is
    applied. Raises `PictureError` where the picture claims more than `max_pixels`, is truncated or not a picture.
    """
    return np.asarray(fit(load(data, max_pixels=max_pixels), size))


def fit(image: Image.Image, size: int) -> Image.Image:
    """An RGB image padded with white to a square, then Lanczos to `size` × `size`."""
    side = max(image.size)
    canvas = Image.new("RGB", (side, side), WHITE)
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return canvas.resize((size, size), Image.Resampling.LANCZOS)


def load(data: bytes, *, max_pixels: int = 2**24) -> Image.Image:
    """The first frame as an RGB image on white in its own size; raises `PictureError` as `decode` does."""
    return _decoded(data, max_pixels, _on_white)


def load_mask(data: bytes, *, max_pixels: int = 2**24) -> Image.Image:
    """The first frame as a grey image in its own size; raises `PictureError` as `decode` does.

    A mask with transparent pixels is refused: on white they would count as white, and whoever left them may mean black.
    """
    return _decoded(data, max_pixels, _opaque_grey)


def _decoded(data: bytes, max_pixels: int, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    with _open(data) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise PictureError(f"picture claims {width}×{height} pixels, more than {max_pixels}")
        try:
            image.load()
            return convert(ImageOps.exif_transpose(image))
        except PictureError:
            raise
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise PictureError(f"picture cannot be decoded: {error}") from error


def encode_png(pixels: Pixels | Image.Image) -> bytes:
    """PNG bytes of height × width × 3 uint8 RGB pixels, without metadata: equal pixels give equal bytes."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def crop_to_drawing(image: Image.Image, margin: float = 0.02) -> Image.Image:
    """The part of a picture on white that is not white, with a margin of that share of its longer side."""
    box = image.convert("L").point([grey < 250 for grey in range(256)]).getbbox()
    if box is None:
        return image
    left, top, right, bottom = box
    pad = round(margin * max(bottom - top, right - left))
    return image.crop(
        (max(left - pad, 0), max(top - pad, 0), min(right + pad, image.width), min(bottom + pad, image.height))
    )


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise PictureError(f"picture claims more pixels than may be opened: {error}") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise PictureError(f"not a picture in a supported format ({', '.join(FORMATS)})") from error


def _opaque_grey(image: Image.Image) -> Image.Image:
    if image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise PictureError("it has transparent pixels: save it without transparency")
    return _on_white(image).convert("L")


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey: Pillow would clip to white instead of scaling
        image = Image.fromarray((np.asarray(image, dtype=np.uint32) >> 8).astype(np.uint8))
    rgba = image.convert("RGBA")
    canvas = Image.new("RGBA", rgba.size, (*WHITE, 255))
    canvas.alpha_composite(rgba)
    return canvas.convert("RGB")
