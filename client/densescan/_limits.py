"""How large a file or a picture may be, and how small. No I/O."""

from __future__ import annotations

from typing import Final

from .errors import InvalidImage

MAX_FILE_BYTES: Final = 64 * 2**20
"""Largest encoded file that is read, in bytes."""

MAX_PIXELS: Final = 50_000_000
"""Largest picture that is decoded, in pixels; a full-size chest film has 4 to 16 million."""

MIN_SIDE: Final = 32
"""Smallest side of a picture worth classifying, in pixels."""

MAX_ASPECT: Final = 5.0
"""Longest side over shortest; beyond it the picture is a strip, not a film or a slice."""


def check_size(size: tuple[int, int], name: str, max_pixels: int) -> None:
    """Refuse a picture by its width and height.

    Raises:
        InvalidImage: It is too large, too small, or a strip.
    """
    width, height = size
    if width * height > max_pixels:
        raise InvalidImage(name, f"{width}x{height} is over the limit of {max_pixels:,} pixels (max_pixels)")
    if min(width, height) < MIN_SIDE:
        raise InvalidImage(name, f"{width}x{height} is too small; both sides must have {MIN_SIDE} pixels or more")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise InvalidImage(name, f"{width}x{height} is a strip, not a film or a slice (sides over {MAX_ASPECT:g} : 1)")
