"""PIL images of every mode and orientation, and files whose metadata is odd."""

from __future__ import annotations

import io
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from densescan.errors import InvalidImage
from densescan.images import open_grey
from densescan.phantoms import draw_phantom

from .test_images import RAMP, encoded
from .tiff_files import tiff

LEVELS = np.asarray(RAMP)
JPEG = encoded(RAMP, "JPEG", quality=95)

# Tag, type, count and value of an entry of EXIF.
SIXTH = (0x0112, 3, 1, b"\0\6\0\0")
ODD = {
    "a resolution unit as text": (0x0128, 2, 2, b"2\0\0\0"),
    "a maker as a number": (0x010F, 3, 1, b"\0\1\0\0"),
    "a resolution as text": (0x011A, 2, 3, b"72\0\0"),
}


def with_exif(*entries: tuple[int, int, int, bytes]) -> bytes:
    """A JPEG whose EXIF holds these."""
    directory = b"".join(struct.pack(">HHI", *entry[:3]) + entry[3] for entry in sorted(entries))
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, len(entries)) + directory + bytes(4)
    return JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + JPEG[2:]


@pytest.mark.parametrize("odd", ODD)
def test_a_tag_of_an_odd_type_does_not_keep_a_picture_from_being_turned(odd: str) -> None:
    turned = open_grey(JPEG).transpose(Image.Transpose.ROTATE_270)
    assert open_grey(with_exif(ODD[odd], SIXTH)).tobytes() == turned.tobytes()
    assert open_grey(Image.open(io.BytesIO(with_exif(ODD[odd], SIXTH)))).size == turned.size


@pytest.mark.parametrize("error", [struct.error, TypeError, AssertionError, ValueError])
def test_metadata_that_cannot_be_read_at_all_leaves_the_picture_as_it_is(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(image: Image.Image) -> Any:
        raise error("metadata")

    monkeypatch.setattr(Image.Image, "getexif", damaged)
    assert open_grey(encoded(RAMP, "PNG")).tobytes() == RAMP.tobytes()


@pytest.mark.parametrize("error", [struct.error, TypeError, AssertionError, OSError])
def test_a_damaged_image_that_is_not_loaded_yet_is_refused_whatever_its_decoder_raises(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(image: Image.Image) -> Any:
        raise error("at byte 7")

    image = Image.open(io.BytesIO(JPEG))
    monkeypatch.setattr(ImageFile.ImageFile, "load", damaged)
    with pytest.raises(InvalidImage, match="<PIL image>: damaged or truncated: at byte 7"):
        open_grey(image)


def test_one_image_that_is_not_loaded_yet_may_be_opened_by_several_threads() -> None:
    data = encoded(draw_phantom("xray", size=1500), "PNG")
    expected = open_grey(data).tobytes()
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            shared = Image.open(io.BytesIO(data))
            assert {grey.tobytes() == expected for grey in pool.map(open_grey, [shared] * 8)} == {True}


def test_what_is_opened_does_not_change_with_the_callers_image() -> None:
    own = RAMP.copy()
    grey = open_grey(own)
    own.paste(0, (0, 0, *own.size))
    assert grey.tobytes() == RAMP.tobytes()


# TIFF whose white is zero


DEEP = {
    "12 bits in 16": LEVELS.astype("<u2") * 16,
    "16 bits": LEVELS.astype("<u2") * 257,
    "floats": (LEVELS / 255).astype("<f4"),
}


@pytest.mark.parametrize("depth", DEEP)
def test_a_deep_tiff_whose_white_is_zero_is_refused_and_not_taken_for_its_negative(depth: str) -> None:
    plain, inverted = (tiff(DEEP[depth], photometric=photometric) for photometric in (1, 0))
    assert np.abs(np.asarray(open_grey(plain), int) - LEVELS).max() <= 1
    for source in (inverted, Image.open(io.BytesIO(inverted))):
        with pytest.raises(InvalidImage, match=r"whose white is zero.*save it with black as zero"):
            open_grey(source)


def test_a_tiff_of_8_bits_whose_white_is_zero_is_inverted() -> None:
    assert np.array_equal(np.asarray(open_grey(tiff(LEVELS, photometric=0))), 255 - LEVELS)


def test_deep_colours_in_planes_are_refused_and_not_read_as_twice_as_many_levels() -> None:
    deep = np.dstack([LEVELS.astype("<u2") * 257] * 3)
    with pytest.raises(InvalidImage, match="a plane for each colour"):
        open_grey(tiff(deep, photometric=2, planes=True))
    assert np.array_equal(np.asarray(open_grey(tiff(deep, photometric=2))), LEVELS)


def test_floats_in_grey_that_are_said_to_be_in_planes_are_read() -> None:
    """Of one plane nothing is mistaken."""
    grey = np.asarray(open_grey(tiff(DEEP["floats"][:, :, np.newaxis], photometric=1, planes=True)), int)
    assert np.abs(grey - LEVELS).max() <= 1


# Transparency


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_grey_level_that_a_file_calls_transparent_becomes_black(dtype: type) -> None:
    levels = np.full((64, 64), 100, dtype)
    levels[:, 32:] = 200
    levels[0] = np.iinfo(dtype).max
    grey = np.asarray(open_grey(encoded(Image.fromarray(levels), "PNG", transparency=int(levels[0, 0]))))
    assert (grey[0].max(), grey[1, 0], grey[1, -1]) == (0, 100, 200)


def test_no_line_of_a_tall_transparent_picture_is_lost_between_the_strips() -> None:
    levels = np.repeat(np.arange(600)[:, np.newaxis] % 251, 200, axis=1).astype(np.uint8)
    pixels = np.dstack([levels, levels, levels, np.full_like(levels, 255)])
    assert np.array_equal(np.asarray(open_grey(Image.fromarray(pixels, "RGBA"))), levels)


def test_a_picture_whose_colours_hold_their_alpha_already_is_the_same_picture() -> None:
    image = RAMP.convert("RGB")
    image.putalpha(RAMP.convert("L").point(lambda level: 255 if level % 2 else 128))
    expected = np.asarray(open_grey(image), int)
    assert np.abs(np.asarray(open_grey(image.convert("RGBa")), int) - expected).max() <= 2
    assert np.abs(np.asarray(open_grey(image.convert("LA").convert("La")), int) - expected).max() <= 2
