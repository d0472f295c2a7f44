"""Text, colours and boxes of the figures, drawn with Pillow alone."""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .colormaps import colours

BACKGROUND: Final = (17, 19, 24)
PANEL: Final = (0, 0, 0)
RULE: Final = (58, 63, 74)
TEXT: Final = (240, 242, 246)
QUIET: Final = (160, 167, 180)
ACCENT: Final = (252, 176, 20)
"""Of what the map explains: the upper half of inferno, clear of the grey of the picture."""
TRACK: Final = (40, 44, 53)
BAR: Final = (116, 124, 140)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@cache
def font(size: int) -> Font:
    """Pillow's own font at a height in pixels."""
    return ImageFont.load_default(size)


def text_width(text: str, size: int) -> float:
    """Width of a line of text, in pixels."""
    return font(size).getlength(printable(text))


def printable(text: str) -> str:
    """`text` in the characters that the font has; what it has not becomes a question mark."""
    return text.encode("latin-1", "replace").decode("latin-1")


def shortened(text: str, size: int, width: float) -> str:
    """`text`, with its middle left out where it is wider than `width` pixels."""
    text = printable(text)
    if text_width(text, size) <= width:
        return text
    for kept in range(len(text) - 1, 1, -1):
        cut = f"{text[: kept // 3]}...{text[len(text) - (kept - kept // 3) :]}"
        if text_width(cut, size) <= width:
            return cut
    return ""


def write(
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    size: int,
    colour: tuple[int, int, int] = TEXT,
    anchor: str = "la",
) -> None:
    """One line of text; `anchor` is Pillow's: which point of the text stands at `at`."""
    draw.text(at, printable(text), fill=colour, font=font(size), anchor=anchor)


def colour_bar(width: int, height: int, colormap: str) -> Image.Image:
    """A scale from 1 at the top to 0 at the bottom."""
    values = np.linspace(1, 0, height, dtype=np.float32)[:, np.newaxis]
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(colours(values, colormap), (height, width, 3))))


def fitted(image: Image.Image, width: int, height: int) -> Image.Image:
    """`image`, enlarged or reduced to fit a box, keeping its proportions."""
    factor = min(width / image.width, height / image.height)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.LANCZOS)
