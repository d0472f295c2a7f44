"""A map in colours over a grey picture: the arithmetic, without any text."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from .colormaps import DEFAULT_COLORMAP, colours

DEFAULT_ALPHA: Final = 0.6
"""How much of the picture the hottest place hides, 0 to 1."""

CONTOUR: Final = 0.5
"""The heat that a line marks: half of the largest."""

_LINE_PX: Final = 1.2
_LINE_ALPHA: Final = 0.85
_WHITE: Final = np.float32(255)


def blend(
    picture: Image.Image,
    heat: npt.NDArray[np.float32],
    alpha: float,
    colormap: str = DEFAULT_COLORMAP,
    *,
    line_px: float = _LINE_PX,
) -> Image.Image:
    """The heat in colours over the picture, covering it the more the hotter a place is.

    Args:
        picture: 8-bit grey (mode ``L``).
        heat: float32 [height, width] in 0..1, of the picture's size.
        alpha: How much of the picture the hottest place hides, 0 to 1.
        colormap: As in `densescan.colormaps`.
        line_px: Width of the line at half of the largest heat, in pixels; 0 draws none.

    Returns:
        An RGB image of the picture's size.

    Raises:
        ValueError: `alpha` is outside its range, or there is no such colour map.
    """
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha is {alpha}; expected 0 (only the picture) to 1")
    grey = np.asarray(picture, np.float32)[:, :, np.newaxis]
    cover = (alpha * _eased(heat))[:, :, np.newaxis]
    mixed = grey * (1 - cover) + colours(heat, colormap).astype(np.float32) * cover
    if line_px > 0 and alpha > 0:
        line = (_LINE_ALPHA * contour(heat, line_px))[:, :, np.newaxis]
        mixed = mixed * (1 - line) + _WHITE * line
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def _eased(heat: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """0..1 to 0..1 with a slope of zero at both ends, so that no edge shows where the heat begins."""
    return heat * heat * (3 - 2 * heat)


def contour(heat: npt.NDArray[np.float32], width_px: float) -> npt.NDArray[np.float32]:
    """How much of each pixel the line at `CONTOUR` covers: float32 [height, width] in 0..1, smooth at its rims."""
    down, right = np.gradient(heat)
    steepness = np.hypot(down, right)
    # Where the map is flat no line runs; the quotient is the distance to the line in pixels.
    distance = np.abs(heat - CONTOUR) / np.maximum(steepness, np.float32(1e-6))
    covered: npt.NDArray[np.float32] = np.clip(width_px / 2 + 0.5 - distance, 0, 1).astype(np.float32)
    return covered
