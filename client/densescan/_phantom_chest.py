"""A stylised frontal chest film; the patient's right is on the left, as films are hung."""

from __future__ import annotations

import numpy as np

from ._phantom_canvas import Canvas, Field, Point, mirrored, mix, step

_RIGHT_LUNG: list[Point] = [
    (-0.31, -0.74), (-0.47, -0.66), (-0.60, -0.45), (-0.69, -0.12), (-0.74, 0.22), (-0.76, 0.52),
    (-0.66, 0.40), (-0.48, 0.30), (-0.30, 0.33), (-0.15, 0.43), (-0.13, 0.10), (-0.11, -0.25), (-0.13, -0.58),
]  # fmt: skip
_LEFT_LUNG: list[Point] = [
    (0.31, -0.74), (0.47, -0.66), (0.60, -0.45), (0.69, -0.12), (0.74, 0.22), (0.77, 0.56),
    (0.67, 0.46), (0.50, 0.38), (0.33, 0.42), (0.16, 0.50), (0.13, 0.10), (0.11, -0.25), (0.13, -0.58),
]  # fmt: skip
_TORSO: list[Point] = [
    (-0.15, -1.30), (-0.18, -0.94), (-0.40, -0.85), (-0.74, -0.77), (-0.98, -0.60), (-1.10, -0.30), (-1.00, 0.00),
    (-0.96, 0.35), (-0.99, 1.30), (0.99, 1.30), (0.96, 0.35), (1.00, 0.00), (1.10, -0.30), (0.98, -0.60),
    (0.74, -0.77), (0.40, -0.85), (0.18, -0.94), (0.15, -1.30),
]  # fmt: skip
_HEART: list[Point] = [
    (-0.10, -0.10), (-0.17, 0.10), (-0.18, 0.30), (-0.08, 0.46), (0.20, 0.52), (0.44, 0.46), (0.47, 0.33),
    (0.36, 0.13), (0.20, -0.06), (0.10, -0.22), (-0.04, -0.22),
]  # fmt: skip
_CLAVICLE: list[Point] = [(0.07, -0.58), (0.20, -0.63), (0.38, -0.66), (0.54, -0.72), (0.70, -0.73), (0.84, -0.69)]
_SCAPULA: list[Point] = [(0.66, -0.60), (0.88, -0.56), (0.92, -0.30), (0.80, 0.05), (0.74, -0.02), (0.70, -0.32)]


def draw_chest(canvas: Canvas) -> Field:
    """Brightness 0..1 of one film."""
    lungs = _lungs(canvas)
    film = _torso(canvas)
    film = mix(film, 0.17 + 0.05 * canvas.y, lungs)
    film += _vessels(canvas) * lungs
    film += _ribs(canvas) * (0.30 + 0.70 * lungs)
    film = _mediastinum(canvas, film)
    film += _bar(canvas, [(_CLAVICLE, 0.062), (mirrored(_CLAVICLE), 0.062)], 0.11, 0.06)
    film += 0.05 * (canvas.shape(_SCAPULA, 0.012) + canvas.shape(mirrored(_SCAPULA), 0.012))
    film += 0.05 * canvas.x * float(canvas.rng.uniform(-1, 1))  # the tube is never quite central
    result: Field = 0.02 + 1.18 * (film - 0.03)  # as a reader would window it
    return result


def _bar(canvas: Canvas, paths: list[tuple[list[Point], float]], core: float, rim: float) -> Field:
    """Long bones: a shaft of brightness `core` whose denser wall adds `rim` along the edges."""
    shaft = canvas.strokes(paths, 0.006)
    marrow = canvas.strokes([(path, width * 0.45) for path, width in paths], 0.007)
    return core * shaft + rim * np.clip(shaft - marrow, 0, 1)


def _torso(canvas: Canvas) -> Field:
    body = canvas.shape(_TORSO, 0.02)
    thick = 0.50 + 0.16 * step(canvas.y - 0.45, 0.25) - 0.16 * np.abs(canvas.x) ** 3
    belly = 0.03 * canvas.noise(4, 2) * step(canvas.y - 0.5, 0.1)
    gas = canvas.shape([(0.26, 0.56), (0.44, 0.50), (0.55, 0.60), (0.42, 0.68), (0.30, 0.66)], 0.03)
    film = body * (thick + belly) - 0.20 * gas
    result: Field = (0.03 + film).astype(np.float32)
    return result


def _lungs(canvas: Canvas) -> Field:
    sides = (_jitter(canvas, _RIGHT_LUNG), _jitter(canvas, _LEFT_LUNG))
    covered = [canvas.shape(outline, 0.016) for outline in sides]
    return np.maximum(*covered)


