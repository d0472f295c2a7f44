"""Figures of a classification: plain values from scikit-learn, intervals by resampling patients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import metrics

from densescan.tasks import Task

from .layouts import domain_of, family_of
from .manifest import Entry

Probabilities = npt.NDArray[np.float32]
Classes = npt.NDArray[np.int64]
Figure = Callable[[Classes, Probabilities], float]

RESAMPLES = 1000


def auroc(task: Task, classes: Classes, probabilities: Probabilities) -> float:
    """Area under the ROC curve: of the positive finding, or the mean of one against the rest.

    Not a number where a class is missing.
    """
    if len(np.unique(classes)) < len(task.labels):
        return float("nan")
    if task.positive_index is not None:
        return float(metrics.roc_auc_score(classes == task.positive_index, probabilities[:, task.positive_index]))
    each = [metrics.roc_auc_score(classes == index, probabilities[:, index]) for index in range(len(task.labels))]
    return float(np.mean(each))


def accuracy(classes: Classes, probabilities: Probabilities) -> float:
    """Share of images whose most probable class is theirs."""
    return float(np.mean(probabilities.argmax(axis=1) == classes))


def evaluate(
    task: Task,
    classes: Classes,
    probabilities: Probabilities,
    entries: Sequence[Entry],
    *,
    threshold: float | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """All figures of one fold, as plain data for JSON.

    The headline figures are of the data set's own films; those of other hospitals follow in ``other_domains``, each
    with the same figures, and what file names tell of families in ``families``.

    Args:
        task: Its labels name the classes.
        classes: True class of each image, int [n].
        probabilities: Predicted, float [n, classes].
        entries: Of each image: its group, which the intervals resample, and its path, which tells domain and family.
        threshold: Operating point of a two-class task; adds what a decision at it is worth.
        resamples: Bootstrap resamples for the 95 % intervals; 0 leaves them out.
    """
    domains = np.array([domain_of(entry.path) for entry in entries])
    names = _domains(entries)
    groups = np.array([entry.group for entry in entries])
    each = {
        name: _evaluate(task, classes[chosen], probabilities[chosen], groups[chosen].tolist(), threshold, resamples)
        for name in names
        for chosen in [domains == name]
    }
    result = each.pop(names[0])
    if each:
        result["other_domains"] = each
    if families := _families(task, classes, probabilities, entries, threshold):
        result["families"] = families
    return result


def _domains(entries: Sequence[Entry]) -> list[str]:
    """The domains that occur, the data set's own first."""
    return sorted({domain_of(entry.path) for entry in entries}, key=lambda name: (name != "", name))


def own_films(entries: Sequence[Entry]) -> npt.NDArray[np.bool_]:
    """Which images the headline figures are of: the data set's own, bool [n]."""
    first = _domains(entries)[0]
    return np.array([domain_of(entry.path) == first for entry in entries])


def _evaluate(
    task: Task,
    classes: Classes,
    probabilities: Probabilities,
    groups: Sequence[str],
    threshold: float | None,
    resamples: int,
) -> dict[str, Any]:
    predicted = probabilities.argmax(axis=1)
    # Networks in int8 and FP16 round: rows add up to one only nearly.
    whole = probabilities.astype(np.float64)
    whole /= whole.sum(axis=1, keepdims=True)
    every = list(range(len(task.labels)))
    table = metrics.classification_report(
        classes, predicted, labels=every, target_names=task.labels, output_dict=True, zero_division=0
    )
    result: dict[str, Any] = {
        "images": len(classes),
        "groups": len(set(groups)),
        "accuracy": accuracy(classes, probabilities),
        "balanced_accuracy": float(np.mean([table[label]["recall"] for label in task.labels])),
        "auroc": auroc(task, classes, probabilities),
        "auprc": auprc(task, classes, probabilities),
        "loss": float(metrics.log_loss(classes, whole, labels=every)),
        "brier": float(np.mean(np.sum((whole - np.eye(len(every))[classes]) ** 2, axis=1))),
        "ece": calibration_error(classes, probabilities),
        "classes": {label: _without_suffix(table[label]) for label in task.labels},
        "confusion_matrix": metrics.confusion_matrix(classes, predicted, labels=every).tolist(),
    }
    headline: dict[str, Figure] = {
        "accuracy": accuracy,
        "auroc": lambda classes, probabilities: auroc(task, classes, probabilities),
        "ece": calibration_error,
    }
    if threshold is not None and task.positive_index is not None:
        result["operating_point"] = at_threshold(task, classes, probabilities, threshold)
        for name in ("sensitivity", "specificity", "accuracy"):
            headline[f"{name} at the operating point"] = _at(task, threshold, name)
    if resamples:
        result["intervals_95"] = {
            name: interval(lambda chosen, of=of: of(classes[chosen], probabilities[chosen]), groups, resamples)  # type: ignore[misc]
            for name, of in headline.items()
        }
    return result


