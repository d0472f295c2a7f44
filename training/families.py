"""Families of pictures: what file names, or the files themselves, tell of where a picture is from.

A network that learnt the scanner instead of the disease tells some families apart better than others. So each family
of the positive class is set against each family of the others, and the worst pair is the figure to choose a recipe by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from densescan.tasks import Task

from . import resampling
from .layouts import domain_of, family_of
from .manifest import Entry

LEAST = 10
"""Images that a family needs on its side of a pair: an AUROC of fewer says nothing."""

# The merged collections of the MRI set were stored differently, and a class comes mostly from one of them.
_STORED = {"L": "stored grey", "RGB": "stored RGB"}


@dataclass(frozen=True)
class Pair:
    """One family of a class against one family of the others.

    Attributes:
        name: Such as ``bacteria against NORMAL2-IM``.
        first: Family of the class's side.
        second: Family of the others' side.
        label: Index of the class.
        positive: The class's images of the one family, bool [n].
        negative: The other classes' images of the other family, bool [n].
        own: Both are the data set's own films, none another hospital's.
    """

    name: str
    first: str
    second: str
    label: int
    positive: npt.NDArray[np.bool_]
    negative: npt.NDArray[np.bool_]
    own: bool


def names(task: Task, entries: Sequence[Entry], data: Path | None) -> list[str]:
    """Of each picture the family that its name tells; of an MRI slice how its file stores grey. Empty: unknown."""
    told = [family_of(entry.path) for entry in entries]
    if any(told) or task.positive is not None or data is None:
        return told
    return [_stored(data / entry.path) for entry in entries]


def _stored(path: Path) -> str:
    with Image.open(path) as picture:  # reads the header alone
        return _STORED.get(picture.mode, "")


def pairs(task: Task, classes: npt.NDArray[np.int64], entries: Sequence[Entry], families: Sequence[str]) -> list[Pair]:
    """Every pair with at least `LEAST` images on both sides; none where fewer than two families are known."""
    named = np.asarray(families)
    own = np.array([not domain_of(entry.path) for entry in entries])
    known = [name for name in dict.fromkeys(sorted(families, key=lambda name: (name == "adult", name))) if name]
    if len(known) < 2:
        return []
    labels = resampling.scored_classes(task)
    found = []
    for label in labels:
        for first in known:
            for second in known:
                positive = (classes == label) & (named == first)
                negative = (classes != label) & (named == second)
                if min(positive.sum(), negative.sum()) >= LEAST:
                    of_one_set = bool(own[positive | negative].all())
                    found.append(
                        Pair(_title(task, label, first, second), first, second, label, positive, negative, of_one_set)
                    )
    return found


def _title(task: Task, label: int, first: str, second: str) -> str:
    if task.positive_index is not None:
        return f"{first} against {second}"
    return f"{task.labels[label]} {first} against the rest {second}"


def separations(
    found: Sequence[Pair], probabilities: npt.NDArray[Any], weights: resampling.Weights
) -> npt.NDArray[np.float64]:
    """AUROC of each pair under each resample: float64 [pairs, r]."""
    rows = []
    for pair in found:
        chosen = pair.positive | pair.negative
        score = probabilities[chosen, pair.label]
        rows.append(resampling.auroc(pair.positive[chosen], score, weights[:, chosen]))
    return np.array(rows).reshape(len(found), len(weights))


def figures(found: Sequence[Pair], probabilities: npt.NDArray[Any], weights: resampling.Weights) -> dict[str, Any]:
    """AUROC of every pair and of the worst, with 95 % intervals, as plain data; empty without pairs.

    ``worst_family`` is over the data set's own films, ``worst_family_with_other_hospitals`` over all. The interval of a
    worst is that of the smallest of all pairs in each resample: it lies lower than the interval of any single pair.
    """
    if not found:
        return {}
    point = separations(found, probabilities, np.ones((1, len(probabilities))))[:, 0]
    drawn = separations(found, probabilities, weights)
    table = {}
    for pair, value, values in zip(found, point, drawn, strict=True):
        sides = [int(pair.positive.sum()), int(pair.negative.sum())]
        table[pair.name] = _bounded({"auroc": float(value), "images": sides}, values)
    result: dict[str, Any] = {"family_pairs": table}
    own = np.array([pair.own for pair in found])
    for name, chosen in (("worst_family", own), ("worst_family_with_other_hospitals", np.full(len(found), True))):
        if chosen.any() and not (name != "worst_family" and own.all()):
            place = np.flatnonzero(chosen)[point[chosen].argmin()]
            worst = {"pair": found[place].name, "auroc": float(point[place])}
            result[name] = _bounded(worst, drawn[chosen].min(axis=0) if len(weights) else drawn[place])
    return result


def _bounded(values: dict[str, Any], drawn: npt.NDArray[np.float64]) -> dict[str, Any]:
    return {**values, "interval_95": resampling.interval(drawn)} if len(drawn) else values
