"""Figures that others published, to stand beside ours. They are of other images: see `CAVEAT`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from densescan.tasks import Task

from .pages import bounded

COLUMNS = {"accuracy": "accuracy", "sensitivity": "sensitivity", "specificity": "specificity", "auroc": "AUROC"}

CAVEAT = (
    "Each row was measured on other images, so the rows cannot be ranked. The published chest figures are of the "
    "official 624 test films, which are distributed differently from the training films that a validation fold is cut "
    "from: there every network scores higher. The MRI figure is of a random split with copies of the same slice on "
    "both of its sides, which raises it."
)


@dataclass(frozen=True)
class Work:
    """What was reported of one network.

    Attributes:
        name: Whose it is.
        images: What it was measured on.
        figures: Of `COLUMNS`, those that were reported, in 0..1.
        intervals: Of those that have one.
    """

    name: str
    images: str
    figures: dict[str, float]
    intervals: dict[str, list[float]]

    def shown(self, name: str) -> str:
        """A figure as text."""
        return bounded(self.figures[name], self.intervals.get(name), 3) if name in self.figures else "not reported"


WORKS: dict[str, tuple[Work, ...]] = {
    "xray": (
        Work("original report", "official test, 624", {"accuracy": 0.8446, "sensitivity": 0.81}, {}),
        Work(
            "Kermany et al., Cell 2018",
            "official test, 624",
            {"accuracy": 0.928, "sensitivity": 0.932, "specificity": 0.901, "auroc": 0.968},
            {},
        ),
    ),
    "mri": (Work("original report", "random split with copies", {"accuracy": 0.9773}, {}),),
}


def of_report(task: Task, figures: dict[str, Any]) -> Work:
    """A report's own figures in the same columns: of the decision at the operating point, where there is one."""
    at = figures.get("operating_point", {})
    intervals = figures.get("intervals_95", {})
    values, bounds = {"auroc": figures["auroc"]}, {"auroc": intervals.get("auroc")}
    values["accuracy"] = at.get("accuracy", figures["accuracy"])
    bounds["accuracy"] = intervals.get("accuracy at the operating point" if at else "accuracy")
    if task.positive_index is not None:
        for name, index in (("sensitivity", task.positive_index), ("specificity", 1 - task.positive_index)):
            row = figures["classes"][task.labels[index]]
            values[name] = at.get(name, row["recall"])
            own = row.get("intervals_95", {}).get("recall")
            bounds[name] = intervals.get(f"{name} at the operating point") if at else own
    known = {name: bound for name, bound in bounds.items() if bound is not None}
    return Work("this network", f"fold {figures['fold']}, {figures['images']:,}", values, known)
