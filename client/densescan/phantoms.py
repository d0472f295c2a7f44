"""Drawn pictures to try the classifiers with: no patient, no data set, and marked as such.

They look like a chest film and an axial head slice, and mean nothing: no finding is drawn, and
what a classifier says about them is no more than a sign that it answers.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ._phantom_canvas import Canvas, Field
from ._phantom_chest import draw_chest
from ._phantom_head import draw_head
from .tasks import MRI, XRAY, Task, get_task

MARK: Final = "SYNTHETIC"
"""What is written into a corner of every phantom."""

MIN_SIZE: Final = 128
"""Smallest side at which the mark can still be read, in pixels."""

_DRAW: Final = {XRAY.name: draw_chest, MRI.name: draw_head}
_NOISE: Final = {XRAY.name: 0.012, MRI.name: 0.018}


def draw_phantom(task: str | Task, *, seed: int = 0, size: int = 512) -> Image.Image:
    """Draw a stylised chest film or head slice.

    Args:
        task: ``"xray"`` or ``"mri"``.
        seed: Equal seeds draw equal pictures, other seeds other anatomy.
        size: Side of the square, in pixels, 128 or more.

    Returns:
        An 8-bit grey image (mode ``L``) with the word SYNTHETIC in its lower left corner.

    Raises:
        ValueError: There is no such task, or `size` is too small.
    """
    name = get_task(task).name
    if size < MIN_SIZE:
        raise ValueError(f"size is {size}; expected {MIN_SIZE} pixels or more")
    canvas = Canvas(size, np.random.default_rng(seed))
    field = _DRAW[name](canvas)
    grain = canvas.rng.normal(0, _NOISE[name], field.shape).astype(np.float32)
    return _marked(np.abs(field + grain))


def _marked(field: Field) -> Image.Image:
    image = Image.fromarray(np.uint8(np.clip(field, 0, 1) * 255))
    size = image.width
    font = ImageFont.load_default(size=max(9, size / 34))
    edge = size * 0.025
    ImageDraw.Draw(image).text(
        (edge, size - edge), MARK, fill=235, font=font, anchor="ls", stroke_width=max(1, size // 400), stroke_fill=0
    )
    return image
