"""An evaluation as files: JSON for machines, one HTML page for people, and its pictures."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from densescan.tasks import RESEARCH_ONLY, Task

from . import plots
from .metrics import Classes, Probabilities
from .runs import write_aside, write_json

_NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "loss": "log loss",
    "brier": "Brier score",
    "ece": "expected calibration error",
}

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b }}
table {{ border-collapse: collapse; margin: 1rem 0 }} td, th {{ padding: .3rem .9rem; border-bottom: 1px solid #ddd }}
td + td, th + th {{ text-align: right; font-variant-numeric: tabular-nums }} img {{ max-width: 100% }}
.note {{ color: #555 }}
</style></head><body><h1>{title}</h1><p class="note">{note}</p>{tables}{pictures}<p class="note">{research}</p>
</body></html>
"""


def write_report(
    folder: Path,
    task: Task,
    figures: dict[str, Any],
    classes: Classes,
    probabilities: Probabilities,
    history: Sequence[dict[str, str]],
) -> Path:
    """Write report.json, the pictures and report.html; returns the page's path.

    Args:
        folder: Where to.
        task: What was classified.
        figures: From `metrics.evaluate`, with `fold`, `network` and `manifest_sha256` added.
        classes: True classes, int [n].
        probabilities: Predicted, float [n, classes].
        history: The training's epochs; without any, no curves are drawn.
    """
    write_json(folder / "report.json", figures)
    title = f"{task.title}, fold {figures['fold']}"
    pictures = {"confusion_matrix": plots.confusion_matrix(task, figures["confusion_matrix"], title)}
    if figures["auroc"] == figures["auroc"]:  # not where a class is missing
        pictures["roc"] = plots.roc(task, classes, probabilities, figures, title)
    pictures["reliability"] = plots.reliability(classes, probabilities, figures["ece"], title)
    if history:
        pictures["training_curves"] = plots.training_curves(history, f"{task.title}: training")
    for name, figure in pictures.items():
        plots.save(figure, folder / f"{name}.png")
    page = _PAGE.format(
        title=html.escape(f"densescan: {title}"),
        note=html.escape(f"network {figures['network']}; manifest {figures['manifest_sha256'][:12]}"),
        tables=_summary(figures) + _per_class(task, figures),
        pictures="".join(_picture(folder / f"{name}.png") for name in pictures),
        research=html.escape(RESEARCH_ONLY),
    )
    target = folder / "report.html"
    write_aside(target, lambda aside: aside.write_text(page, encoding="utf-8"))
    return target


def summary_rows(figures: dict[str, Any]) -> list[tuple[str, str]]:
    """The headline figures as (name, value with its 95 % interval)."""
    intervals = figures.get("intervals_95", {})
    rows = [("images", f"{figures['images']:,}"), ("patients or groups", f"{figures['groups']:,}")]
    at = figures.get("operating_point", {})
    values = {name: figures[name] for name in _NAMES if name in figures}
    values |= {f"{name} at the operating point": value for name, value in at.items() if name != "threshold"}
    for name, value in values.items():
        text = f"{value:.4f}"
        if name in intervals:
            text += " ({:.4f} to {:.4f})".format(*intervals[name])
        rows.append((_NAMES.get(name, name), text))
    if at:
        rows.append(("operating point", f"{at['threshold']:.4g}"))
    return rows


def other_rows(figures: dict[str, Any]) -> list[tuple[str, str]]:
    """Films of other hospitals, and what the file names tell of families, as (name, figures)."""
    rows = []
    for name, part in figures.get("other_domains", {}).items():
        text = f"{part['images']:,} images, AUROC {part['auroc']:.4f}"
        if bounds := part.get("intervals_95", {}).get("auroc"):
            text += " ({:.4f} to {:.4f})".format(*bounds)
        rows.append((f"other hospital: {name}", text))
    for name, part in figures.get("families", {}).items():
        rows.append((name, f"{part['recall']:.4f} of {part['images']:,} classified rightly"))
    return rows


def markdown(task: Task, figures: dict[str, Any]) -> str:
    """The figures as a table for a model card."""
    rows = [*summary_rows(figures), *other_rows(figures)]
    rows += [
        (f"{label}: precision, recall, F1, images", ", ".join(cells)) for label, *cells in class_rows(task, figures)
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
    pairs = [*summary_rows(figures), *other_rows(figures)]
    rows = "".join(f"<tr><td>{html.escape(name)}</td><td>{value}</td></tr>" for name, value in pairs)
    return f"<table>{rows}</table><p class='note'>In brackets: 95 % intervals by bootstrap over patients.</p>"


def _per_class(task: Task, figures: dict[str, Any]) -> str:
    head = "".join(f"<th>{name}</th>" for name in ("class", "precision", "recall", "F1", "support"))
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in class_rows(task, figures)
    )
    return f"<table><tr>{head}</tr>{rows}</table>"


def _picture(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<p><img alt="{path.stem.replace("_", " ")}" src="data:image/png;base64,{data}"></p>'
