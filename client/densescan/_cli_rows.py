"""One picture's outcome as a line of JSON or CSV."""

from __future__ import annotations

import csv
import io

from .cli_tables import Row
from .results import Classification
from .tasks import Task


def json_row(task: Task, row: Row) -> dict[str, object]:
    """The outcome as plain values; an error under the key ``error``."""
    source, outcome = row
    if isinstance(outcome, Classification):
        return outcome.to_dict()
    return {
        "source": source,
        "task": task.name,
        "error": {"type": type(outcome).__name__, "message": str(outcome)},
    }


def csv_header(task: Task) -> str:
    """The names of the columns."""
    return _line(["source", "label", "confidence", *task.labels, *_LAST])


def csv_row(task: Task, row: Row) -> str:
    """The outcome as one line; an error leaves all but the first and the last column empty."""
    source, outcome = row
    if not isinstance(outcome, Classification):
        return _line([source, "", "", *[""] * len(task.labels), *[""] * (len(_LAST) - 1), str(outcome)])
    values = outcome.to_dict()
    probabilities = [f"{outcome.probabilities[label]:.6f}" for label in task.labels]
    last = [values[name] for name in _LAST[:-2]]
    return _line(
        [source, outcome.label, f"{outcome.confidence:.6f}", *probabilities, *last, "; ".join(outcome.warnings), ""]
    )


_LAST = ("threshold", "model", "model_version", "elapsed_ms", "warnings", "error")


def _line(values: list[object]) -> str:
    text = io.StringIO()
    # What ends a line is what is quoted within one.
    csv.writer(text, lineterminator="\r\n").writerow(values)
    return text.getvalue().removesuffix("\r\n")
