"""The two figures of explanations: one with its label and scale, and a sheet of several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from PIL import Image, ImageDraw

from . import _canvas
from ._canvas import ACCENT, BACKGROUND, BAR, PANEL, QUIET, RULE, TEXT, TRACK, shortened, write
from .colormaps import DEFAULT_COLORMAP, colours
from .overlay import DEFAULT_ALPHA, blend
from .results import percent
from .tasks import RESEARCH_ONLY, TASKS

if TYPE_CHECKING:
    from .explanation import Explanation
    from .results import Classification

_MARGIN: Final = 28
_BOX: Final = 720  # the picture of a single figure is fitted into a square of this side
_HEADER: Final = 104
_FOOTER: Final = 62
_SCALE: Final = 92

_CELL: Final = 300  # side of a panel of the sheet
_GAP: Final = 16
_BARS: Final = 400
_TITLE: Final = 84
_HEADS: Final = 34
_CAPTION: Final = 30

EMPTY: Final = "nothing here speaks for it: the map is empty"


def annotated(explanation: Explanation, alpha: float, colormap: str) -> Image.Image:
    """The overlay with label, confidence, colour bar and the research-only line around it: RGB."""
    picture = _canvas.fitted(explanation.picture, _BOX, _BOX)
    heat = explanation.heatmap_at(picture.size)
    width = max(picture.width, 420) + _SCALE + 2 * _MARGIN
    figure = Image.new("RGB", (width, _HEADER + picture.height + _FOOTER), BACKGROUND)
    draw = ImageDraw.Draw(figure)
    left = _MARGIN + (width - _SCALE - 2 * _MARGIN - picture.width) // 2
    figure.paste(blend(picture, heat, alpha, colormap, line_px=2), (left, _HEADER))
    _header(draw, explanation, width)
    _scale(figure, draw, (left + picture.width + 22, _HEADER), picture.height, colormap)
    below = _HEADER + picture.height + 12
    what = f"Grad-CAM for {explanation.target}" + (
        f": {EMPTY}" if explanation.is_empty else "; the line marks half of the peak"
    )
    write(draw, (_MARGIN, below), what, 16, ACCENT)
    write(draw, (_MARGIN, below + 22), RESEARCH_ONLY, 14, QUIET)
    return figure


def _header(draw: ImageDraw.ImageDraw, explanation: Explanation, width: int) -> None:
    result = explanation.classification
    write(draw, (_MARGIN, 22), result.label, 38)
    write(draw, (width - _MARGIN, 22), percent(result.confidence), 38, anchor="ra")
    about = f"{_title(result)}, {_name(explanation)}"
    write(draw, (_MARGIN, 70), shortened(about, 16, width - 2 * _MARGIN), 16, QUIET)


def _scale(figure: Image.Image, draw: ImageDraw.ImageDraw, at: tuple[int, int], height: int, colormap: str) -> None:
    left, top = at
    bar = _canvas.colour_bar(18, height, colormap)
    figure.paste(bar, (left, top))
    for value, name in ((1.0, "most"), (0.5, "half"), (0.0, "none")):
        y = top + round((1 - value) * (height - 1))
        draw.line((left + 18, y, left + 23, y), QUIET)
        write(draw, (left + 28, y), name, 15, QUIET, anchor={1.0: "lt", 0.5: "lm", 0.0: "ls"}[value])


def contact_sheet(
    explanations: Sequence[Explanation],
    *,
    alpha: float = DEFAULT_ALPHA,
    colormap: str = DEFAULT_COLORMAP,
    title: str = "",
) -> Image.Image:
    """A sheet with a row for each explanation: original, map, overlay, and the probabilities as bars.

    Args:
        explanations: At least one; about ten make a page.
        alpha: As in `Explanation.overlay`.
        colormap: As in `Explanation.overlay`.
        title: What stands above; by default the tasks of the pictures.

    Returns:
        An RGB image.

    Raises:
        ValueError: There are no explanations, or an argument is outside its range.
    """
    if not explanations:
        raise ValueError("a contact sheet needs at least one explanation")
    width = 2 * _MARGIN + 3 * (_CELL + _GAP) + _BARS
    row = _CELL + _CAPTION + _GAP
    top = _TITLE + _HEADS
    sheet = Image.new("RGB", (width, top + row * len(explanations) + 24), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    tasks = dict.fromkeys(_title(explanation.classification) for explanation in explanations)
    write(draw, (_MARGIN, 24), title or f"Grad-CAM: {' and '.join(tasks)}", 30)
    write(draw, (width - _MARGIN, 34), RESEARCH_ONLY, 15, QUIET, anchor="ra")
    for column, name in enumerate(("original", "map", "overlay", "probabilities")):
        write(draw, (_MARGIN + column * (_CELL + _GAP), _TITLE), name, 16, QUIET)
    for number, explanation in enumerate(explanations):
        _row(sheet, draw, explanation, top + number * row, alpha, colormap)
    return sheet


def _row(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, explanation: Explanation, top: int, alpha: float, colormap: str
) -> None:
    picture = _canvas.fitted(explanation.picture, _CELL, _CELL)
    heat = explanation.heatmap_at(picture.size)
    panels = (
        picture.convert("RGB"),
        Image.fromarray(colours(heat, colormap)),
        blend(picture, heat, alpha, colormap, line_px=1.5),
    )
    for column, panel in enumerate(panels):
        left = _MARGIN + column * (_CELL + _GAP)
        draw.rectangle((left, top, left + _CELL - 1, top + _CELL - 1), PANEL)
        sheet.paste(panel, (left + (_CELL - panel.width) // 2, top + (_CELL - panel.height) // 2))
    write(draw, (_MARGIN, top + _CELL + 6), shortened(_name(explanation), 14, 3 * _CELL + 2 * _GAP), 14, QUIET)
    _bars(draw, explanation, _MARGIN + 3 * (_CELL + _GAP), top)


def _bars(draw: ImageDraw.ImageDraw, explanation: Explanation, left: int, top: int) -> None:
    """The decision in words, then a bar for each label."""
    result = explanation.classification
    positive = TASKS[result.task].positive if result.task in TASKS else None
    right = left + _BARS
    write(draw, (left, top), result.label, 28)
    write(draw, (right, top), percent(result.confidence), 28, anchor="ra")
    y = top + 48
    for label, probability in result.probabilities.items():
        explained = label == explanation.target
        write(draw, (left, y), label, 16, TEXT if label == result.label else QUIET)
        write(draw, (right, y), f"{probability:.3f}", 16, TEXT if label == result.label else QUIET, anchor="ra")
        box = (left, y + 22, right - 1, y + 31)
        draw.rectangle(box, TRACK)
        if round(probability * _BARS) > 0:
            draw.rectangle((left, box[1], left + round(probability * _BARS) - 1, box[3]), ACCENT if explained else BAR)
        if result.threshold is not None and label == positive:
            x = left + round(result.threshold * (_BARS - 1))
            draw.line((x, box[1] - 4, x, box[3] + 4), TEXT, 2)
        y += 48
    draw.line((left, y + 2, right, y + 2), RULE)
    notes = [(f"the map explains {explanation.target}", ACCENT)]
    if explanation.is_empty:
        notes.append((EMPTY, QUIET))
    if positive is not None and result.threshold is not None:
        notes.append((f"white mark: {positive} from {result.threshold:.3g} on", QUIET))
    for text, colour in notes:
        y += 22
        write(draw, (left, y - 10), text, 14, colour)


def _title(result: Classification) -> str:
    """What the task is called in a figure; one of the caller's own has its name alone."""
    return TASKS[result.task].title if result.task in TASKS else result.task


def _name(explanation: Explanation) -> str:
    source = explanation.classification.source or ""
    return PurePath(source).name or source
