"""What an explanation answers: a classification, and the map of what spoke for a label."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from .colormaps import DEFAULT_COLORMAP
from .overlay import DEFAULT_ALPHA, blend
from .results import Classification

MAX_PICTURE_SIDE: Final = 1024
"""Longest side that `Explanation.picture` is kept at, in pixels."""

_HEAT_DIGITS: Final = 4


@dataclass(frozen=True, eq=False)
class Explanation:
    """One picture, classified, and with Grad-CAM what speaks for one of its labels.

    The map says where the network looked for that label, as coarsely as its last layer sees: 7 by 7
    places. It does not outline a finding, and a map of a wrong answer looks as convincing.

    Attributes:
        classification: What `classify_*` would have answered, by the gradient model.
        target: The label that the map explains: the caller's, else `classification.label`.
        heatmap: float32 [7, 7], read-only, in 0..1: the largest value is 1, or all are 0 where
            nothing speaks for the label.
        picture: The picture in 8-bit grey (mode ``L``), upright, with sides of at most 1024 pixels.
        size: Width and height of the picture as it was given, in pixels.
    """

    classification: Classification
    target: str
    heatmap: npt.NDArray[np.float32] = field(repr=False)
    picture: Image.Image = field(repr=False)
    size: tuple[int, int]

    @property
    def is_empty(self) -> bool:
        """Whether nothing in the picture speaks for the label: the map is zero everywhere."""
        return not self.heatmap.any()

    def heatmap_at(self, size: tuple[int, int] | None = None) -> npt.NDArray[np.float32]:
        """The map, smoothly enlarged.

        Each of the 7 by 7 values stands at the middle of its place, so that the map lies over the
        picture without a shift; in between a bicubic curve runs, cut off at 0 and 1.

        Args:
            size: Width and height in pixels; by default those of the picture as it was given.

        Returns:
            float32 [height, width] in 0..1.
        """
        enlarged = Image.fromarray(self.heatmap).resize(size or self.size, Image.Resampling.BICUBIC)
        return np.clip(np.asarray(enlarged, np.float32), 0.0, 1.0)

    def overlay(
        self, alpha: float = DEFAULT_ALPHA, colormap: str = DEFAULT_COLORMAP, *, annotate: bool = True
    ) -> Image.Image:
        """The map in colours over the picture.

        The colours cover the picture the more the hotter a place is, and not at all where the map is
        zero, so that the anatomy stays visible. A line marks half of the largest heat.

        Args:
            alpha: How much of the picture the hottest place hides, 0 to 1.
            colormap: ``inferno``, ``viridis`` or ``cividis``; all can be told apart by readers who
                see no red or no green, and in grey print.
            annotate: Add the label with its confidence, a colour bar and the research-only line
                around the picture; without them the image has the size of `picture`.

        Returns:
            An RGB image.

        Raises:
            ValueError: `alpha` is outside its range, or there is no such colour map.
        """
        if not annotate:
            return blend(self.picture, self.heatmap_at(self.picture.size), alpha, colormap)
        from ._figures import annotated

        return annotated(self, alpha, colormap)

    def save(
        self,
        path: str | os.PathLike[str],
        alpha: float = DEFAULT_ALPHA,
        colormap: str = DEFAULT_COLORMAP,
        *,
        annotate: bool = True,
    ) -> Path:
        """Write the `overlay` to a file, in the format that its suffix names; returns the path.

        Raises:
            ValueError: As in `overlay`, or the suffix names no format.
            OSError: The file cannot be written.
        """
        return save_image(self.overlay(alpha, colormap, annotate=annotate), Path(path))

    def to_dict(self) -> dict[str, object]:
        """The same as plain values that `json.dumps` takes, without the picture."""
        return {
            **self.classification.to_dict(),
            "target": self.target,
            "heatmap": [[round(float(value), _HEAT_DIGITS) for value in row] for row in self.heatmap],
        }


def save_image(image: Image.Image, path: Path) -> Path:
    """Write an image in the format that the suffix names, aside first, so that nobody reads half a picture."""
    aside = path.with_name(f"part-{secrets.token_hex(8)}{path.suffix}")  # a name that no file of the user's has
    try:
        image.save(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return path