def _jitter(canvas: Canvas, outline: list[Point]) -> list[Point]:
    """The same outline for another patient: a little larger, a little shifted."""
    scale, shift = canvas.rng.uniform(0.96, 1.03), canvas.rng.uniform(-0.025, 0.025)
    return [(x * scale, y * scale + shift + canvas.rng.normal(0, 0.006)) for x, y in outline]


def _vessels(canvas: Canvas) -> Field:
    """Arteries and veins that fan out from the hila, thinner and fainter outwards."""
    paths: list[tuple[list[Point], float]] = []
    for side in (-1, 1):
        for angle in canvas.rng.normal((-1.25, -0.75, -0.25, 0.25, 0.65, 1.0, 1.35), 0.12):
            _branch(canvas, paths, (side * 0.17, 0.02), angle, side, 0.030, 3)
    lines = canvas.strokes(paths, 0.008)
    hila = canvas.ellipse((-0.19, 0.02), (0.07, 0.14), 0.06) + canvas.ellipse((0.20, -0.03), (0.07, 0.13), 0.06)
    haze = 0.016 * canvas.noise(26, 12)
    fade = np.exp(-2.0 * np.hypot(np.abs(canvas.x) - 0.17, canvas.y)).astype(np.float32)
    result: Field = 0.17 * lines * fade + 0.14 * hila + haze
    return result


def _branch(
    canvas: Canvas,
    paths: list[tuple[list[Point], float]],
    start: Point,
    angle: float,
    side: int,
    width: float,
    depth: int,
) -> None:
    points = [start]
    for _ in range(4):
        angle += canvas.rng.normal(0, 0.14)
        x, y = points[-1]
        points.append((x + side * 0.055 * np.cos(angle), y + 0.055 * np.sin(angle)))
    paths.append((points, width))
    if depth > 1:
        for turn in canvas.rng.normal((-0.38, 0.36), 0.12):
            _branch(canvas, paths, points[-1], angle + turn, side, width * 0.62, depth - 1)


def _ribs(canvas: Canvas) -> Field:
    """Posterior ribs, running down and outwards, and fainter anterior ones, running up."""
    back: list[tuple[list[Point], float]] = []
    front: list[tuple[list[Point], float]] = []
    for index in range(10):
        top, reach = -0.76 + 0.135 * index, 0.36 + 0.44 * min(1.0, (index + 1) / 5.5)
        for side in (-1, 1):
            arc = [(0.06, 0.0), (0.35, -0.06), (0.68, -0.015), (0.90, 0.09), (1.0, 0.20)]
            back.append(([(side * reach * u, top + v) for u, v in arc], 0.052))
            arc = [(1.0, 0.20), (0.93, 0.30), (0.75, 0.38), (0.55, 0.38), (0.42, 0.35)]
            if 0 < index < 7:
                front.append(([(side * reach * u, top + v) for u, v in arc], 0.054))
    return _bar(canvas, back, 0.085, 0.09) + _bar(canvas, front, 0.055, 0.03)


def _mediastinum(canvas: Canvas, film: Field) -> Field:
    """Heart, great vessels, spine and windpipe over the lungs."""
    size = canvas.rng.uniform(0.92, 1.06)
    heart = canvas.shape([(0.02 + (x - 0.02) * size, y) for x, y in _HEART], 0.022)
    band = step(0.125 - np.abs(canvas.x), 0.02) * step(canvas.y + 1.2, 0.1)
    knob = canvas.ellipse((0.13, -0.34), (0.09, 0.10), 0.025)
    film = mix(film, np.maximum(film, 0.56), np.maximum(band * 0.95, knob * 0.85))
    film = mix(film, np.maximum(film, 0.64), heart * 0.95)
    spine = step(0.075 - np.abs(canvas.x), 0.012)
    discs = 0.5 + 0.5 * np.cos(canvas.y * np.float32(2 * np.pi / 0.135))
    film += spine * (0.05 + 0.05 * discs) * (1 - 0.55 * heart)
    windpipe = step(0.042 - np.abs(canvas.x), 0.012) * step(-0.30 - canvas.y, 0.03)
    bronchi = canvas.strokes([([(0.0, -0.32), (-0.09, -0.20), (-0.15, -0.13)], 0.05),
                              ([(0.0, -0.32), (0.11, -0.22), (0.19, -0.16)], 0.045)], 0.012)  # fmt: skip
    result: Field = film - 0.13 * windpipe - 0.06 * bronchi
    return result
