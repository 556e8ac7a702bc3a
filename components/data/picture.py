"""Pictures: bytes in, pixels out, judged from the header before anything is decoded. Knows nothing of samples."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

Pixels = NDArray[np.uint8]  # height × width × 3, RGB
WHITE = (255, 255, 255)
_THUMBNAIL = 16
# What is done to a picture, in words for many.
FIRST_FRAME = "pictures are the first of an animation, or of several pages"
CONVERTED = "pictures are converted to sRGB from the colours of their profile"
# The decoders a sample may reach; each further one is attack surface for untrusted bytes.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
# What no kept decoder reads, by the bytes that it begins with, from the place given.
_UNREAD = [(4, b"ftyp" + brand, "HEIC") for brand in (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")]
_UNREAD += [(0, b"\xff\x0a", "JPEG XL"), (4, b"JXL \r\n", "JPEG XL"), (4, b"jP  \r\n", "JPEG 2000")]
_UNREAD += [(0, b"8BPS", "a Photoshop file"), (0, b"%PDF", "a PDF"), (0, b"<svg", "SVG")]
_SAME_GREY = 16  # steps of 255 that profiles of sRGB may differ by; of linear tones 128 becomes 188
_SRGB = ImageCms.createProfile("sRGB")
# The caller's own, lower bound refuses what Pillow only warns of.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class PictureError(ValueError):
    """A picture cannot be used; the message is the reason, fit to stand beside a rejected sample."""


def decode(data: bytes, size: int, *, max_pixels: int = 2**24) -> Pixels:
    """Any supported picture as `size` × `size` × 3 uint8 RGB, on white, padded to a square, Lanczos.

    Transparent, greyscale, palette, 16-bit and animated (first frame) pictures become plain RGB; a colour profile and
    EXIF rotation are applied. Raises `PictureError` where the picture claims more than `max_pixels`, is truncated or
    not a picture.
    """
    return np.asarray(fit(load(data, max_pixels=max_pixels), size))


def fit(image: Image.Image, size: int) -> Image.Image:
    """An RGB image padded with white to a square, then Lanczos to `size` × `size`."""
    side = max(image.size)
    canvas = Image.new("RGB", (side, side), WHITE)
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return canvas.resize((size, size), Image.Resampling.LANCZOS)


def thumbnail(data: bytes) -> NDArray[np.float32]:
    """A picture as the 16 · 16 · 3 values in 0 to 1 by which nearly equal ones are known."""
    return decode(data, _THUMBNAIL).astype(np.float32).ravel() / np.float32(255)


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
            return convert(_in_srgb(ImageOps.exif_transpose(image), _profile(image)))
        except PictureError:
            raise
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise PictureError(f"picture cannot be decoded: {error}") from error


def remarks(data: bytes) -> tuple[str, ...]:
    """What `load` does to a picture that its owner may not expect, from the header; nothing for an unreadable one."""
    try:
        with _open(data) as image:
            # A phone's photograph with its preview is none.
            several = getattr(image, "is_animated", False) and image.format != "MPO"
            profile = _profile(image)
    except (PictureError, OSError, SyntaxError, ValueError):
        return ()
    return (*([FIRST_FRAME] if several else []), *([CONVERTED] if profile else []))


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
        known = next((name for at, magic, name in _UNREAD if data[at:].startswith(magic)), "")
        fault = f"it is {known}, which is not read" if known else "not a picture in a supported format"
        raise PictureError(f"{fault}: save it as one of {', '.join(FORMATS)}") from error


def _profile(image: Image.Image) -> ImageCms.ImageCmsProfile | None:
    """The colour profile of a picture, None where that is sRGB or missing; raises `PictureError` for a broken one."""
    if not (data := image.info.get("icc_profile")):
        return None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        return None if _is_srgb(profile) else profile
    except (OSError, ImageCms.PyCMSError) as error:
        raise PictureError(f"its colour profile cannot be read ({error}): save it in sRGB") from error


def _is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    """Whether a profile of sRGB's name has its tones, too; "Linear sRGB" has others, as GIMP writes it."""
    if "sRGB" not in ImageCms.getProfileDescription(profile) or profile.profile.xcolor_space.strip() != "RGB":
        return False
    grey = ImageCms.buildTransform(profile, _SRGB, "RGB", "RGB").apply(Image.new("RGB", (1, 1), (128, 128, 128)))
    return abs(np.asarray(grey).astype(int) - 128).max() <= _SAME_GREY


def _in_srgb(image: Image.Image, profile: ImageCms.ImageCmsProfile | None) -> Image.Image:
    """A picture with the colours that its profile means; transparency stays."""
    if profile is None:
        return image
    space = profile.profile.xcolor_space.strip()
    modes = {
        "RGB": ("RGB", "RGBA", "P", "PA", "L", "LA", "1"),
        "GRAY": ("L", "LA", "1", "I;16", "I;16B"),
        "CMYK": ("CMYK",),
    }
    if image.mode not in modes.get(space, ()):
        raise PictureError(f"its colour profile is of {space}, and it is {image.mode}: save it in sRGB")
    colours = image if space == "CMYK" else _eight_bits(image).convert("RGBA")
    mode = "L" if space == "GRAY" else space
    try:
        converted = ImageCms.buildTransform(profile, _SRGB, mode, "RGB").apply(colours.convert(mode))
    except ImageCms.PyCMSError as error:
        raise PictureError(f"its colour profile cannot be applied ({error}): save it in sRGB") from error
    if colours.mode == "RGBA":
        converted.putalpha(colours.getchannel("A"))
    return converted


def _opaque_grey(image: Image.Image) -> Image.Image:
    if image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise PictureError("it has transparent pixels: save it without transparency")
    return _on_white(image).convert("L")


def _on_white(image: Image.Image) -> Image.Image:
    rgba = _eight_bits(image).convert("RGBA")
    canvas = Image.new("RGBA", rgba.size, (*WHITE, 255))
    canvas.alpha_composite(rgba)
    return canvas.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit: Pillow would clip it to white instead of scaling. What has no range is refused."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 0xFFFF:
        raise PictureError(f"its pixels are {values.dtype}, of which no white is known: save it with 8 or 16 bits")
    return Image.fromarray((values.astype(np.uint32) >> 8).astype(np.uint8))
