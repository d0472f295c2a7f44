"""Soft shapes on a square, in coordinates -1..1 (x to the right, y downwards), as fields of 0..1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

Field: TypeAlias = npt.NDArray[np.float32]
"""Brightness or coverage, float32 [side, side]."""

Point: TypeAlias = tuple[float, float]


class Canvas:
    """Draws shapes with soft edges; lengths are fractions of half the side.

    Attributes:
        side: Side of the square, in pixels.
        rng: Where every chance of the picture comes from.
        x: Horizontal coordinate of each pixel.
        y: Vertical coordinate of each pixel.
    """

    def __init__(self, side: int, rng: np.random.Generator) -> None:
        self.side = side
        self.rng = rng
        axis = (np.arange(side, dtype=np.float32) + 0.5) * (2 / side) - 1
        self.x, self.y = np.meshgrid(axis, axis)

    def blank(self) -> Field:
        """Nothing: all zero."""
        return np.zeros((self.side, self.side), np.float32)

    def shape(self, points: Sequence[Point], soft: float) -> Field:
        """A closed, smooth outline through `points`, filled."""
        image = Image.new("L", (self.side, self.side))
        ImageDraw.Draw(image).polygon(self._pixels(spline(points, closed=True)), fill=255)
        return self._blurred(image, soft)

    def strokes(self, paths: Sequence[tuple[Sequence[Point], float]], soft: float) -> Field:
        """Smooth lines through the points of each path, each of its own width."""
        image = Image.new("L", (self.side, self.side))
        draw = ImageDraw.Draw(image)
        for points, width in paths:
            pixels = max(1, round(width * self.side / 2))
            draw.line(self._pixels(spline(points)), fill=255, width=pixels, joint="curve")
        return self._blurred(image, soft)

    def ellipse(self, centre: Point, radii: Point, soft: float) -> Field:
        """A filled ellipse whose edge fades over about `soft`."""
        u, v = (self.x - centre[0]) / radii[0], (self.y - centre[1]) / radii[1]
        distance = (np.sqrt(u * u + v * v) - 1) * min(radii)
        return step(-distance, soft)

    def noise(self, cycles: float, spread: float) -> Field:
        """Random texture of about `cycles` waves across the square, unit variance.

        A narrow `spread` gives a labyrinth of folds, a wide one clouds.
        """
        frequency = np.fft.fftfreq(self.side, 1 / self.side)
        radius = np.hypot(*np.meshgrid(frequency, frequency))
        keep = np.exp(-0.5 * ((radius - cycles) / spread) ** 2)
        white = self.rng.standard_normal((self.side, self.side))
        texture = np.fft.ifft2(np.fft.fft2(white) * keep).real
        result: Field = (texture / texture.std()).astype(np.float32)
        return result

    def blur(self, field: Field, soft: float) -> Field:
        """`field`, 0..1, smoothed over about `soft`."""
        return self._blurred(Image.fromarray(np.uint8(np.clip(field, 0, 1) * 255)), soft)

    def _pixels(self, points: Sequence[Point]) -> list[Point]:
        return [((x + 1) * self.side / 2, (y + 1) * self.side / 2) for x, y in points]

    def _blurred(self, image: Image.Image, soft: float) -> Field:
        smooth = image.filter(ImageFilter.GaussianBlur(soft * self.side / 2))
        return np.asarray(smooth, np.float32) / 255


def step(values: Field, soft: float) -> Field:
    """0 where `values` are far below zero, 1 far above, a slope of width `soft` between."""
    result: Field = (0.5 + 0.5 * np.tanh(values / np.float32(soft))).astype(np.float32)
    return result


def mix(below: Field, above: Field | float, coverage: Field) -> Field:
    """`above` painted over `below` where `coverage` is 1."""
    return below + (above - below) * coverage


def mirrored(points: Sequence[Point]) -> list[Point]:
    """The same outline on the other side of the midline."""
    return [(-x, y) for x, y in points]


def spline(points: Sequence[Point], *, closed: bool = False, steps: int = 12) -> list[Point]:
    """A Catmull-Rom curve through `points`."""
    knots = np.asarray(points, float)
    ends = (knots[-1:], knots[:2]) if closed else (knots[:1], knots[-1:])
    around = np.concatenate([ends[0], knots, ends[1]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    curve: list[Point] = []
    for a, b, c, d in zip(around, around[1:], around[2:], around[3:], strict=False):
        part = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
        curve.extend((float(x), float(y)) for x, y in part)
    return curve if closed else [*curve, (float(knots[-1][0]), float(knots[-1][1]))]
