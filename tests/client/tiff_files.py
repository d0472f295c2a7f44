"""TIFF files that Pillow reads and does not write."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

_SHORT, _LONG = 3, 4
_DIRECTORY = 14


def tiff(levels: npt.NDArray[Any], *, photometric: int, planes: bool = False) -> bytes:
    """An uncompressed file of [height, width] or [height, width, 3] little-endian levels.

    `photometric` says what they mean: 0 white is zero, 1 black is zero, 2 RGB. With `planes`, each colour has its own.
    """
    height, width, *colours = levels.shape
    samples, bits, data = (colours or [1])[0], levels.dtype.itemsize * 8, levels.tobytes()
    if planes:
        data = np.moveaxis(levels, 2, 0).tobytes()
    depth = (_SHORT, samples, bits if samples == 1 else 8)  # three do not fit in: they are in byte 8 and after it
    values = {256: width, 257: height, 258: depth, 259: 1, 262: photometric, 273: 0, 277: samples, 278: height}
    values |= {279: len(data), 284: 2 if planes else 1, 339: 3 if levels.dtype.kind == "f" else 1}
    values[273] = _DIRECTORY + 2 + 12 * len(values) + 4
    entries = [(tag, *(value if isinstance(value, tuple) else (_LONG, 1, value))) for tag, value in values.items()]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I3H", _DIRECTORY, bits, bits, bits) + directory + bytes(4) + data
