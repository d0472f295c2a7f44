"""Grey levels of every depth to 8 bits, and the refusal of numbers that are no picture. No I/O.

A network answers any array. One that was normalised for another program, or whose numbers lost
their range on the way, gets a confident answer that means nothing; so it is refused here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

_DEPTHS = (8, 10, 12, 14, 16)

# Between 1 and this the largest level of a float array fits neither 0..1 nor 0..255.
_SMALLEST_WHITE = 16.0

# Pixels of a picture, evenly spread, that are looked at first.
_A_FEW = (8, 8)

_EXPECTED = "Expected: uint8 0..255, uint16 0..65535, float 0..1 or float 0..255; low is black"


class NotAPicture(ValueError):
    """The numbers cannot be grey levels; the message says what was expected and how to convert."""


def without_channel(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An array of a picture's shape, [height, width] or [height, width, 3 or 4].

    Raises:
        NotAPicture: Its shape is another.
    """
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise NotAPicture(
            f"shape {array.shape}; expected [height, width] or [height, width, 1, 3 or 4]{_shape_advice(array.shape)}"
        )
    if array.size == 0:
        raise NotAPicture("the array is empty")
    return array


def to_8_bits(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Grey levels or colours of any accepted dtype to 8 bits.

    Raises:
        NotAPicture: dtype or range are none of a picture.
    """
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.ndim == 3 and array.shape[2] == 4 and array.dtype != np.uint8:
        # Opaque may be 65535 where the colours are of 12 bits, or 255 where they run to 1.
        return np.dstack([to_8_bits(array[:, :, :3]), to_8_bits(array[:, :, 3])])
    if array.dtype.kind == "f":
        return float_to_8_bits(array)
    if array.dtype not in (np.uint8, np.uint16):
        raise NotAPicture(f"dtype {array.dtype}. {_EXPECTED}. {_dtype_advice(array)}")
    if array.max() <= 1:
        raise NotAPicture(
            f"{array.dtype} with no level above 1, which looks like 0..1 cast to whole numbers. {_EXPECTED}. "
            "Pass the floats themselves, or (255 * x).round().astype(np.uint8)"
        )
    return array if array.dtype == np.uint8 else scale_to_8_bits(array)


def _shape_advice(shape: tuple[int, ...]) -> str:
    if len(shape) == 3 and shape[0] in (1, 3, 4):
        return ". Channels come last: array.transpose(1, 2, 0)"
    if len(shape) == 3 and shape[2] == 2:
        return ". If the second channel is alpha: array[..., 0]"
    if len(shape) == 3:
        return (
            ". One picture at a time: of [n, height, width] array[0], of [height, width, n] array[..., 0], or all of "
            "the first kind to classify_many"
        )
    if len(shape) == 4:
        return ". One picture at a time: pass array[0], or all of them to classify_many"
    return ""


def _dtype_advice(array: npt.NDArray[Any]) -> str:
    if array.dtype.kind not in "iu":
        return "Convert it with astype, once you know its range"
    low, high = int(array.min()), int(array.max())
    if low < 0:
        return f"Levels run from {low} to {high}: shift and scale them by the range that your detector or file defines"
    return "If these are grey levels: array.astype(np.uint8) up to 255, array.astype(np.uint16) beyond"


def float_to_8_bits(levels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Floats of 0..1 or of 0..255 to 8 bits; which of them, the largest level says.

    Raises:
        NotAPicture: They fit neither range.
    """
    low, high = float(levels.min()), float(levels.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise NotAPicture(f"not every level is a finite number. {_EXPECTED}")
    if low < 0:
        raise NotAPicture(f"levels run from {low:g} to {high:g}, {_normalised(low, high)}")
    if high > 255 or 1 < high < _SMALLEST_WHITE:
        raise NotAPicture(
            f"levels run from {low:g} to {high:g}, which fits neither 0..1 nor 0..255. {_EXPECTED}. "
            "Divide by the largest level that the detector or the file can hold, not by the largest in this picture"
        )
    scaled = levels.astype(np.float32) * np.float32(255 if high <= 1 else 1)
    grey: npt.NDArray[np.uint8] = np.rint(scaled, out=scaled).astype(np.uint8)
    return grey


def _normalised(low: float, high: float) -> str:
    if low >= -1 and high <= 1:
        remedy = "normalised to -1..1. Undo it: (x + 1) / 2"
    elif low >= -1024 and high <= 1024 and high - low > 64:
        remedy = "normalised to -1024..1024, as torchxrayvision does. Undo it: (x + 1024) / 2048"
    else:
        remedy = "normalised by a mean and a deviation. Undo it: x * deviation + mean"
    return f"as if {remedy}. Normalisation is done inside the network. {_EXPECTED}"


def scale_to_8_bits(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Integer grey levels of up to 16 bits to 8 bits.

    The depth is the smallest of 8, 10, 12, 14 and 16 bits that holds the largest value, because
    detectors of 10 to 14 bits store their films in 16-bit files without scaling.

    Raises:
        NotAPicture: A value is negative or needs more than 16 bits.
    """
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > 65535:
        raise NotAPicture(f"grey levels run from {low} to {high}; expected 0 to 65535")
    depth = next(bits for bits in _DEPTHS if high < 2**bits)
    if depth == 8:
        return pixels.astype(np.uint8)
    # By table: no float copy of a picture of 50 million pixels.
    table = np.rint(np.arange(2**depth, dtype=np.float32) * (255.0 / (2**depth - 1))).astype(np.uint8)
    levels: npt.NDArray[np.uint8] = table[pixels]
    return levels


def check_not_constant(image: Image.Image) -> None:
    """Refuse a picture (mode ``L``) without anything on it."""
    low, high = image.resize(_A_FEW, Image.Resampling.NEAREST).getextrema()
    if low == high:  # as those few are; of almost every picture they differ, and the others need no look
        low, high = image.getextrema()
    if low == high:
        raise NotAPicture(f"all pixels have the same level ({low:g}): there is nothing to classify")
