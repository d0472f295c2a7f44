"""What ``evaluate`` does: ask a network about a fold, and write the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from densescan.tasks import Task

from . import commands, families, layouts
from .console import out, progress, tell
from .manifest import manifest_hash, read_manifest, warn_if_trained_on
from .predictions import REPORT, Predictions
from .resampling import GROUPS
from .runs import Run, to_json

if TYPE_CHECKING:
    from .data import Fold
    from .metrics import Probabilities

MISTAKES = 8
"""Rows on the sheet of the worst mistakes."""


@dataclass(frozen=True)
class Answers:
    """What a network answered about a fold.

    Attributes:
        network: Its file or its address, as the report names it.
        kind: ``keras``, ``onnx``, ``xml``, ``savedmodel`` or ``served``.
        path: Its file; None of a server.
        probabilities: float32 [n, classes].
        threshold: The operating point to judge it at; None for the most probable class.
    """

    network: str
    kind: str
    path: Path | None
    probabilities: Probabilities
    threshold: float | None


def evaluate(
    task: Task,
    data: Path | None,
    manifest: Path | None,
    run_folder: Path | None,
    model: Path | None,
    url: str | None,
    fold: str,
    target: Path | None,
    threshold: float | None,
    *,
    as_json: bool,
    as_markdown: bool = False,
) -> None:
    """Measure a network on a fold and write the report."""
    from . import metrics, mistakes, report

    if model is not None and url is not None:
        raise ValueError("--model and --url exclude each other: measure a file, or a server")
    run = None if (model or url) and run_folder is None else commands.newest_run(task, run_folder)
    manifest = manifest or (run.manifest if run else commands.default_manifest(task))
    data = layouts.find_data(task, data)
    chosen = commands.load(task, read_manifest(manifest, task.labels), fold, data)
    if fold != "train" and url is None and (measured := model or (run.best_model if run else None)):
        warn_if_trained_on(measured, chosen.entries, task.labels)
    answers = _ask(task, chosen, data, run, model, url, threshold)
    named = families.names(task, chosen.entries, data)
    figures = {
        "task": task.name,
        "fold": fold,
        "network": answers.network,
        "manifest_sha256": manifest_hash(manifest),
        **metrics.evaluate(
            task,
            chosen.classes,
            answers.probabilities,
            chosen.entries,
            threshold=answers.threshold,
            families=named,
        ),
    }
    target = target or (run.folder if run else Path("runs") / task.name) / "evaluation" / f"{fold}-{answers.kind}"
    own = metrics.own_films(chosen.entries)
    sheet = mistakes.sheet(task, chosen, data, answers, MISTAKES)
    history = run.read_history() if run else []
    # The report last, because it names the network: interrupted, none stands beside another one's answers.
    (target / REPORT).unlink(missing_ok=True)
    predictions = Predictions(chosen.entries, chosen.classes, tuple(named), answers.probabilities)
    predictions.write(target / "predictions.csv", task)
    page = report.write_report(
        target, task, figures, chosen.classes[own], answers.probabilities[own], history, mistakes=sheet
    )
    if as_json:
        out.print_json(to_json(figures))
    elif as_markdown:
        out.print(report.markdown(task, figures), soft_wrap=True)
    else:
        rows = [*report.summary_rows(figures), *report.other_rows(figures)]
        _show_figures(task, figures, rows, report.class_rows(task, figures), report.at_the_point(figures))
        tell("\nreport: ", page)


def _ask(
    task: Task, fold: Fold, data: Path, run: Run | None, model: Path | None, url: str | None, threshold: float | None
) -> Answers:
    from . import predictors

    if url is not None:
        with progress(f"asking {url}", len(fold)) as done:
            paths = [data / entry.path for entry in fold.entries]
            probabilities, served = predictors.predict_served(url, task, paths, done)
        return Answers(f"served at {url}", "served", None, probabilities, served if threshold is None else threshold)
    path = model or (run.best_model if run else Path())
    predictor = predictors.open_model(path)
    with progress(f"asking {path.name}", len(fold)) as done:
        probabilities = predictors.predict(predictor, fold.grey, done)
    return Answers(path.as_posix(), path.suffix.lstrip(".") or "savedmodel", path, probabilities, threshold)


def _show_figures(
    task: Task,
    figures: dict[str, Any],
    summary: Sequence[tuple[str, str]],
    classes: Sequence[tuple[str, ...]],
    decided: str,
) -> None:
    out.print(f"{task.title}, fold {figures['fold']}, {figures['network']}", style="bold", soft_wrap=True)
    width = max(len(name) for name, _ in summary)
    for name, value in summary:
        out.print(f"  {name:<{width}}  {value}", soft_wrap=True)
    out.print(f"  95 % intervals: bootstrap over {GROUPS}", style="dim", soft_wrap=True)
    table = Table("class", title=f"decisions{decided}", title_justify="left")
    for column in ("precision", "recall", "F1", "support", *(f"as {label}" for label in task.labels)):
        table.add_column(column, justify="right")
    for row, counts in zip(classes, figures["confusion_matrix"], strict=True):
        table.add_row(*row, *(f"{count:,}" for count in counts))
    out.print(table)
