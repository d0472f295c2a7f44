"""Picture files of every format but DICOM, decoded by Pillow within limits. No I/O."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Final, NamedTuple

from PIL import Image, UnidentifiedImageError

from ._intact import Damaged, check_after_decoding, check_before_decoding
from ._jpeg2000 import START, halvings
from ._levels import NotAPicture
from ._limits import check_size
from .errors import InvalidImage

# Formats that decode in the process, without an external program (EPS would call Ghostscript).
FORMATS: Final = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000", "PPM")


@cache
def picture_suffixes() -> frozenset[str]:
    """What names of files in these formats end with, such as ``.jfif``, as Pillow knows it."""
    return frozenset(suffix for suffix, kind in Image.registered_extensions().items() if kind in FORMATS)


_REDUCIBLE: Final = (b"\xff\xd8\xff", START, b"\0\0\0\x0cjP  \r\n\x87\n")

# Pillow's names of how a file stores its pixels.
_DEEP_COLOUR: Final = ("RGB;16", "RGBA;16", "RGBa;16", "RGBX;16", "LA;16")


class Decoded(NamedTuple):
    """What a file holds.

    Attributes:
        image: The first picture, in whatever mode it has.
        several: Whether there are more; `later` gives those.
        full_size: Width and height in the file, if detail was left out; else None.
    """

    image: Image.Image
    several: bool
    full_size: tuple[int, int] | None


def decode(data: bytes, name: str, *, max_pixels: int, at_least: int | None = None) -> Decoded:
    """The first picture of an encoded file.

    Args:
        data: The file.
        name: What the caller calls it.
        max_pixels: Refuse larger pictures before decoding them.
        at_least: Detail may be left out as long as both sides stay this long, in pixels.

    Raises:
        InvalidImage: It is no picture, is damaged, or is outside the limits.
    """
    with _refusing(name, max_pixels):
        # Pillow's warnings pass: to silence them is to change a filter that all threads share.
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        check_size(image.size, name, max_pixels)
        check_before_decoding(data, image.width * image.height)
        several = bool(getattr(image, "is_animated", False))
        size = image.size
        _reduce(image, data, name, at_least)
        _load(image)
        check_after_decoding(data, image, at_least)
    return Decoded(image, several, None if image.size == size else size)


def later(image: Image.Image, name: str, *, max_pixels: int) -> Iterator[Image.Image]:
    """The pictures after the first, of a file that has been decoded; the image is moved on, and not copied.

    One that is too large is not decoded: whoever takes it sees its size and refuses it, and can go on to the next.
    """
    number = 1
    while True:
        with _refusing(f"{name}#{number + 1}", max_pixels):
            try:
                image.seek(number)
            except EOFError:
                return
            if image.width * image.height <= max_pixels:
                _load(image)
        yield image
        number += 1


@contextmanager
def _refusing(name: str, max_pixels: int) -> Iterator[None]:
    try:
        yield
    except UnidentifiedImageError as error:
        raise InvalidImage(name, f"is no picture ({', '.join(FORMATS)} and DICOM are read)") from error
    except Image.DecompressionBombError as error:
        raise InvalidImage(name, f"larger than the limit of {_limit(max_pixels)}") from error
    except (Damaged, NotAPicture) as error:
        raise InvalidImage(name, str(error)) from error
    except InvalidImage:
        raise
    # Decoders of damaged files raise whatever their parser stumbles over.
    except Exception as error:
        raise InvalidImage(name, f"damaged or truncated: {error}") from error


def _limit(max_pixels: int) -> str:
    """Pillow refuses at a limit of its own, which the caller's may be below or above."""
    pillows = 2 * (Image.MAX_IMAGE_PIXELS or 0)
    if pillows < max_pixels:
        return f"{pillows:,} pixels that Pillow has of its own (twice PIL.Image.MAX_IMAGE_PIXELS)"
    return f"{max_pixels:,} pixels (max_pixels)"


def decodes_otherwise(data: bytes | bytearray | memoryview, at_least: int) -> bool:
    """Whether `decode` gives other pixels of a sound file when it may leave out detail.

    It then reduces a large JPEG or JPEG 2000, and decodes of a JPEG in colours the luma alone.
    """
    if not bytes(data[:12]).startswith(_REDUCIBLE):
        return False
    header = Image.open(io.BytesIO(data), formats=FORMATS)
    return min(header.size) >= 2 * at_least or (header.format == "JPEG" and header.mode == "RGB")


def _reduce(image: Image.Image, data: bytes, name: str, at_least: int | None) -> None:
    if image.format == "JPEG2000":
        image.reduce = halvings(data, image.size, name, at_least)  # type: ignore[method-assign, assignment]
    elif at_least is not None:
        image.draft("L" if image.mode in ("L", "RGB") else None, (at_least, at_least))


def _load(image: Image.Image) -> None:
    stored = [str(args[0] if isinstance(args, tuple) and args else args) for *_, args in getattr(image, "tile", ())]
    image.load()
    if any(mode.startswith(_DEEP_COLOUR) for mode in stored):
        _check_depth(image)


def _check_depth(image: Image.Image) -> None:
    """Pillow keeps the upper 8 of 16 bits of colour, where films of 12 bits have almost nothing."""
    if max(band[1] for band in image.convert("RGB").getextrema()) < 64:  # type: ignore[index]
        raise NotAPicture("levels of less than 14 bits in 16-bit colour, nearly black; save it as 16-bit grey")
