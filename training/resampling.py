"""Figures under many bootstrap resamples at once: a resample is a weight for each image, so all are one product.

Every function takes weights float64 [r, n] (how often each of n images was drawn in each of r resamples) and answers
float64 [r]; a figure that a resample does not define, say because a class is missing, is not a number there. With all
weights one they are scikit-learn's figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from densescan.tasks import Task

Weights = npt.NDArray[np.float64]
Values = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

GROUPS = "patients (of MRI slices, which name none: over groups of nearly equal ones)"
"""What is drawn for the intervals, in words. Slices of one patient then count as independent: theirs are too narrow."""


def scored_classes(task: Task) -> Sequence[int]:
    """The classes that curves and areas are of: the positive finding, or each against the rest."""
    return range(len(task.labels)) if task.positive_index is None else [task.positive_index]


def draw(groups: Sequence[str], resamples: int, seed: int = 0) -> Weights:
    """Weights of whole groups drawn with replacement, because images of one patient are alike: float64 [r, n].

    Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    names, inverse = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng(seed)
    counts = [np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names)) for _ in range(resamples)]
    return np.array(counts, dtype=np.float64).reshape(resamples, len(names))[:, inverse]


def interval(values: Values) -> list[float]:
    """The 2.5th and 97.5th percentile of a figure's resampled values, as numbers; not a number where there is none."""
    present = values[~np.isnan(values)]
    if not len(present):
        return [float("nan"), float("nan")]
    return [float(bound) for bound in np.percentile(present, [2.5, 97.5])]


def share(part: npt.NDArray[Any], of: Flags, weights: Weights) -> Values:
    """Weighted mean of `part` [n] over the images in `of`."""
    return _ratio(weights[:, of] @ part[of].astype(np.float64), weights[:, of].sum(axis=1))


def auroc(positive: Flags, score: npt.NDArray[Any], weights: Weights) -> Values:
    """Area under the ROC curve; ties count half."""
    hits, misses = _by_score(positive, score, weights)
    below = np.cumsum(misses, axis=1) - misses
    return _ratio((hits * (below + misses / 2)).sum(axis=1), hits.sum(axis=1) * misses.sum(axis=1))


def average_precision(positive: Flags, score: npt.NDArray[Any], weights: Weights) -> Values:
    """Area under the precision-recall curve, as a sum over its steps."""
    hits, misses = (part[:, ::-1] for part in _by_score(positive, score, weights))
    found = np.cumsum(hits, axis=1)
    called = found + np.cumsum(misses, axis=1)
    precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
    return _ratio((hits * precision).sum(axis=1), hits.sum(axis=1))


def _by_score(positive: Flags, score: npt.NDArray[Any], weights: Weights) -> tuple[Weights, Weights]:
    """Weight of the positive and of the other images at each distinct score, from the lowest up: two of [r, scores]."""
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(np.asarray(score)[order]) > 0])
    sorted_weights, flags = weights[:, order], positive[order]
    hits = np.add.reduceat(sorted_weights * flags, starts, axis=1)
    return hits, np.add.reduceat(sorted_weights * ~flags, starts, axis=1)


def calibration_error(
    confidence: npt.NDArray[Any], right: Flags, places: npt.NDArray[np.int64], weights: Weights
) -> Values:
    """Expected calibration error over bins; `places` [n] says in which bin each image is."""
    bins = places[:, None] == np.unique(places)
    gaps = weights @ (bins * (right - confidence.astype(np.float64))[:, None])
    return _ratio(np.abs(gaps).sum(axis=1), weights.sum(axis=1))


def _ratio(part: Values, whole: Values) -> Values:
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)
