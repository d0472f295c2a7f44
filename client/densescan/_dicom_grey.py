"""What grey a stored value of a DICOM picture stands for, as a table of them. No I/O.

Stored value, rescale or modality table, window or VOI table, MONOCHROME1 inverted: in this order,
by DICOM PS3.3 C.11 and PS3.14.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from ._dicom_elements import Elements

_Values = npt.NDArray[np.float64]
_VALUES: Final = 2**16


def grey_table(frame: Elements, stored: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """Grey of each stored value.

    Args:
        frame: The elements that hold for this frame.
        stored: Its values; signed ones by their bit pattern. Only what occurs in it counts for
            a picture without a window.

    Returns:
        uint8, indexed by the stored value's bit pattern, and as long as the largest of these takes: most detectors
        use 12 of 16 bits, and in a series of small frames the tables take longer than the frames.
    """
    signed = frame.number("PixelRepresentation", 0) == 1
    patterns = np.arange(int(stored.max()) + 1, dtype=np.uint16)
    values = (patterns.view(np.int16) if signed else patterns).astype(np.float64)
    padding = _padding(frame, values, signed)
    occurs = np.bincount(stored.ravel(), minlength=len(values)).astype(bool) & ~padding
    if not occurs.any():
        return np.zeros(len(values), np.uint8)
    share = _window(frame, _rescale(frame, values, signed), occurs, signed)
    grey: npt.NDArray[np.uint8] = np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)
    if frame.text("PhotometricInterpretation") == "MONOCHROME1":
        grey = np.uint8(255) - grey
    grey[padding] = 0
    return grey


def palette_table(dataset: Any, dtype: np.dtype[Any]) -> npt.NDArray[np.uint8]:
    """Grey of each stored value of a PALETTE COLOR picture: the luma of its colour.

    By table, because the largest picture in colours does not fit into a gigabyte.

    Args:
        dataset: The pydicom Dataset that holds the palette.
        dtype: Of the stored values, 8 or 16 bits.

    Returns:
        uint8 [256 or 65536], indexed by the stored value's bit pattern.
    """
    from pydicom.pixels.processing import apply_color_lut

    values = np.arange(1 << 8 * dtype.itemsize, dtype=f"u{dtype.itemsize}").view(dtype)
    colours = apply_color_lut(values[np.newaxis], dataset)
    colours = (colours >> 8 if colours.dtype == np.uint16 else colours).astype(np.uint8)
    luma: npt.NDArray[np.uint8] = np.asarray(Image.fromarray(colours).convert("L"))[0]
    return luma


def _padding(frame: Elements, values: _Values, signed: bool) -> npt.NDArray[np.bool_]:
    ends = frame.numbers("PixelPaddingValue", signed=signed)[:1]
    if not ends:
        return np.zeros(len(values), np.bool_)
    ends += frame.numbers("PixelPaddingRangeLimit", signed=signed)[:1]
    return (values >= min(ends)) & (values <= max(ends))


def _rescale(frame: Elements, values: _Values, signed: bool) -> _Values:
    table = frame.item("ModalityLUTSequence")
    if table is not None and (looked_up := _look_up(table, values, signed)) is not None:
        return looked_up[0]
    slope = frame.number("RescaleSlope", 1) or 1.0
    return values * slope + frame.number("RescaleIntercept", 0)


def _window(frame: Elements, values: _Values, occurs: npt.NDArray[np.bool_], signed: bool) -> _Values:
    """The share of white, 0 to 1 and beyond, of each value."""
    table = frame.item("VOILUTSequence")
    if table is not None and (looked_up := _look_up(table, values, signed)) is not None:
        return looked_up[0] / looked_up[1]
    centre, width = frame.numbers("WindowCenter"), frame.numbers("WindowWidth")
    if centre and width:
        function = frame.text("VOILUTFunction")
        if function == "SIGMOID" and width[0] > 0:
            return _share(1 / (1 + np.exp(np.clip(-4 * (values - centre[0]) / width[0], -700, 700))))
        if function == "LINEAR_EXACT" and width[0] > 0:
            return _share((values - centre[0]) / width[0] + 0.5)
        if width[0] > 1:
            return _share((values - (centre[0] - 0.5)) / (width[0] - 1) + 0.5)
        if width[0] == 1:
            return (values > centre[0] - 0.5).astype(np.float64)
    bits = int(frame.number("BitsStored", 16))
    plain = frame.number("RescaleSlope", 1) in (0, 1) and frame.number("RescaleIntercept", 0) == 0
    if bits <= 8 and plain and not signed:
        return _share(values / (2**bits - 1))  # ready to be shown
    # Without a window a viewer shows the darkest value black and the brightest white.
    low, high = values[occurs].min(), values[occurs].max()
    return _share((values - low) / max(high - low, 1e-9))


def _share(values: Any) -> _Values:
    shares: _Values = np.asarray(values, np.float64)
    return shares


def _look_up(table: Any, values: _Values, signed: bool) -> tuple[_Values, float] | None:
    """Each value through a table, and the table's white; None if it is damaged."""
    elements = Elements(table)
    descriptor = elements.numbers("LUTDescriptor")
    if len(descriptor) != 3:
        return None
    # The second number has the sign of the stored values, the others have none.
    first = elements.numbers("LUTDescriptor", signed=signed)[1]
    if first >= 2**15 and values.min() < 0:  # a rescale has given what is looked up a sign that the stored ones lack
        first -= 2**16
    count = int(descriptor[0]) or _VALUES
    words = elements.words("LUTData")
    if descriptor[2] == 8 and words.size == (count + 1) // 2:  # two entries a word, the lower byte first
        words = np.stack([words & 0xFF, words >> 8], axis=1).ravel()
    entries = words[:count].astype(np.float64)
    if entries.size == 0 or not 8 <= descriptor[2] <= 16:
        return None
    index = np.clip(values - first, 0, entries.size - 1).astype(np.intp)
    return entries[index], 2.0 ** descriptor[2] - 1
