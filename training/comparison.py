"""The ablation table: networks down, what each was measured by across, with differences to the first of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from densescan.tasks import Task, get_task

from . import families, predictions, resampling
from .layouts import domain_of
from .metrics import RESAMPLES, calibration_bins
from .predictions import REPORT, ROBUSTNESS, Predictions
from .robustness import mean_ratio

COLUMNS = {
    "auroc": "AUROC",
    "accuracy": "accuracy",
    "worst_family": "worst-family AUROC",
    "mean_error": "mean error, corrupted",
    "mean_corruption_error": "mean corruption error, first = 1",
    "other_hospital": "AUROC, adults",
    "ece": "ECE",
}
"""What a network is compared by. The errors and ECE are better low, the others high."""

SAME, SAME_DECISIONS = 0.01, 0.995
"""An evaluation and a robustness are one network's if their probabilities differ by less than SAME in the mean, and at
least SAME_DECISIONS of their decisions agree: int8 rounds a little otherwise in batches of another size."""


@dataclass(frozen=True)
class Measured:
    """One network as measured on one fold.

    Attributes:
        network: Its file or address.
        task: What it classifies.
        fold: What it was measured on.
        answers: Of its evaluation, or the unchanged pictures of its robustness.
        errors: By corruption, the sum of the errors over its severities; empty where nothing was corrupted.
    """

    network: str
    task: Task
    fold: str
    answers: Predictions
    errors: Mapping[str, float] = field(default_factory=dict)


def load(paths: Sequence[Path]) -> list[Measured]:
    """The networks in some results, in their order; of one that is in several, what each result adds.

    Results of one name whose answers differ are of two networks, such as two releases behind one address.

    Args:
        paths: report.json or robustness.json, or the folders that hold them.

    Raises:
        ValueError: A file is no result, its predictions are missing, or the tasks, folds or corruptions differ.
    """
    rows: list[Measured] = []
    for path in paths:
        for one in _load(_file(path)):
            place = next((place for place, row in enumerate(rows) if _is_same(row, one)), None)
            if place is None:
                rows.append(one)
            else:
                rows[place] = _joined(rows[place], one)
    if len({(row.task.name, row.fold) for row in rows}) > 1:
        kinds = ", ".join(sorted({f"{row.task.name} {row.fold}" for row in rows}))
        raise ValueError(f"these are results of different tasks or folds ({kinds}); compare like with like")
    if len({tuple(row.errors) for row in rows if row.errors}) > 1:
        raise ValueError("these networks were measured by different corruptions (--only); measure them by the same")
    return rows


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    there = [path / name for name in (REPORT, ROBUSTNESS) if (path / name).is_file()]
    if len(there) > 1:
        raise ValueError(f"{path} holds {REPORT} and {ROBUSTNESS}: name the one that is meant")
    if not there:
        raise ValueError(f"{path} holds no {REPORT} or {ROBUSTNESS}; write one with: evaluate, or robustness")
    return there[0]


def _load(path: Path) -> list[Measured]:
    try:
        figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        task, fold = get_task(figures["task"]), figures["fold"]
        several = "networks" in figures
        measured = figures["networks"] if several else [figures]
        names = [row["network"] for row in measured]
        sums = [{key: sum(part["error"]) for key, part in row.get("corruptions", {}).items()} for row in measured]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no result of evaluate or robustness: {error}") from error
    rows = []
    for place, network in enumerate(names):
        table = path.with_name(f"predictions-{place + 1}.csv" if several else "predictions.csv")
        if not table.is_file():
            raise ValueError(f"{table} is missing: keep it beside {path.name}, or measure the network again")
        rows.append(Measured(network, task, fold, predictions.read(table, task.labels), sums[place]))
    return rows


def _is_same(first: Measured, second: Measured) -> bool:
    """Whether two results are of one network: a file or an address may have had another one behind it by then."""
    if first.network != second.network:
        return False
    places = {entry.path: place for place, entry in enumerate(first.answers.entries)}
    shared = [(places[entry.path], place) for place, entry in enumerate(second.answers.entries) if entry.path in places]
    if not shared:
        return False
    ours, theirs = np.array(shared).T
    one, other = first.answers.probabilities[ours], second.answers.probabilities[theirs]
    if (first.answers.corrupted_error is None) == (second.answers.corrupted_error is None):
        return bool(np.allclose(one, other, atol=1e-6))  # neither adds to the other: the same result, named twice
    alike = np.mean(one.argmax(axis=1) == other.argmax(axis=1))
    return bool(np.abs(one - other).mean() < SAME and alike >= SAME_DECISIONS)


def _joined(first: Measured, second: Measured) -> Measured:
    """Of an evaluation and a robustness of one network, the answers with the corrupted pictures' errors."""
    return second if first.answers.corrupted_error is None else first


