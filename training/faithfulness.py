"""Whether a map tells the truth: what becomes of the probability when the places it names are taken away or shown.

Everything is plain arithmetic on maps [n, 7, 7] and images [n, 224, 224]; the network comes as a function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from . import resampling
from .predictors import Predictor, predict

Images = npt.NDArray[np.uint8]
Maps = npt.NDArray[np.float32]

STEPS = 11
"""Points of a deletion or insertion curve, from nothing changed to everything."""

BLUR_PX = 14
"""Radius of the blur that takes a place away: no edge and no grey level appears that a picture would not have."""

CENTRE_WIDTH = 0.25
"""Standard deviation of the map that only says "the middle", as a share of the picture's side."""

BODY_LEVEL = 0.12
"""Grey level from which a pixel is body, as a share of the picture's brightest percentile."""


def enlarge(maps: Maps, side: int) -> Maps:
    """Maps at the side of the images, as the SDK draws them: float32 [n, side, side] in 0..1."""
    size = (side, side)
    large = [np.asarray(Image.fromarray(one).resize(size, Image.Resampling.BICUBIC), np.float32) for one in maps]
    return np.clip(np.stack(large), 0, 1)


def random_maps(count: int, shape: tuple[int, int], seed: int) -> Maps:
    """Maps of the same kind that know nothing: every place has a random value."""
    return np.random.default_rng(seed).random((count, *shape), dtype=np.float32)


def centre_maps(count: int, shape: tuple[int, int]) -> Maps:
    """Maps that say "the middle" of every picture, where the anatomy usually is: a harder rival than chance."""
    down, right = ((np.arange(side) + 0.5) / side - 0.5 for side in shape)
    squares = down[:, np.newaxis] ** 2 + right[np.newaxis, :] ** 2
    one = np.exp(-squares / (2 * CENTRE_WIDTH**2)).astype(np.float32)
    return np.repeat(one[np.newaxis] / one.max(), count, axis=0)


def others_maps(maps: Maps, classes: npt.NDArray[np.int64], groups: Sequence[str]) -> Maps:
    """The map of another patient's picture of the same class: as smooth, in the usual places, but not of this one.

    A random map takes a picture away in more and smaller pieces, and so makes edges that these do not make. It is that
    of the picture before, as they stand in order; the only patient of a class keeps its own.
    """
    swapped = maps.copy()
    for index in np.unique(classes):
        of_class = np.flatnonzero(classes == index)
        for place, one in enumerate(of_class):
            before = np.roll(of_class, -place)[::-1]
            swapped[one] = maps[next((other for other in before if groups[other] != groups[one]), one)]
    return swapped


def curves(
    predictor: Predictor, grey: Images, maps: Maps, classes: npt.NDArray[np.int64], *, insert: bool
) -> npt.NDArray[np.float64]:
    """Probability of each image's class while its places are blurred, the hottest first, or shown on a blurred picture.

    Returns:
        float [n, STEPS]; the first column is the picture untouched, or wholly blurred.
    """
    order = np.argsort(-enlarge(maps, grey.shape[1]).reshape(len(grey), -1), axis=1, kind="stable")
    blurred = np.stack([np.asarray(Image.fromarray(one).filter(ImageFilter.GaussianBlur(BLUR_PX))) for one in grey])
    start, end = (blurred, grey) if insert else (grey, blurred)
    current, final = start.reshape(len(grey), -1).copy(), end.reshape(len(grey), -1)
    columns = []
    done = 0
    for share in np.linspace(0, 1, STEPS):
        until = round(share * order.shape[1])
        changed = order[:, done:until]
        np.put_along_axis(current, changed, np.take_along_axis(final, changed, axis=1), axis=1)
        done = until
        probabilities = predict(predictor, current.reshape(grey.shape))
        columns.append(probabilities[np.arange(len(grey)), classes])
    return np.stack(columns, axis=1).astype(np.float64)


def area(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Area under each curve [n, STEPS] over shares from 0 to 1, by trapezia: float [n]."""
    inner = values[:, 1:-1].sum(axis=1) + (values[:, 0] + values[:, -1]) / 2
    result: npt.NDArray[np.float64] = inner / (values.shape[1] - 1)
    return result


def mean_with_interval(values: npt.NDArray[np.float64], groups: list[str], resamples: int = 1000) -> dict[str, Any]:
    """The mean and its 95 % interval by bootstrap over groups (patients)."""
    means = resampling.share(values, np.full(len(values), True), resampling.draw(groups, resamples))
    return {"mean": float(values.mean()), "interval_95": resampling.interval(means)}


def body(grey: Images) -> npt.NDArray[np.bool_]:
    """A simple mask of the body in one picture [height, width]: what is not the dark air around it.

    A pixel counts if it is brighter than a small share of the picture's brightest percentile after a blur, or has
    such pixels on all four sides, as the lungs and the ventricles have.
    """
    smooth = np.asarray(Image.fromarray(grey).filter(ImageFilter.GaussianBlur(3)), np.float32)
    bright = smooth > BODY_LEVEL * np.quantile(smooth, 0.99)
    sides = [
        np.maximum.accumulate(bright, axis=0),
        np.maximum.accumulate(bright[::-1], axis=0)[::-1],
        np.maximum.accumulate(bright, axis=1),
        np.maximum.accumulate(bright[:, ::-1], axis=1)[:, ::-1],
    ]
    return np.logical_and.reduce(sides)


def outside_body(grey: Images, maps: Maps) -> dict[str, float]:
    """Share of the maps' mass that lies outside the body, beside the share of the area that does: chance."""
    masks = np.stack([body(one) for one in grey])
    large = enlarge(maps, grey.shape[1])
    masses = large.sum(axis=(1, 2))
    lit = masses > 0
    shares = (large * ~masks).sum(axis=(1, 2))[lit] / masses[lit]
    return {
        "mass": float(shares.mean()) if lit.any() else float("nan"),
        "area": float((~masks).mean()),
        "hottest_outside": float(np.mean([not masks[i][_hottest(large[i])] for i in np.flatnonzero(lit)])),
        "empty_maps": int((~lit).sum()),
    }


def _hottest(large: Maps) -> tuple[int, int]:
    down, right = np.unravel_index(int(large.argmax()), large.shape)
    return int(down), int(right)


def at_the_rim(maps: Maps) -> dict[str, float]:
    """Share of the maps' mass in the outermost places, where films carry letters, beside their share of the area."""
    rim = np.ones(maps.shape[1:], bool)
    rim[1:-1, 1:-1] = False
    masses = maps.sum(axis=(1, 2))
    lit = masses > 0
    shares = (maps * rim).sum(axis=(1, 2))[lit] / masses[lit]
    return {"mass": float(shares.mean()) if lit.any() else float("nan"), "area": float(rim.mean())}


Randomise = Callable[[npt.NDArray[np.floating]], npt.NDArray[np.floating]]


def shuffled(seed: int) -> Randomise:
    """A function that shuffles a layer's weights among themselves: the same values, and nothing learned."""
    generator = np.random.default_rng(seed)

    def shuffle(weights: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        return generator.permutation(weights.reshape(-1)).reshape(weights.shape)

    return shuffle
