"""At which scale a JPEG 2000 is decoded: its wavelets cost several times what other formats do. No I/O."""

from __future__ import annotations

import io
import struct
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from .errors import InvalidImage

WHOLE_PIXELS: Final = 12_500_000
"""Largest JPEG 2000 that is decoded whole, in pixels; one of 50 million takes five seconds and more."""

START: Final = b"\xff\x4f\xff\x51"
"""How a codestream begins."""

_CODING: Final = b"\xff\x52"
_MOST_HALVINGS: Final = 3  # beyond, an 8-bit grey level may change by one


def halvings(data: bytes, size: tuple[int, int], name: str, at_least: int | None = None) -> int:
    """How many times a picture's sides are halved in decoding: as a caller allows, and as its cost demands.

    Args:
        data: A codestream, or a file that holds one.
        size: Width and height, in pixels.
        name: What the caller calls it.
        at_least: Detail may be left out as long as both sides stay this long, in pixels.

    Raises:
        InvalidImage: It is over `WHOLE_PIXELS` and holds no smaller scale.
    """
    spare = min(size) // at_least if at_least else 0
    wanted = min(spare.bit_length() - 1, _MOST_HALVINGS) if spare else 0
    needed = 0
    while is_large(size, needed):
        needed += 1
    held = _scales(data) if wanted or needed else 0
    if needed > held:
        raise too_costly(size, name, "holds no smaller scale")
    return min(max(wanted, needed), held)


def is_large(size: tuple[int, int], halved: int = 0) -> bool:
    """Whether a picture of this width and height is over `WHOLE_PIXELS` when its sides are halved so often."""
    return size[0] * size[1] > WHOLE_PIXELS << 2 * halved


def too_costly(size: tuple[int, int], name: str, reason: str) -> InvalidImage:
    """The refusal of a large JPEG 2000 that could only be decoded whole."""
    return InvalidImage(
        name,
        f"is a JPEG 2000 of {size[0]}x{size[1]} that {reason}, and would take long: the limit for such is "
        f"{WHOLE_PIXELS:,} pixels; save it smaller, or in another compression",
    )


def _scales(data: bytes) -> int:
    """How many smaller scales a codestream holds, by the first COD marker of its main header; 0 if that is damaged."""
    at = data.find(START) + 2
    try:
        while data[at : at + 2] != _CODING:
            (length,) = struct.unpack(">H", data[at + 2 : at + 4])
            if data[at] != 0xFF or length < 2:
                return 0
            at += 2 + length
        return data[at + 9]
    except (struct.error, IndexError):
        return 0


def stored_values(codestream: bytes, halved: int, samples: int) -> npt.NDArray[Any]:
    """A DICOM frame at a smaller scale: int16 or uint16 [height, width], or uint8 [height, width, 3].

    Args:
        codestream: The frame.
        halved: How many times its sides are halved.
        samples: How many there are a pixel, 1 or 3, by the DICOM header.

    Raises:
        ValueError: The frame has other samples than the header says.
        OSError: It is damaged.
    """
    image = Image.open(io.BytesIO(codestream), formats=("JPEG2000",))
    image.reduce = halved  # type: ignore[method-assign, assignment]
    image.load()
    if samples == 3:
        if image.mode != "RGB":
            raise ValueError("not three samples of 8 bits")
        return np.asarray(image)
    bits = (codestream[42] & 0x7F) + 1
    if image.mode not in ("L", "I;16") or bits > 16:
        raise ValueError("not one sample of up to 16 bits")
    # Pillow moves the values up to the top of 8 or 16 bits, and signed ones up to zero besides.
    values = np.asarray(image).astype(np.int32) >> ((8 if image.mode == "L" else 16) - bits)
    return (values - (1 << bits - 1)).astype(np.int16) if is_signed(codestream) else values.astype(np.uint16)


def is_signed(codestream: bytes) -> bool:
    """Whether the codestream's samples are."""
    return codestream[42] >= 0x80
