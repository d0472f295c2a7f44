"""A stylised axial slice of a head at the height of the lateral ventricles, forehead upwards."""

from __future__ import annotations

import numpy as np

from ._phantom_canvas import Canvas, Field, Point, mirrored, mix, step

_HORN: list[Point] = [
    (0.025, -0.10), (0.045, -0.26), (0.10, -0.36), (0.165, -0.37), (0.135, -0.24), (0.085, -0.08), (0.075, 0.06),
    (0.12, 0.20), (0.205, 0.36), (0.20, 0.42), (0.13, 0.36), (0.06, 0.22), (0.03, 0.08),
]  # fmt: skip
_CAUDATE: list[Point] = [(0.13, -0.20), (0.18, -0.33), (0.23, -0.26), (0.21, -0.12), (0.15, -0.06)]
_PUTAMEN: list[Point] = [(0.27, -0.20), (0.35, -0.10), (0.36, 0.05), (0.30, 0.14), (0.25, 0.02), (0.24, -0.10)]
_THALAMUS: list[Point] = [(0.03, 0.00), (0.10, -0.03), (0.17, 0.06), (0.17, 0.17), (0.10, 0.21), (0.04, 0.14)]
_SYLVIAN: list[Point] = [(0.60, 0.03), (0.52, 0.00), (0.455, -0.03), (0.43, 0.05), (0.425, 0.13)]
_INSULA: list[Point] = [(0.455, -0.03), (0.44, -0.10), (0.40, -0.16)]

_SCALP, _BONE, _FLUID, _GREY, _WHITE = 0.72, 0.10, 0.11, 0.42, 0.66


def draw_head(canvas: Canvas) -> Field:
    """Brightness 0..1 of one slice."""
    width, length = canvas.rng.uniform(0.70, 0.74), canvas.rng.uniform(0.87, 0.91)
    inside = _depth(canvas, width, length)
    slice_ = canvas.blank() + np.float32(0.015)
    slice_ = mix(slice_, _SCALP + 0.06 * canvas.noise(14, 8), step(inside, 0.012))
    slice_ = mix(slice_, _BONE + 0.10 * step(0.014 - np.abs(inside - 0.080), 0.012), step(inside - 0.045, 0.010))
    slice_ = mix(slice_, _FLUID, step(inside - 0.115, 0.010))
    slice_ = mix(slice_, _brain(canvas, inside, width, length), step(inside - 0.132, 0.012))
    slice_ = _midline(canvas, slice_, inside)
    shading = 1 + 0.10 * canvas.noise(1.2, 0.6)  # the coil's uneven field
    result: Field = slice_ * np.clip(shading, 0.88, 1.12)
    return result


def _depth(canvas: Canvas, width: float, length: float) -> Field:
    """How far inside the scalp each pixel lies, in half sides; negative outside."""
    radius = np.sqrt((canvas.x / _half_width(width, canvas.y)) ** 2 + (canvas.y / length) ** 2)
    result: Field = ((1 - radius) * np.float32(0.78) + 0.003 * canvas.noise(2.5, 1)).astype(np.float32)
    return result


def _half_width(width: float, y: Field | float) -> Field | float:
    return width * (1 + 0.07 * y - 0.05 * y * y)  # wider at the back


def _brain(canvas: Canvas, inside: Field, width: float, length: float) -> Field:
    """White matter under a folded cortex, with the deep grey nuclei and the ventricles."""
    furrows = _furrows(canvas, width, length)
    ripple = 0.012 * canvas.noise(9, 2) + 0.006 * canvas.noise(22, 6)
    ribbon = canvas.strokes([(path, 0.064) for path in furrows], 0.012)
    # Furrows are lined with grey as well, which is what makes the boundary fold.
    grey = np.maximum(step(0.046 + ripple - (inside - 0.132), 0.012), step(ribbon - 0.42 + 8 * ripple, 0.25))
    brain = mix(_WHITE + 0.012 * canvas.noise(30, 15), _GREY + 0.02 * canvas.noise(18, 8), grey)
    brain = mix(brain, _FLUID + 0.03, 0.9 * canvas.strokes([(path, 0.015) for path in furrows], 0.005))
    for outline, level in ((_CAUDATE, _GREY), (_PUTAMEN, _GREY + 0.02), (_THALAMUS, _GREY + 0.05)):
        brain = mix(brain, level, _pair(canvas, outline, 0.012))
    return mix(brain, _FLUID, _pair(canvas, _HORN, 0.008, canvas.rng.uniform(0.9, 1.15)))


def _furrows(canvas: Canvas, width: float, length: float) -> list[list[Point]]:
    """Paths of the furrows, from the surface inwards, some of them forked."""
    paths = [_SYLVIAN, _INSULA, mirrored(_SYLVIAN), mirrored(_INSULA)]
    for angle in np.arange(0.16, 2 * np.pi - 0.1, 0.262) + canvas.rng.normal(0, 0.03, 23):
        away_from_sylvian = min(abs(angle - 1.62), abs(angle - 4.66))
        if min(angle, abs(angle - np.pi), 2 * np.pi - angle) < 0.12 or away_from_sylvian < 0.14:
            continue
        deep = canvas.rng.choice((0.09, 0.14, 0.22), p=(0.3, 0.4, 0.3))
        turn = canvas.rng.normal(0, 0.11)
        trunk = [(1 - 0.155 - deep * part, angle + turn * part**2) for part in (-0.1, 0.3, 0.6, 1.0)]
        paths.append([_place(at, around, width, length) for at, around in trunk])
        if deep > 0.1:
            at, around = trunk[2]
            fork = [
                (at, around),
                (at - 0.04, around - np.sign(turn) * 0.07),
                (at - 0.06, around - np.sign(turn) * 0.14),
            ]
            paths.append([_place(*point, width, length) for point in fork])
    return paths


def _place(radius: float, angle: float, width: float, length: float) -> Point:
    """The point at this part of the head's radius; angles run clockwise from the forehead."""
    y = -radius * length * float(np.cos(angle))
    return radius * float(_half_width(width, y)) * float(np.sin(angle)), y


def _pair(canvas: Canvas, outline: list[Point], soft: float, wide: float = 1.0) -> Field:
    """One shape on both sides, never quite equal."""
    left, right = ([(x * wide * canvas.rng.uniform(0.96, 1.04), y) for x, y in outline] for _ in range(2))
    return np.maximum(canvas.shape(left, soft), canvas.shape(mirrored(right), soft))


def _midline(canvas: Canvas, slice_: Field, inside: Field) -> Field:
    """The fissure between the hemispheres with the falx in it, and the third ventricle."""
    bend = 0.006 * np.sin(canvas.y * np.float32(9.0)) + 0.006 * canvas.noise(5, 2) * (inside > 0)
    away = np.abs(canvas.x - bend)
    ends = np.maximum(step(-0.44 - canvas.y, 0.02), step(canvas.y - 0.44, 0.02)) * step(inside - 0.13, 0.01)
    ribbon = mix(slice_, _GREY, 0.9 * ends * step(0.050 - away, 0.010))
    fissure = mix(ribbon, _FLUID + 0.03, ends * step(0.016 - away, 0.006))
    falx = mix(fissure, 0.45, 0.8 * ends * step(0.004 - away, 0.003))
    third = canvas.ellipse((0.0, 0.09), (0.016, 0.10), 0.008)
    return mix(falx, _FLUID, third)
