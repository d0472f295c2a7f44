"""Every image's answer of a network as a CSV: what networks are paired by, and what a statistician goes on from."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from densescan.tasks import Task

from .manifest import Entry
from .runs import open_table, write_aside

REPORT = "report.json"
ROBUSTNESS = "robustness.json"
"""What stands beside the answers: the figures, of ``evaluate`` and of ``robustness``."""

_FIXED = ("path", "class", "group", "family")
_ERROR = "corrupted_error"


@dataclass(frozen=True)
class Predictions:
    """What one network answered.

    Attributes:
        entries: The images; of an entry read from a file, fold and hash are empty.
        classes: True classes, int64 [n].
        families: Of each image, empty where unknown.
        probabilities: float32 [n, classes].
        corrupted_error: Share of an image's corrupted forms that were classified wrongly, float64 [n]; not a number of
            an image that was not corrupted. None where nothing was.
    """

    entries: tuple[Entry, ...]
    classes: npt.NDArray[np.int64]
    families: tuple[str, ...]
    probabilities: npt.NDArray[np.float32]
    corrupted_error: npt.NDArray[np.float64] | None = None

    def write(self, path: Path, task: Task) -> None:
        """Write them, all or nothing."""
        errors = [] if self.corrupted_error is None else [_ERROR]

        def fill(aside: Path) -> None:
            with open_table(aside, "w") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow([*_FIXED, *task.labels, *errors])
                for place, entry in enumerate(self.entries):
                    row = [entry.path, entry.label, entry.group, self.families[place]]
                    numbers = [f"{value:.7g}" for value in self.probabilities[place].tolist()]
                    if self.corrupted_error is not None:
                        numbers.append(_or_empty(float(self.corrupted_error[place])))
                    writer.writerow([*row, *numbers])

        write_aside(path, fill)


def read(path: Path, labels: Sequence[str]) -> Predictions:
    """What `Predictions.write` wrote.

    Raises:
        ValueError: It is no such file, or another task's.
    """
    with open_table(path) as file:
        rows = list(csv.DictReader(file))
    if not rows or not {*_FIXED, *labels} <= rows[0].keys():
        raise ValueError(f"{path} holds no predictions of {', '.join(labels)}; write it anew with: evaluate")
    entries = tuple(Entry(row["path"], row["class"], row["group"], "", "") for row in rows)
    errors = [float(row[_ERROR] or "nan") for row in rows] if _ERROR in rows[0] else None
    return Predictions(
        entries,
        np.array([labels.index(entry.label) for entry in entries], np.int64),
        tuple(row["family"] for row in rows),
        np.array([[float(row[label]) for label in labels] for row in rows], np.float32),
        None if errors is None else np.array(errors),
    )


def _or_empty(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6g}"
