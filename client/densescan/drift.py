"""How far a server's answers have moved from those that were seen when its network was released.

An answer is counted by its most probable label and by that label's probability, in a few bins: more NORMAL than there
was, or more answers that are unsure of themselves, and the counts differ. Counts come from the server's metrics, the
counts at release from the card beside the weights. Nobody needs to know what the right answers were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.float64]
"""Answers by label and bin of probability, [labels, bins]."""

EDGES = (0.0, 0.6, 0.75, 0.9, 0.97)
"""Where the bins of probability begin; the last one ends at 1. Finer above, where most answers are."""

NOTICEABLE, LARGE = 0.1, 0.25
"""Population stability indices from which a shift is commonly called noticeable, and large."""

ENOUGH = 300
"""Answers below which chance alone can look like a shift."""

_PRIOR = 0.5
"""Added to every count, so that an empty bin does not make the index infinite."""


def count(probabilities: npt.NDArray[np.floating[Any]], edges: Sequence[float] = EDGES) -> Counts:
    """Count answers by their most probable label and its probability.

    Args:
        probabilities: [answers, labels].
        edges: Where the bins begin, ascending, the first at 0.

    Returns:
        [labels, bins].
    """
    labels = probabilities.shape[1]
    bins = np.searchsorted(edges, probabilities.max(axis=1), side="right") - 1
    cells = probabilities.argmax(axis=1) * len(edges) + bins
    return np.bincount(cells, minlength=labels * len(edges)).reshape(labels, len(edges)).astype(np.float64)


def reference(probabilities: npt.NDArray[np.floating[Any]], labels: Sequence[str]) -> dict[str, Any]:
    """What the card of a release says: ``{"edges": [...], "answers": {label: [counts]}}``.

    Args:
        probabilities: The network's answers to pictures like those it will be asked about, [answers, labels].
        labels: In the network's order.
    """
    counts = count(probabilities).astype(int).tolist()
    return {"edges": list(EDGES), "answers": dict(zip(labels, counts, strict=True))}


def stability_index(seen: Counts, released: Counts) -> float:
    """The population stability index of two tables of counts of the same shape: 0 where the shares are the same.

    The sum over all cells of the difference of the shares times the logarithm of their ratio. Without any shift,
    chance makes it about (cells - 1) * (1 / answers seen + 1 / answers at release).
    """
    p, q = _shares(seen), _shares(released)
    return float(((p - q) * np.log(p / q)).sum())


def verdict(index: float, answers: float) -> str:
    """An index in a word, or that there are too few answers for one."""
    if answers < ENOUGH:
        return "too few answers"
    return "large shift" if index >= LARGE else "noticeable shift" if index >= NOTICEABLE else "no shift"


def released_counts(card: Mapping[str, Any]) -> tuple[list[str], list[float], Counts] | None:
    """Labels, edges and counts of a card; None when it was written without."""
    drift = card.get("drift")
    if drift is None:
        return None
    return list(drift["answers"]), list(drift["edges"]), np.array(list(drift["answers"].values()), np.float64)


def _shares(counts: Counts) -> Counts:
    shares: Counts = (counts + _PRIOR) / (counts + _PRIOR).sum()
    return shares
