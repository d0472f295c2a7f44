"""What each command does, free of the command line's own syntax."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from densescan.errors import DensescanError
from densescan.tasks import Task

from . import layouts
from .console import err, out, progress, tell
from .layouts import DataNotFound
from .manifest import Entry, ManifestError, of_fold, read_manifest
from .network import WeightsUnavailable
from .recipes import NAMED, changed, get_recipe
from .runs import Run, RunError, default_folder, write_json

if TYPE_CHECKING:
    from .data import Fold

log = logging.getLogger(__name__)

EXPECTED = (DataNotFound, ManifestError, RunError, WeightsUnavailable, DensescanError, ValueError, OSError)
"""Errors that are the user's to mend: shown as one line, not as a traceback."""


def default_manifest(task: Task) -> Path:
    """Where a task's manifest stands unless the user says otherwise."""
    return Path("runs") / task.name / "manifest.csv"


def load(task: Task, entries: Sequence[Entry], fold: str, data: Path, limit: int = 0) -> Fold:
    """Load a fold's images, with a progress bar; with a limit, equally many of each class.

    Raises:
        ManifestError: The fold is empty.
    """
    chosen = filled(entries, fold)
    if limit:
        each = max(1, limit // len(task.labels))
        by_label = {label: [entry for entry in chosen if entry.label == label] for label in task.labels}
        chosen = [entry for some in by_label.values() for entry in some[:each]]
    return read(task, chosen, fold, data)


def filled(entries: Sequence[Entry], fold: str) -> list[Entry]:
    """The entries of a fold, without the duplicates.

    Raises:
        ManifestError: There are none.
    """
    if chosen := of_fold(entries, fold):
        return chosen
    raise ManifestError(f"the fold {fold!r} is empty in this manifest")


def read(task: Task, chosen: Sequence[Entry], fold: str, data: Path) -> Fold:
    """The images of some entries of a fold, with a progress bar."""
    from .data import load_fold

    with progress(f"loading {fold}", len(chosen)) as done:
        return load_fold(chosen, task.labels, data, done)


def fit(
    task: Task,
    data: Path | None,
    manifest: Path | None,
    recipe_name: str,
    changes: Sequence[str],
    weights: str | None,
    taught_by: Sequence[Path],
    folder: Path | None,
    *,
    overwrite: bool,
) -> None:
    """Train by a recipe, or resume.

    Args:
        task: What to classify.
        data: The folder of the images; None looks for it.
        manifest: Which image is in which fold; None is ``runs/<task>/manifest.csv``.
        recipe_name: One of `recipes.RECIPES`.
        changes: To the recipe, as `recipes.changed` takes them.
        weights: ``none``, ``imagenet``, or a file; None is what the recipe says.
        taught_by: Networks whose answers take the labels' place.
        folder: Of the run; None is ``runs/<task>/<recipe>``.
        overwrite: Delete the run in `folder` and begin again.

    Raises:
        DataNotFound: There are no images.
        ManifestError: The manifest is missing, or of another task.
        RunError: The folder holds another training, or the loss became no number.
        WeightsUnavailable: The starting weights cannot be had.
        ValueError: There is no such recipe, or a change does not fit it.
    """
    from . import fitting
    from .network import build_classifier

    recipe = changed(get_recipe(recipe_name, task), changes)
    weights = weights or recipe.weights
    if weights == NAMED:
        raise ValueError(f"the recipe {recipe.name} goes on from a trained network: name it with --weights")
    if recipe.taught and not taught_by:
        raise ValueError(f"the recipe {recipe.name} learns from other networks: name one or more with --teacher")
    data = layouts.find_data(task, data)
    manifest = manifest or default_manifest(task)
    entries = read_manifest(manifest, task.labels)
    folder = folder or default_folder(task, recipe.name)
    if weights != "none" and (overwrite or not fitting.has_begun(folder)):
        # Before an hour of loading, and before a folder is made, or emptied, for nothing.
        build_classifier(task, weights=weights, dense_units=recipe.dense_units)
    run = fitting.start_run(folder, task, recipe, weights, manifest, taught_by, overwrite=overwrite)
    if run.state.finished:
        out.print(f"{run.folder} is finished; --overwrite begins it again", soft_wrap=True)
    else:
        if run.state.epoch or run.state.phase:
            log.info("resuming %s at phase %d, epoch %d", run.folder, run.state.phase + 1, run.state.epoch + 1)
        fitting.fit(run, *(load(task, entries, fold, data, recipe.max_images) for fold in ("train", "val")))
    tell("network: ", run.best_model)
    where = shlex.join(["--data", str(data), "--run", str(run.folder)])
    out.print(f"next:    python -m training evaluate --task {task.name} {where} --fold val", soft_wrap=True)


def newest_run(task: Task, given: Path | None) -> Run:
    """The run in `given`, or the one in ``runs/<task>/`` that was worked on last.

    Raises:
        RunError: There is none.
    """
    if given is not None:
        if not given.is_dir():
            raise RunError(f"there is no training at {given}")
        return Run(given)
    states = sorted((Path("runs") / task.name).glob("*/state.json"), key=lambda path: path.stat().st_mtime)
    if not states:
        raise RunError(f"no training in runs/{task.name}; make one with: python -m training fit --task {task.name}")
    return Run(states[-1].parent)


def operating_point(
    task: Task, data: Path | None, manifest: Path | None, fold: str, sensitivity: float, repository: Path, *, look: bool
) -> None:
    """Choose the threshold of the newest exported version again, and put it into its configs and its card."""
    from . import explain_check, exporting, metrics, operating_point, predictors
    from .manifest import manifest_hash

    if task.positive_index is None:
        raise ValueError(f"a {task.title} has no operating point: the most probable label is the answer")
    version = explain_check.newest_version(repository, task, task.classifier)
    manifest = manifest or default_manifest(task)
    data = layouts.find_data(task, data)
    loaded = load(task, read_manifest(manifest, task.labels), fold, data)
    served = predictors.open_model(version / exporting.INT8)
    with progress("films as from elsewhere", operating_point.STEPS) as done:
        how = operating_point.choose(task, served, loaded, sensitivity, done)
    threshold = how["threshold"]
    for what in ("as_they_are", "as_from_elsewhere"):
        out.print(what.replace("_", " "), *(f"{name} {value:.3f}" for name, value in how[what].items()))
    tell("operating point: ", f"{threshold:.6g}")
    if look:
        return
    card = exporting.read_card(version)
    used = manifest_hash(manifest)
    if fold == "val" and used == card["manifest_sha256"]:  # the films that its figures are of
        for form, name in (("fp32", exporting.SAVED_MODEL), ("int8", exporting.INT8)):
            probabilities = predictors.predict(predictors.open_model(version / name), loaded.grey)
            card["validation"][form] = metrics.evaluate(
                task, loaded.classes, probabilities, loaded.entries, threshold=threshold
            )
    card["operating_point"] = {**how, "fold": fold, "manifest_sha256": used}
    write_json(version / exporting.CARD, card)
    models = (task.classifier, task.gradcam)
    changed = [path for model in models for path in operating_point.write(repository / model, threshold)]
    out.print("written:", *map(str, [version / exporting.CARD, *changed]), sep="\n  ", soft_wrap=True)


def export(task: Task, data: Path | None, run_folder: Path | None, repository: Path) -> None:
    """Convert, check, and install a training's network."""
    run = newest_run(task, run_folder)
    data = layouts.find_data(task, data)
    entries = read_manifest(run.manifest, task.labels)
    train = load(task, entries, "train", data)
    val = load(task, entries, "val", data)
    from . import exporting

    with err.status("exporting") as status:
        target, checks, figures = exporting.export(run, task, train, val, repository, on_step=status.update)
    table = Table("form", title="against the trained network, on validation images", title_justify="left")
    for column in ("images", "largest difference", "same decision"):
        table.add_column(column, justify="right")
    for check in checks:
        table.add_row(check.form, str(check.images), f"{check.largest_difference:.1e}", f"{check.agreement:.2%}")
    out.print(table)
    explained = exporting.read_card(repository / task.gradcam / target.name)
    table = Table("Grad-CAM form", title="its maps against the trained network", title_justify="left")
    for column in ("images", "mean correlation", "least", "largest difference"):
        table.add_column(column, justify="right")
    for row in explained["checks"]:
        numbers = (row["mean_correlation"], row["least_correlation"])
        cells = (*(f"{number:.4f}" for number in numbers), f"{row['largest_difference']:.1e}")
        table.add_row(row["form"], str(row["images"]), *cells)
    out.print(table)
    out.print(f"int8 on the validation fold: accuracy {figures['accuracy']:.4f}, AUROC {figures['auroc']:.4f}")
    tell("installed: ", f"{target} and {repository / task.gradcam / target.name}")
    out.print("next:      python -m server --profile cpu")
