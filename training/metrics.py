"""Figures of a classification: plain values from scikit-learn, intervals by resampling patients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import metrics

from densescan.tasks import Task

Probabilities = npt.NDArray[np.float32]
Classes = npt.NDArray[np.int64]

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
    task: Task, classes: Classes, probabilities: Probabilities, groups: Sequence[str], *, resamples: int = RESAMPLES
) -> dict[str, Any]:
    """All figures of one fold, as plain data for JSON.

    Args:
        task: Its labels name the classes.
        classes: True class of each image, int [n].
        probabilities: Predicted, float [n, classes].
        groups: Patient of each image: intervals resample patients, not images.
        resamples: Bootstrap resamples for the 95 % intervals; 0 leaves them out.
    """
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
        "loss": float(metrics.log_loss(classes, whole, labels=every)),
        "auroc": auroc(task, classes, probabilities),
        "classes": {label: _without_suffix(table[label]) for label in task.labels},
        "confusion_matrix": metrics.confusion_matrix(classes, predicted, labels=every).tolist(),
    }
    if resamples:
        result["intervals_95"] = {
            "accuracy": interval(lambda chosen: accuracy(classes[chosen], probabilities[chosen]), groups, resamples),
            "auroc": interval(lambda chosen: auroc(task, classes[chosen], probabilities[chosen]), groups, resamples),
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