def compare(
    rows: Sequence[Measured], names: Sequence[str] = (), resamples: int = RESAMPLES, family: str = ""
) -> dict[str, Any]:
    """Every network's figures with intervals, and their differences to the first one's, as plain data.

    A difference is paired: both networks' figures under the same resample of patients. Where the two were measured on
    different images, there is none.

    Args:
        rows: From `load`.
        names: What to call them, in their order; by default as in the results.
        resamples: Bootstrap resamples.
        family: Compare by the AUROC of this family's pictures against each other family's, and by nothing else.

    Raises:
        ValueError: There are fewer or more names than networks, or no pairs with that family.
    """
    if names and len(names) != len(rows):
        raise ValueError(f"{len(names)} names for {len(rows)} networks ({', '.join(row.network for row in rows)})")
    first = rows[0]
    own, base = _drawn(first, 0, family), _drawn(first, resamples, family)
    table = []
    for place, row in enumerate(rows):
        point, drawn = _drawn(row, 0, family), base if row is first else _drawn(row, resamples, family)
        same = row.answers.entries == first.answers.entries
        cells: dict[str, Any] = {}
        for name, value in point.items():
            cells[name] = {"value": float(value[0]), "interval_95": resampling.interval(drawn[name])}
            if row is not first and same and name in base:
                difference = drawn[name] - base[name]
                cells[name]["difference"] = float(value[0] - own[name][0])
                cells[name]["difference_interval_95"] = resampling.interval(difference)
        if row.errors and first.errors and same and not family:
            # Without an interval: the answers to each single corrupted picture are not kept.
            ours, theirs = (np.array(list(one.errors.values())) for one in (row, first))
            cells["mean_corruption_error"] = {"value": mean_ratio(ours, theirs)}
        title = names[place] if names else row.network
        table.append({"name": title, "network": row.network, "images": len(row.answers.entries), "figures": cells})
    columns = {name: f"AUROC, {name}" for name in base} if family else COLUMNS
    return {"task": first.task.name, "fold": first.fold, "columns": columns, "rows": table}


def _drawn(row: Measured, resamples: int, family: str) -> dict[str, npt.NDArray[np.float64]]:
    """Each figure that a network has, under each resample; with none, once as it is."""
    groups = [entry.group for entry in row.answers.entries]
    weights = resampling.draw(groups, resamples) if resamples else np.ones((1, len(groups)))
    return _of_pairs(row, family, weights) if family else _of_all(row, weights)


def _of_pairs(row: Measured, family: str, weights: resampling.Weights) -> dict[str, npt.NDArray[np.float64]]:
    """AUROC of each pair with a family in it, by the pair's name."""
    answers = row.answers
    found = [
        pair
        for pair in families.pairs(row.task, answers.classes, answers.entries, answers.families)
        if family in (pair.first, pair.second)
    ]
    if not found:
        there = ", ".join(sorted({name for name in answers.families if name})) or "none"
        raise ValueError(f"no pairs with the family {family!r} in {row.network}: there are {there}")
    areas = families.separations(found, answers.probabilities, weights)
    return {pair.name: values for pair, values in zip(found, areas, strict=True)}


def _of_all(row: Measured, weights: resampling.Weights) -> dict[str, npt.NDArray[np.float64]]:
    """Each figure of `COLUMNS`."""
    answers, task = row.answers, row.task
    own = np.array([not domain_of(entry.path) for entry in answers.entries])
    own = own if own.any() else ~own
    right = answers.probabilities.argmax(axis=1) == answers.classes
    confidence = answers.probabilities.max(axis=1)
    figures = {
        "auroc": _auroc(task, answers, own, weights),
        "accuracy": resampling.share(right, own, weights),
        "ece": resampling.calibration_error(
            confidence[own], right[own], calibration_bins(confidence[own]), weights[:, own]
        ),
    }
    pairs = [pair for pair in families.pairs(task, answers.classes, answers.entries, answers.families) if pair.own]
    if pairs:
        figures["worst_family"] = families.separations(pairs, answers.probabilities, weights).min(axis=0)
    if not own.all() and len(np.unique(answers.classes[~own])) == len(task.labels):
        figures["other_hospital"] = _auroc(task, answers, ~own, weights)
    if answers.corrupted_error is not None:
        figures["mean_error"] = resampling.share(answers.corrupted_error, ~np.isnan(answers.corrupted_error), weights)
    return {name: figures[name] for name in COLUMNS if name in figures}


def _auroc(
    task: Task, answers: Predictions, chosen: npt.NDArray[np.bool_], weights: resampling.Weights
) -> npt.NDArray[np.float64]:
    labels = resampling.scored_classes(task)
    each = [
        resampling.auroc(answers.classes[chosen] == label, answers.probabilities[chosen, label], weights[:, chosen])
        for label in labels
    ]
    return np.asarray(np.mean(each, axis=0))
