"""An evaluation as files: JSON for machines, one HTML page for people, and its pictures."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densescan.tasks import Task

from . import pages, plots, published
from .metrics import Classes, Probabilities
from .predictions import REPORT
from .resampling import GROUPS
from .runs import write_aside, write_json, write_text

if TYPE_CHECKING:
    from PIL import Image

_NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "loss": "log loss",
    "brier": "Brier score",
    "ece": "expected calibration error",
}


def write_report(
    folder: Path,
    task: Task,
    figures: dict[str, Any],
    classes: Classes,
    probabilities: Probabilities,
    history: Sequence[dict[str, str]],
    *,
    mistakes: Image.Image | None = None,
) -> Path:
    """Write report.json, the pictures and report.html; returns the page's path.

    Args:
        folder: Where to.
        task: What was classified.
        figures: From `metrics.evaluate`, with `fold`, `network` and `manifest_sha256` added.
        classes: True classes, int [n].
        probabilities: Predicted, float [n, classes].
        history: The training's epochs; without any, no curves are drawn.
        mistakes: The sheet of the worst ones, from `mistakes.sheet`.
    """
    write_json(folder / REPORT, figures)
    title = f"{task.title}, fold {figures['fold']}"
    matrix = plots.confusion_matrix(task, figures["confusion_matrix"], title, f"decided{at_the_point(figures)}")
    pictures = {"confusion_matrix": matrix}
    if figures["auroc"] == figures["auroc"]:  # not where a class is missing
        pictures["roc"] = plots.roc(task, classes, probabilities, figures, title)
        pictures["precision_recall"] = plots.precision_recall(task, classes, probabilities, figures, title)
    pictures["reliability"] = plots.reliability(classes, probabilities, figures["ece"], title)
    if figures.get("family_pairs"):
        pictures["families"] = plots.family_pairs(figures, title)
    if history:
        pictures["training_curves"] = plots.training_curves(history, f"{task.title}: training")
    for name, figure in pictures.items():
        plots.save(figure, folder / f"{name}.png")
    names = [f"{name}.png" for name in pictures]
    if mistakes is not None:
        write_aside(folder / "mistakes.png", mistakes.save)
        names.append("mistakes.png")
    page = pages.page(
        f"densescan: {title}",
        f"network {figures['network']}; manifest {figures['manifest_sha256'][:12]}",
        _summary(figures) + _per_class(task, figures) + _subgroups(figures) + _beside(task, figures),
        *(pages.picture(folder / name) for name in names),
    )
    target = folder / "report.html"
    write_text(target, page)
    return target


def at_the_point(figures: dict[str, Any]) -> str:
    """What to add where decisions are told: that they were made at the operating point, if there is one."""
    return " at the operating point" if "operating_point" in figures else ""


def summary_rows(figures: dict[str, Any]) -> list[tuple[str, str]]:
    """The headline figures as (name, value with its 95 % interval)."""
    intervals = figures.get("intervals_95", {})
    rows = [("images", f"{figures['images']:,}"), ("patients or groups", f"{figures['groups']:,}")]
    at = figures.get("operating_point", {})
    values = {name: figures[name] for name in _NAMES if name in figures}
    values |= {f"{name} at the operating point": value for name, value in at.items() if name != "threshold"}
    for name, value in values.items():
        shown = _NAMES.get(name, name.replace("ppv", "PPV").replace("npv", "NPV"))
        rows.append((shown, pages.bounded(value, intervals.get(name))))
    if worst := figures.get("worst_family"):
        rows.append((f"worst family AUROC: {worst['pair']}", pages.bounded(worst["auroc"], worst.get("interval_95"))))
    if at:
        rows.append(("operating point", f"{at['threshold']:.4g}"))
    return rows


def other_rows(figures: dict[str, Any]) -> list[tuple[str, str]]:
    """Films of other hospitals, and what is known of families, as (name, figures)."""
    rows = []
    for name, part in figures.get("other_domains", {}).items():
        area = pages.bounded(part["auroc"], part.get("intervals_95", {}).get("auroc"))
        rows.append((f"other hospital: {name}", f"{part['images']:,} images, AUROC {area}"))
    for name, part in figures.get("families", {}).items():
        share = pages.bounded(part["recall"], part.get("interval_95"))
        rows.append((name, f"{share} of {part['images']:,} classified rightly{at_the_point(figures)}"))
    for name, part in figures.get("family_pairs", {}).items():
        rows.append((f"AUROC, {name}", pages.bounded(part["auroc"], part.get("interval_95"))))
    return rows


def markdown(task: Task, figures: dict[str, Any]) -> str:
    """The figures as a table for a model card."""
    rows = [*summary_rows(figures), *other_rows(figures)]
    rows += [
        (f"{label}{at_the_point(figures)}: precision, recall, F1, images", ", ".join(cells))
        for label, *cells in class_rows(task, figures)
    ]
    head = f"| {task.title}, fold `{figures['fold']}` | |\n| --- | --- |\n"
    return head + "".join(f"| {name} | {value} |\n" for name, value in rows)


def class_rows(task: Task, figures: dict[str, Any]) -> list[tuple[str, ...]]:
    """Precision, recall, F1 and support of each class, as text."""
    rows = []
    for label in task.labels:
        values = figures["classes"][label]
        shares = (f"{values[name]:.4f}" for name in ("precision", "recall", "f1"))
        rows.append((label, *shares, f"{int(values['support']):,}"))
    return rows


def _summary(figures: dict[str, Any]) -> str:
    return (
        pages.table(["", "value"], summary_rows(figures))
        + f"<p class='note'>In brackets: 95 % intervals by bootstrap over {GROUPS}.</p>"
    )


def _per_class(task: Task, figures: dict[str, Any]) -> str:
    rows = []
    for label in task.labels:
        values = figures["classes"][label]
        bounds = values.get("intervals_95", {})
        names = [name for name in ("precision", "recall", "f1", "auroc", "auprc") if name in values]
        shares = (pages.bounded(values[name], bounds.get(name)) for name in names)
        rows.append((label, *shares, f"{int(values['support']):,}"))
    titles = {"f1": "F1", "auroc": "AUROC against the rest", "auprc": "AUPRC against the rest"}
    head = f"class{at_the_point(figures).replace(' at', ', at')}"
    return pages.table([head, *(titles.get(name, name) for name in names), "support"], rows)


def _subgroups(figures: dict[str, Any]) -> str:
    rows = other_rows(figures)
    return "<h2>Other hospitals and families</h2>" + pages.table(["", "value"], rows) if rows else ""


def _beside(task: Task, figures: dict[str, Any]) -> str:
    """This network's figures beside published ones."""
    here = published.of_report(task, figures)
    names = list(published.COLUMNS)
    rows = [
        (work.name, work.images, *(work.shown(name) for name in names)) for work in (here, *published.WORKS[task.name])
    ]
    table = pages.table(["", "images", *published.COLUMNS.values()], rows)
    return f"<h2>Beside published figures</h2>{table}<p class='note'>{html.escape(published.CAVEAT)}</p>"
