"""Figures of a classification: plain values from scikit-learn, intervals by resampling patients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import metrics

from densescan.tasks import Task

from . import families as pictures
from . import resampling
from .layouts import domain_of, family_of
from .manifest import Entry

Probabilities = npt.NDArray[np.float32]
Classes = npt.NDArray[np.int64]

RESAMPLES = 1000


def auroc(task: Task, classes: Classes, probabilities: Probabilities) -> float:
    """Area under the ROC curve: of the positive finding, or the mean of one against the rest.

    Not a number where a class is missing.
    """
    if len(np.unique(classes)) < len(task.labels):
        return float("nan")
    each = [
        metrics.roc_auc_score(classes == index, probabilities[:, index]) for index in resampling.scored_classes(task)
    ]
    return float(np.mean(each))


def accuracy(classes: Classes, probabilities: Probabilities) -> float:
    """Share of images whose most probable class is theirs."""
    return float(np.mean(probabilities.argmax(axis=1) == classes))


def decided(task: Task, probabilities: Probabilities, threshold: float | None) -> Classes:
    """Index of the decided class of each image, int64 [n]: at the operating point, where there is one."""
    if threshold is None or task.positive_index is None:
        return np.asarray(probabilities.argmax(axis=1), dtype=np.int64)
    called = probabilities[:, task.positive_index] >= threshold
    return np.where(called, task.positive_index, 1 - task.positive_index).astype(np.int64)


def evaluate(
    task: Task,
    classes: Classes,
    probabilities: Probabilities,
    entries: Sequence[Entry],
    *,
    threshold: float | None = None,
    resamples: int = RESAMPLES,
    families: Sequence[str] | None = None,
) -> dict[str, Any]:
    """All figures of one fold, as plain data for JSON.

    The headline figures are of the data set's own films; those of other hospitals follow in ``other_domains``, each
    with the same figures, what is known of families in ``families``, each against each in ``family_pairs``, and the
    worst of these (see `families.figures`).

    Args:
        task: Its labels name the classes.
        classes: True class of each image, int [n].
        probabilities: Predicted, float [n, classes].
        entries: Of each image: its group, which the intervals resample, and its path, which tells domain and family.
        threshold: Operating point of a two-class task; adds what a decision at it is worth. The confusion matrix and
            the figures of each class and family are of the decisions, so at it; ``accuracy`` and
            ``balanced_accuracy`` are of the most probable class all the same.
        resamples: Bootstrap resamples for the 95 % intervals; 0 leaves them out.
        families: Of each image, from `families.names`; by default what its name tells.
    """
    families = [family_of(entry.path) for entry in entries] if families is None else families
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
    weights = resampling.draw(groups.tolist(), resamples)
    if subgroups := _families(task, classes, probabilities, np.array(families), threshold, weights):
        result["families"] = subgroups
    found = pictures.pairs(task, classes, entries, families)
    return result | pictures.figures(found, probabilities, weights)


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
    predicted = decided(task, probabilities, threshold)
    # Networks in int8 and FP16 round: rows add up to one only nearly.
    whole = probabilities.astype(np.float64)
    whole /= whole.sum(axis=1, keepdims=True)
    every = list(range(len(task.labels)))
    present = np.unique(classes).tolist()  # of a class without images nothing is known: it does not count as missed
    most_probable = probabilities.argmax(axis=1)
    table = metrics.classification_report(
        classes, predicted, labels=every, target_names=task.labels, output_dict=True, zero_division=0
    )
    result: dict[str, Any] = {
        "images": len(classes),
        "groups": len(set(groups)),
        "accuracy": accuracy(classes, probabilities),
        "balanced_accuracy": float(metrics.recall_score(classes, most_probable, average="macro", labels=present)),
        "auroc": auroc(task, classes, probabilities),
        "auprc": auprc(task, classes, probabilities),
        "loss": float(metrics.log_loss(classes, whole, labels=every)),
        "brier": float(np.mean(_brier(classes, whole))),
        "ece": calibration_error(classes, probabilities),
        "classes": {label: _without_suffix(table[label]) for label in task.labels},
        "confusion_matrix": metrics.confusion_matrix(classes, predicted, labels=every).tolist(),
    }
    if task.positive_index is None:
        one = np.ones((1, len(classes)))
        for label, areas in _areas(task, classes, probabilities, one).items():
            result["classes"][label] |= {name: float(values[0]) for name, values in areas.items()}
    if threshold is not None and task.positive_index is not None:
        result["operating_point"] = at_threshold(task, classes, probabilities, threshold)
    if resamples:
        weights = resampling.draw(groups, resamples)
        drawn = _resampled(task, classes, whole, probabilities, threshold, weights)
        result["intervals_95"] = {name: resampling.interval(values) for name, values in drawn.items()}
        for label, figures in _resampled_classes(task, classes, probabilities, predicted, weights).items():
            result["classes"][label]["intervals_95"] = {
                name: resampling.interval(values) for name, values in figures.items()
            }
    return result


def _resampled(
    task: Task,
    classes: Classes,
    whole: npt.NDArray[np.float64],
    probabilities: Probabilities,
    threshold: float | None,
    weights: resampling.Weights,
) -> dict[str, resampling.Values]:
    """Each headline figure under each resample."""
    every = np.full(len(classes), True)
    right = probabilities.argmax(axis=1) == classes
    areas = _areas(task, classes, probabilities, weights)
    recalls = np.array([resampling.share(right, classes == index, weights) for index in np.unique(classes)])
    confidence = probabilities.max(axis=1)
    likelihood = np.maximum(whole[np.arange(len(classes)), classes], np.finfo(np.float64).eps)
    figures = {
        "accuracy": resampling.share(right, every, weights),
        "balanced_accuracy": recalls.mean(axis=0),
        "auroc": np.mean([area["auroc"] for area in areas.values()], axis=0),
        "auprc": np.mean([area["auprc"] for area in areas.values()], axis=0),
        "loss": resampling.share(-np.log(likelihood), every, weights),
        "brier": resampling.share(_brier(classes, whole), every, weights),
        "ece": resampling.calibration_error(confidence, right, calibration_bins(confidence), weights),
    }
    if threshold is not None and task.positive_index is not None:
        truth, called = classes == task.positive_index, probabilities[:, task.positive_index] >= threshold
        for name, (part, of) in _decisions(truth, called).items():
            figures[f"{name} at the operating point"] = resampling.share(part, of, weights)
    return figures


def _areas(
    task: Task, classes: Classes, probabilities: Probabilities, weights: resampling.Weights
) -> dict[str, dict[str, resampling.Values]]:
    """AUROC and AUPRC under each resample: of the positive finding, or of each class against the rest."""
    indices = resampling.scored_classes(task)
    return {
        task.labels[index]: {
            "auroc": resampling.auroc(classes == index, probabilities[:, index], weights),
            "auprc": resampling.average_precision(classes == index, probabilities[:, index], weights),
        }
        for index in indices
    }


def _resampled_classes(
    task: Task, classes: Classes, probabilities: Probabilities, predicted: Classes, weights: resampling.Weights
) -> dict[str, dict[str, resampling.Values]]:
    """Each class's figures under each resample."""
    result = {}
    for index, label in enumerate(task.labels):
        truth, called = classes == index, predicted == index
        either = resampling.share(truth & called, truth | called, weights)
        result[label] = {
            "precision": resampling.share(truth, called, weights),
            "recall": resampling.share(called, truth, weights),
            "f1": 2 * either / (1 + either),  # from Jaccard's index, which has one numerator and one denominator
        }
    if task.positive_index is None:
        for label, areas in _areas(task, classes, probabilities, weights).items():
            result[label] |= areas
    return result


