"""How a network fares when its pictures are corrupted, alone and beside others.

Errors are shares of wrong decisions, the most probable class being the decision. Of a network f, a corruption c and
severities s (Hendrycks and Dietterich, ICLR 2019, section 4.1):

* ``mean_error``: the mean of E(f, c, s) over all c and s. Its own worth, without a baseline.
* ``mean_corruption_error``: the mean over c of sum_s E(f, c, s) / sum_s E(baseline, c, s). Below 1: fewer errors than
  the baseline, which is the first network that is given.
* ``relative_mean_corruption_error``: the same of what the corruption adds, E(f, c, s) - E(f, clean).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from densescan.tasks import Task

from . import resampling
from .corruptions import CORRUPTIONS, SEVERITIES, Grey, corrupt
from .metrics import RESAMPLES, Classes

Ask = Callable[[Grey], npt.NDArray[np.float32]]
"""uint8 [n, 224, 224] to float32 [n, classes]."""


@dataclass(frozen=True)
class Tried:
    """What one network answered.

    Attributes:
        network: Its file or address.
        clean: float32 [n, classes], of the pictures as they are.
        corrupted: float32 [corruptions, severities, n, classes].
    """

    network: str
    clean: npt.NDArray[np.float32]
    corrupted: npt.NDArray[np.float32]

    def wrong(self, classes: Classes) -> npt.NDArray[np.bool_]:
        """Which corrupted pictures were decided wrongly: bool [corruptions, severities, n]."""
        return np.asarray(self.corrupted.argmax(axis=-1) != classes)

    def wrong_clean(self, classes: Classes) -> npt.NDArray[np.bool_]:
        """Which pictures were decided wrongly as they are: bool [n]."""
        return np.asarray(self.clean.argmax(axis=-1) != classes)


def attempt(
    networks: dict[str, Ask], grey: Grey, names: Sequence[str], on_done: Callable[[], None] = lambda: None
) -> list[Tried]:
    """Ask every network about every picture, as it is and in each corrupted form.

    Args:
        networks: What to ask, by name.
        grey: uint8 [n, 224, 224].
        names: Keys of `CORRUPTIONS`.
        on_done: Called after each form of the pictures and each network.
    """

    def asked(pictures: Grey) -> list[npt.NDArray[np.float32]]:
        answers = []
        for ask in networks.values():
            answers.append(ask(pictures))
            on_done()
        return answers

    clean = asked(grey)
    forms = [[asked(corrupt(grey, name, severity)) for severity in range(len(SEVERITIES))] for name in names]
    return [
        Tried(network, clean[place], np.array([[answers[place] for answers in row] for row in forms]))
        for place, network in enumerate(networks)
    ]


def figures(
    task: Task,
    tried: Sequence[Tried],
    classes: Classes,
    groups: Sequence[str],
    names: Sequence[str],
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """All figures of some networks, the first being the baseline of the others, as plain data for JSON.

    The intervals are paired: every resample draws the same patients for all networks.
    """
    weights = resampling.draw(groups, resamples)
    rows = [_row(task, one, classes, names, weights) for one in tried]
    for row, one in zip(rows, tried, strict=True):
        row |= _relative(tried[0], one, classes)
        if one is not tried[0]:
            row["against_first"] = _difference(task, tried[0], one, classes, names, weights)
    return {
        "images": len(classes),
        "groups": len(set(groups)),
        "baseline": tried[0].network,
        "severities": list(SEVERITIES),
        "levels": {name: list(CORRUPTIONS[name].levels) for name in names},
        "networks": rows,
    }


def _row(task: Task, one: Tried, classes: Classes, names: Sequence[str], weights: resampling.Weights) -> dict[str, Any]:
    alone = np.ones((1, len(classes)))
    errors = _means(one.wrong(classes), alone)[..., 0]
    areas, drawn_areas = (_areas(task, one.corrupted, classes, some) for some in (alone, weights))
    balanced = _balanced(task, one, classes)
    table = {
        name: {
            "error": errors[place].tolist(),
            "balanced_accuracy": balanced[place].tolist(),
            "auroc": areas[place, :, 0].tolist(),
        }
        for place, name in enumerate(names)
    }
    row: dict[str, Any] = {
        "network": one.network,
        "clean_error": float(one.wrong_clean(classes).mean()),
        "mean_error": float(errors.mean()),
        "mean_balanced_accuracy": float(balanced.mean()),
        "mean_auroc": float(areas.mean()),
        "corruptions": table,
    }
    if len(weights):
        drawn = _means(one.wrong(classes), weights)
        row["intervals_95"] = {
            "mean_error": resampling.interval(drawn.mean(axis=(0, 1))),
            "mean_auroc": resampling.interval(drawn_areas.mean(axis=(0, 1))),
        }
    return row


def _relative(first: Tried, one: Tried, classes: Classes) -> dict[str, float]:
    """Errors relative to the baseline's, as Hendrycks and Dietterich define them; 1 of the baseline itself."""
    ours, theirs = (some.wrong(classes).mean(axis=2) for some in (one, first))
    clean, their_clean = (some.wrong_clean(classes).mean() for some in (one, first))
    return {
        "mean_corruption_error": mean_ratio(ours.sum(axis=1), theirs.sum(axis=1)),
        "relative_mean_corruption_error": mean_ratio((ours - clean).sum(axis=1), (theirs - their_clean).sum(axis=1)),
    }


