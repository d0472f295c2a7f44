"""Pictures that are nearly the same: one slice stored twice, mirrored, brightened, or its neighbour in the volume.

Equal pixels are found by their hash (`splits`). What was resized, compressed or mirrored since is found here, by the
correlation of small pictures with the coarse shading taken out: all heads, and all chests, look alike without that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import gaussian_filter  # type: ignore[import-untyped]  # its stubs are a package apart

SIDE = 32
SHADING = 4.0
"""Standard deviation, in pixels of the small picture, of what is taken out as shading."""

THRESHOLD = 0.95
"""Correlation from which two pictures count as one.

In the two sets that this project trains on, pairs of two classes, which are surely two patients, begin right below it
(the three MRI pairs above it are mirrored copies with another label), and what lies above it is the same film or slice
or the next slice of the volume. Slices further apart in a volume lie below it, as do slices that were sharpened: the
page that ``split`` writes (`audit_page`) shows pairs of both sides, and how many are left.
"""

LEAST = 0.5
"""Least correlation that a `Survey` counts; below it, pictures have nothing in common."""

_BINS = 100
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


@dataclass(frozen=True)
class Survey:
    """How much alike all the pictures of a set are.

    Attributes:
        edges: Bounds of the bins of correlation, `LEAST` to 1: float64 [bins + 1].
        same: Pairs of one class in each bin: int64 [bins].
        other: Pairs of two classes.
        nearest: Correlation of each picture with the one most like it, in the order of the paths: float32 [n]; -1 for
            a picture that is alone.
    """

    edges: npt.NDArray[np.float64]
    same: npt.NDArray[np.int64]
    other: npt.NDArray[np.int64]
    nearest: npt.NDArray[np.float32]


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
    return [
        Pair(paths[row], paths[column], round(float(best), 5), bool(flip))
        for row, column, best, flip in _above(*_tables(fingerprints, paths), threshold)
    ]


def survey(fingerprints: Mapping[str, Fingerprint], labels: Mapping[str, str]) -> Survey:
    """Count all pairs of pictures by their correlation.

    Args:
        fingerprints: Of every picture, by path; leave duplicates out, or they count as pairs of correlation 1.
        labels: The class of each path.
    """
    paths = sorted(fingerprints)
    edges = np.linspace(LEAST, 1, _BINS + 1)
    same, other = np.zeros(_BINS, np.int64), np.zeros(_BINS, np.int64)
    nearest = np.full(len(paths), -1.0, np.float32)
    if len(paths) > 1:
        classes = np.unique([labels[path] for path in paths], return_inverse=True)[1]
        for start, plain, flipped in _blocks(*_tables(fingerprints, paths)):
            best = np.minimum(np.maximum(plain, flipped), 1)
            rows = np.arange(start, start + len(best))
            best[rows - start, rows] = -1  # a picture and itself are no pair
            nearest[rows] = best.max(axis=1)
            row, column = np.nonzero(best >= LEAST)
            once = column > row + start
            row, column = row[once], column[once]
            alike = classes[row + start] == classes[column]
            values = best[row, column]
            same += np.histogram(values[alike], edges)[0]
            other += np.histogram(values[~alike], edges)[0]
    return Survey(edges, same, other, nearest)


def _tables(
    fingerprints: Mapping[str, Fingerprint], paths: Sequence[str]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """All fingerprints, and those of the mirror images: float32 [n, 32 * 32] each."""
    whole = np.stack([fingerprints[path] for path in paths])
    return whole, whole.reshape(-1, SIDE, SIDE)[:, :, ::-1].reshape(len(whole), -1)


def _blocks(
    whole: npt.NDArray[np.float32], mirrored: npt.NDArray[np.float32]
) -> Iterator[tuple[int, npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """First row, correlations of some rows with all as they are, and mirrored.

    In blocks, because the whole table of 50,000 pictures would be 10 GB.
    """
    for start in range(0, len(whole), _ROWS):
        block = whole[start : start + _ROWS]
        yield start, block @ whole.T, block @ mirrored.T


def _above(
    whole: npt.NDArray[np.float32], mirrored: npt.NDArray[np.float32], threshold: float
) -> Iterator[tuple[int, int, float, bool]]:
    """Row, column, correlation, mirrored."""
    for start, plain, flipped in _blocks(whole, mirrored):
        best = np.maximum(plain, flipped)
        for row, column in np.argwhere(best >= threshold):
            if column > row + start:
                yield row + start, column, min(1.0, best[row, column]), flipped[row, column] > plain[row, column]