def _brier(classes: Classes, whole: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Squared distance of each image's probabilities from the truth: float64 [n], 0 to 2."""
    result: npt.NDArray[np.float64] = np.sum((whole - np.eye(whole.shape[1])[classes]) ** 2, axis=1)
    return result


def at_threshold(task: Task, classes: Classes, probabilities: Probabilities, threshold: float) -> dict[str, float]:
    """What a decision at `threshold` is worth: sensitivity, specificity, PPV, NPV, accuracy; NaN where undefined."""
    truth = classes == task.positive_index
    called = probabilities[:, task.positive_index] >= threshold
    each = {
        name: float(part[of].mean()) if of.any() else float("nan")
        for name, (part, of) in _decisions(truth, called).items()
    }
    return {"threshold": threshold, **each}


def _decisions(
    truth: resampling.Flags, called: resampling.Flags
) -> dict[str, tuple[resampling.Flags, resampling.Flags]]:
    """Each figure of a decision: the share of the first among the second."""
    return {
        "sensitivity": (called, truth),
        "specificity": (~called, ~truth),
        "ppv": (truth, called),
        "npv": (~truth, ~called),
        "accuracy": (called == truth, np.full(len(truth), True)),
    }


def auprc(task: Task, classes: Classes, probabilities: Probabilities) -> float:
    """Average precision: of the positive finding, or the mean of one against the rest; NaN where a class is missing."""
    if len(np.unique(classes)) < len(task.labels):
        return float("nan")
    indices = resampling.scored_classes(task)
    each = [metrics.average_precision_score(classes == index, probabilities[:, index]) for index in indices]
    return float(np.mean(each))


def calibration_error(classes: Classes, probabilities: Probabilities, bins: int = 15) -> float:
    """Expected calibration error of the most probable class, over bins of equal width.

    Naeini et al., Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == classes
    places = calibration_bins(confidence, bins)
    gaps = [abs(right[places == place].mean() - confidence[places == place].mean()) for place in np.unique(places)]
    shares = [np.mean(places == place) for place in np.unique(places)]
    return float(np.dot(gaps, shares))


def calibration_bins(confidence: npt.NDArray[Any], bins: int = 15) -> npt.NDArray[np.int64]:
    """In which of so many bins of equal width each probability lies: int64 [n]."""
    return np.minimum((confidence * bins).astype(np.int64), bins - 1)


def _families(
    task: Task,
    classes: Classes,
    probabilities: Probabilities,
    names: npt.NDArray[np.str_],
    threshold: float | None,
    weights: resampling.Weights,
) -> dict[str, dict[str, Any]]:
    """For each class and family of films: how many, and the share that is classified rightly."""
    predicted = decided(task, probabilities, threshold)
    result: dict[str, dict[str, Any]] = {}
    for name in sorted(set(names.tolist()) - {""}):
        for index in np.unique(classes[names == name]):
            chosen = (names == name) & (classes == index)
            row: dict[str, Any] = {"images": int(chosen.sum()), "recall": float(np.mean(predicted[chosen] == index))}
            if len(weights):
                row["interval_95"] = resampling.interval(resampling.share(predicted == index, chosen, weights))
            result[f"{task.labels[index]}, {name}"] = row
    return result


def _without_suffix(row: dict[str, float]) -> dict[str, float]:
    return {name.removesuffix("-score"): value for name, value in row.items()}