def mean_ratio(part: npt.NDArray[np.float64], whole: npt.NDArray[np.float64]) -> float:
    """Mean of the ratios that have a positive denominator: a corruption that costs the baseline nothing has none."""
    defined = whole > 1e-9  # what is left of equal shares after subtraction is rounding
    return float(np.mean(part[defined] / whole[defined])) if defined.any() else float("nan")


def _difference(
    task: Task, first: Tried, one: Tried, classes: Classes, names: Sequence[str], weights: resampling.Weights
) -> dict[str, Any]:
    """This network's figures less the first one's, with paired intervals; of each corruption the mean error."""
    alone = np.ones((1, len(classes)))

    def both(some: resampling.Weights) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        errors = _means(one.wrong(classes), some) - _means(first.wrong(classes), some)
        areas = _areas(task, one.corrupted, classes, some) - _areas(task, first.corrupted, classes, some)
        return errors.mean(axis=1), areas.mean(axis=(0, 1))

    errors, areas = both(alone)
    drawn_errors, drawn_areas = both(weights)
    result = {
        "mean_error": _bounded(errors.mean(axis=0)[0], drawn_errors.mean(axis=0)),
        "mean_auroc": _bounded(areas[0], drawn_areas),
    }
    each = {name: _bounded(errors[place, 0], drawn_errors[place]) for place, name in enumerate(names)}
    return {**result, "corruptions": each}


def _bounded(value: float, drawn: npt.NDArray[np.float64]) -> dict[str, Any]:
    plain: dict[str, Any] = {"difference": float(value)}
    return {**plain, "interval_95": resampling.interval(drawn)} if len(drawn) else plain


def _means(flags: npt.NDArray[np.bool_], weights: resampling.Weights) -> npt.NDArray[np.float64]:
    """Weighted means over the images: bool [c, s, n] and [r, n] to float64 [c, s, r]."""
    means: npt.NDArray[np.float64] = flags.astype(np.float64) @ weights.T / weights.sum(axis=1)
    return means


def _areas(
    task: Task, corrupted: npt.NDArray[np.float32], classes: Classes, weights: resampling.Weights
) -> npt.NDArray[np.float64]:
    """AUROC (of the finding, or the mean of one against the rest) of each form: float64 [c, s, r]."""
    labels = resampling.scored_classes(task)
    kinds, severities = corrupted.shape[:2]
    areas = np.empty((kinds, severities, len(weights)))
    for kind in range(kinds):
        for severity in range(severities):
            scores = corrupted[kind, severity]
            each = [resampling.auroc(classes == label, scores[:, label], weights) for label in labels]
            areas[kind, severity] = np.mean(each, axis=0)
    return areas


def _balanced(task: Task, one: Tried, classes: Classes) -> npt.NDArray[np.float64]:
    """Mean recall over the classes that there are: float64 [c, s]."""
    right = ~one.wrong(classes)
    recalls = [right[:, :, classes == label].mean(axis=2) for label in np.unique(classes)]
    return np.asarray(np.mean(recalls, axis=0))
