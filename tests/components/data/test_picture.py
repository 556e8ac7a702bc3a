from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from components.data.picture import CONVERTED, FIRST_FRAME, PictureError, crop_to_drawing, decode, encode_png, remarks


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def claiming(width: int, height: int) -> bytes:
    """A few bytes of valid PNG whose header claims any size."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


def test_transparent_becomes_white() -> None:
    pixels = decode(encoded(Image.new("RGBA", (40, 40), (255, 0, 0, 0))), 16)
    assert pixels.shape == (16, 16, 3) and pixels.dtype == np.uint8
    assert (pixels == 255).all()


def test_half_transparent_red_is_pink() -> None:
    assert decode(encoded(Image.new("RGBA", (8, 8), (255, 0, 0, 128))), 8)[4, 4].tolist() == [255, 127, 127]


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "CMYK", "I;16"])
def test_grey_of_any_kind_becomes_grey_rgb(mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.full((20, 20), 0x8000, np.uint16))
    else:
        image = Image.new("L", (20, 20), 128).convert(mode, dither=Image.Dither.NONE)
    pixels = decode(encoded(image, "JPEG" if mode == "CMYK" else "PNG"), 8)
    expected = 255 if mode == "1" else 128
    assert np.abs(pixels.astype(int) - expected).max() <= 3


def test_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (12, 12), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(data, 4)[2, 2].tolist() == [255, 0, 0]


def test_wide_picture_is_padded_with_white_not_stretched() -> None:
    pixels = decode(encoded(Image.new("RGB", (40, 20), "black")), 32)
    assert (pixels[:6] == 255).all() and (pixels[-6:] == 255).all()
    assert (pixels[10:22] == 0).all()


def test_exif_rotation_is_applied() -> None:
    image = Image.new("RGB", (16, 16), "white")
    image.paste("black", (0, 0, 16, 8))
    exif = Image.Exif()
    exif[0x0112] = 3
    pixels = decode(encoded(image, "JPEG", exif=exif, quality=95), 16)
    assert pixels[2, 8].min() > 200 and pixels[13, 8].max() < 60


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [5_000, 12_000, 50_000])
def test_a_bomb_is_refused_from_its_header(side: int) -> None:
    with pytest.raises(PictureError, match=r"claims|exceeds"):
        decode(claiming(side, side), 32)


def test_truncated_and_foreign_bytes_are_refused_with_a_reason() -> None:
    whole = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)))
    with pytest.raises(PictureError, match="decoded"):
        decode(whole[: len(whole) // 2], 16)
    for junk in (b"", b"\x89PNG\r\n\x1a\n", b"<svg/>", whole[:20]):
        with pytest.raises(PictureError):
            decode(junk, 16)


def test_crop_finds_the_drawing_and_leaves_an_empty_sheet_alone() -> None:
    sheet = Image.new("RGB", (100, 100), "white")
    assert crop_to_drawing(sheet).size == (100, 100)
    sheet.paste("red", (30, 40, 50, 60))
    assert crop_to_drawing(sheet, margin=0).size == (20, 20)


def test_equal_pixels_are_equal_bytes() -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    assert encode_png(pixels) == encode_png(Image.fromarray(pixels))
    assert (decode(encode_png(pixels), 8) == pixels).all()


def swapped_profile() -> bytes:
    """sRGB's profile under another name and with red and blue exchanged: a wide gamut's is not to be had by itself."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace("sRGB".encode("utf-16-be"), "xRGB".encode("utf-16-be"))
    return profile.replace(b"rXYZ", b"?XYZ").replace(b"bXYZ", b"rXYZ").replace(b"?XYZ", b"bXYZ")


@pytest.mark.parametrize(("mode", "format"), [("RGB", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("RGB", "TIFF")])
def test_colours_are_those_of_the_profile_and_transparent_stays_so(mode: str, format: str) -> None:
    image = Image.new("RGBA", (16, 16), (255, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 16, 8))
    data = encoded(image.convert(mode), format, icc_profile=swapped_profile())
    red, green, blue = decode(data, 16)[12, 8].tolist()
    assert (red < 5, green < 5, blue > 250) == (True, True, True)
    assert (decode(data, 16)[3, 8].tolist() == [255, 255, 255]) == (mode != "RGB")
    assert remarks(data) == (CONVERTED,)


def test_a_profile_of_srgb_changes_nothing_and_an_unfit_one_is_refused() -> None:
    image = Image.fromarray(np.random.default_rng(3).integers(0, 255, (8, 8, 3), dtype=np.uint8))
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert (decode(encoded(image, icc_profile=own), 8) == np.asarray(image)).all()
    assert remarks(encoded(image, icc_profile=own)) == ()
    other = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for profile, words in ((other, "colour profile is of Lab, and it is RGB"), (b"x" * 200, "profile cannot be read")):
        with pytest.raises(PictureError, match=words):
            decode(encoded(image, icc_profile=profile), 8)


@pytest.mark.parametrize(("format", "close"), [("TIFF", 0), ("AVIF", 12)])
def test_tiff_and_avif_are_read(format: str, close: int) -> None:
    image = Image.new("RGB", (16, 16), (200, 40, 90))
    assert np.abs(decode(encoded(image, format), 8).astype(int) - [200, 40, 90]).max() <= close


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\0\0\0\x18ftypheic" + bytes(40), "HEIC"),
        (b"\xff\x0a" + bytes(40), "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40), "JPEG XL"),
        (b"%PDF-1.7" + bytes(40), "a PDF"),
    ],
)
def test_a_format_that_no_kept_decoder_reads_is_named(data: bytes, name: str) -> None:
    with pytest.raises(PictureError, match=f"it is {name}, which is not read: save it as one of PNG, JPEG"):
        decode(data, 8)


def test_pixels_without_a_known_white_are_refused() -> None:
    with pytest.raises(PictureError, match="float32, of which no white is known"):
        decode(encoded(Image.fromarray(np.full((9, 9), 0.5, np.float32)), "TIFF"), 8)


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF", "AVIF", "BMP"])
def test_a_file_of_several_pictures_is_remarked(format: str) -> None:
    frames = [Image.new("RGB", (12, 12), colour) for colour in ("red", "blue")]
    several = {} if format == "BMP" else {"save_all": True, "append_images": frames[1:]}
    assert remarks(encoded(frames[0], format, **several)) == ((FIRST_FRAME,) if several else ())


def linear_profile() -> bytes:
    """sRGB's profile with linear tones: each parametric curve's exponent is 1, and what it does near black left out."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    at = profile.index(b"para")
    curve = profile[at : at + 32]
    return profile.replace(curve, b"para" + bytes(8) + struct.pack(">I", 1 << 16) + bytes(16))


def test_linear_srgb_is_not_srgb_by_its_name() -> None:
    image = encoded(Image.new("RGB", (8, 8), (128, 128, 128)), icc_profile=linear_profile())
    assert abs(decode(image, 8).astype(int) - 188).max() <= 1
    assert remarks(image) == (CONVERTED,)


def test_a_picture_of_one_bit_is_read_with_its_profile() -> None:
    image = Image.new("1", (8, 8), 1)
    image.paste(0, (0, 0, 8, 4))
    pixels = decode(encoded(image, icc_profile=swapped_profile()), 8)
    assert (pixels[0].max(), pixels[7].min()) == (0, 255)
