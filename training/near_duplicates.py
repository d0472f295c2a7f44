"""Pictures that are nearly the same: one slice stored twice, mirrored, brightened, or its neighbour in the volume.

Equal pixels are found by their hash (`splits`). What was resized, compressed or mirrored since is found here, by the
correlation of small pictures with the coarse shading taken out: all heads, and all chests, look alike without that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import gaussian_filter

SIDE = 32
SHADING = 4.0
"""Standard deviation, in pixels of the small picture, of what is taken out as shading."""

THRESHOLD = 0.95
"""Correlation from which two pictures count as one.

In the two sets that this project trains on, no pair of different classes that is not mirrored lies above it, and the
audit page (`split --audit`) shows what does: the same slice or the next one.
"""

_ROWS = 1024

Fingerprint = npt.NDArray[np.float32]


@dataclass(frozen=True, order=True)
class Pair:
    """Two pictures that are nearly the same.

    Attributes:
        first, second: Their paths, in alphabetical order.
        correlation: Of their fingerprints, `THRESHOLD` to 1.
        mirrored: The one resembles the other's mirror image more than the other itself.
    """

    first: str
    second: str
    correlation: float
    mirrored: bool


def fingerprint(grey: npt.NDArray[np.uint8]) -> Fingerprint:
    """A small picture without its shading: float32 [32 * 32], mean 0 and length 1 (all 0 for a flat picture)."""
    small = np.asarray(Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float32)
    small -= gaussian_filter(small, SHADING)
    small -= small.mean()
    length = float(np.linalg.norm(small))
    flat: Fingerprint = (small / length if length > 1e-3 else np.zeros_like(small)).ravel()
    return flat


def find_pairs(fingerprints: Mapping[str, Fingerprint], threshold: float = THRESHOLD) -> list[Pair]:
    """Every pair whose correlation, as it is or mirrored, reaches `threshold`, in the order of their paths."""
    paths = sorted(fingerprints)
    if len(paths) < 2:
        return []
    whole = np.stack([fingerprints[path] for path in paths])
    mirrored = whole.reshape(-1, SIDE, SIDE)[:, :, ::-1].reshape(len(whole), -1)
    return [
        Pair(paths[row], paths[column], round(float(best), 5), bool(flip))
        for row, column, best, flip in _above(whole, mirrored, threshold)
    ]


def _above(
    whole: npt.NDArray[np.float32], mirrored: npt.NDArray[np.float32], threshold: float
) -> Iterator[tuple[int, int, float, bool]]:
    """Row, column, correlation, mirrored; in blocks, because the whole table of 50,000 pictures would be 10 GB."""
    for start in range(0, len(whole), _ROWS):
        block = whole[start : start + _ROWS]
        plain, flipped = block @ whole.T, block @ mirrored.T
        best = np.maximum(plain, flipped)
        for row, column in np.argwhere(best >= threshold):
            if column > row + start:
                yield row + start, column, min(1.0, best[row, column]), flipped[row, column] > plain[row, column]
