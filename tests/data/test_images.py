"""Picture files of every mode, upright; reduced decoding of large ones."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from zoo.data.images import PICTURE, decode, upright
from zoo.errors import DataError

GREY = np.arange(0, 240, 2, dtype=np.uint8).reshape(10, 12)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def test_the_exif_orientation_is_applied() -> None:
    image = Image.fromarray(np.dstack([GREY] * 3))
    exif = image.getexif()
    exif[0x0112] = 6
    found = decode(encoded(image, exif=exif))
    assert found.size == (10, 12)
    assert np.array_equal(np.asarray(found)[..., 0], np.rot90(GREY, -1))


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "I;16"])
def test_every_mode_becomes_grey_or_colour(mode) -> None:
    deep = mode == "I;16"
    image = Image.fromarray(GREY.astype(np.uint16) * 257) if deep else Image.fromarray(GREY).convert(mode)
    found = decode(encoded(image))
    assert found.mode == ("L" if mode in ("1", "L", "LA", "I;16") else "RGB")
    if mode not in ("1", "P"):
        assert np.array_equal(np.asarray(found.convert("L")), GREY)


def test_a_palette_with_transparency_keeps_its_colours() -> None:
    image = Image.fromarray(np.dstack([GREY, GREY[::-1], GREY])).quantize(16)
    found = decode(encoded(image, transparency=bytes([0, 128] * 8)))
    assert np.array_equal(np.asarray(found), np.asarray(image.convert("RGB")))


def test_cmyk() -> None:
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    red, green, blue = np.asarray(decode(encoded(image, "JPEG"))).mean(axis=(0, 1))
    assert red > 240
    assert green < 15
    assert blue < 15


def test_pixels_of_unknown_range_are_refused() -> None:
    with pytest.raises(DataError, match="floating-point"):
        upright(Image.fromarray(GREY.astype(np.float32)))
    for pixels in (GREY.astype(np.int32), GREY.astype(np.int32) << 20):
        content = encoded(Image.fromarray(pixels), "TIFF")
        with pytest.raises(DataError, match="32-bit grey pixels have no known range"):
            decode(content)
        assert PICTURE.problem(content) == "32-bit grey pixels"
    for pixels in (GREY.astype(np.int32) - 3, GREY.astype(np.int32) + 65_536):
        with pytest.raises(DataError, match="32-bit grey"):
            upright(Image.fromarray(pixels))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_deep_grey_keeps_its_upper_byte(kind: str) -> None:
    content = encoded(Image.fromarray(GREY.astype(np.uint16) * 257), kind)
    assert np.array_equal(np.asarray(decode(content)), GREY)
    assert PICTURE.problem(content) == ""


def test_a_large_jpeg_is_decoded_smaller_but_never_below_twice_what_is_needed() -> None:
    content = encoded(Image.new("RGB", (800, 640), (10, 200, 30)), "JPEG")
    assert decode(content, 160).size == (400, 320)
    assert decode(content, 161).size == (800, 640)
    assert decode(content, 20).size == (100, 80)
    assert decode(content).size == (800, 640)
    assert decode(encoded(Image.new("RGB", (800, 640))), 20).size == (800, 640)