def _at(task: Task, threshold: float, name: str) -> Figure:
    return lambda classes, probabilities: at_threshold(task, classes, probabilities, threshold)[name]


def at_threshold(task: Task, classes: Classes, probabilities: Probabilities, threshold: float) -> dict[str, float]:
    """What a decision at `threshold` is worth: sensitivity, specificity, PPV, NPV, accuracy; NaN where undefined."""
    truth = classes == task.positive_index
    called = probabilities[:, task.positive_index] >= threshold

    def share(part: npt.NDArray[np.bool_], of: npt.NDArray[np.bool_]) -> float:
        return float(part[of].mean()) if of.any() else float("nan")

    return {
        "threshold": threshold,
        "sensitivity": share(called, truth),
        "specificity": share(~called, ~truth),
        "ppv": share(truth, called),
        "npv": share(~truth, ~called),
        "accuracy": float(np.mean(called == truth)),
    }


def auprc(task: Task, classes: Classes, probabilities: Probabilities) -> float:
    """Average precision: of the positive finding, or the mean of one against the rest; NaN where a class is missing."""
    if len(np.unique(classes)) < len(task.labels):
        return float("nan")
    indices = range(len(task.labels)) if task.positive_index is None else [task.positive_index]
    each = [metrics.average_precision_score(classes == index, probabilities[:, index]) for index in indices]
    return float(np.mean(each))


def calibration_error(classes: Classes, probabilities: Probabilities, bins: int = 15) -> float:
    """Expected calibration error of the most probable class, over bins of equal width.

    Naeini et al., Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == classes
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(right[places == place].mean() - confidence[places == place].mean()) for place in np.unique(places)]
    shares = [np.mean(places == place) for place in np.unique(places)]
    return float(np.dot(gaps, shares))


def _families(
    task: Task, classes: Classes, probabilities: Probabilities, entries: Sequence[Entry], threshold: float | None
) -> dict[str, dict[str, Any]]:
    """For each class and family of films: how many, and the share that is classified rightly."""
    if threshold is None or task.positive_index is None:
        predicted = probabilities.argmax(axis=1)
    else:
        predicted = np.where(
            probabilities[:, task.positive_index] >= threshold, task.positive_index, 1 - task.positive_index
        )
    names = np.array([family_of(entry.path) for entry in entries])
    result = {}
    for name in sorted(set(names.tolist()) - {""}):
        for index in np.unique(classes[names == name]):
            chosen = (names == name) & (classes == index)
            result[f"{task.labels[index]}, {name}"] = {
                "images": int(chosen.sum()),
                "recall": float(np.mean(predicted[chosen] == index)),
            }
    return result


def _without_suffix(row: dict[str, float]) -> dict[str, float]:
    return {name.removesuffix("-score"): value for name, value in row.items()}


def interval(
    figure: Callable[[npt.NDArray[np.int64]], float], groups: Sequence[str], resamples: int = RESAMPLES
) -> list[float]:
    """95 % percentile bootstrap interval of `figure`, which takes the indices of the chosen images.

    Whole groups are drawn with replacement, because images of one patient are alike
    (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13). The seed is fixed.
    """
    values = [value for chosen in _draws(groups, resamples) if not np.isnan(value := figure(chosen))]
    if not values:
        return [float("nan"), float("nan")]
    return [float(bound) for bound in np.percentile(values, [2.5, 97.5])]


def _draws(groups: Sequence[str], resamples: int) -> Iterator[npt.NDArray[np.int64]]:
    names, inverse = np.unique(np.asarray(groups), return_inverse=True)
    members = [np.flatnonzero(inverse == index) for index in range(len(names))]
    rng = np.random.default_rng(0)
    for _ in range(resamples):
        yield np.concatenate([members[index] for index in rng.integers(0, len(names), len(names))])
