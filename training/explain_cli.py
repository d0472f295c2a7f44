"""``python -m training explain-check`` and ``explain-samples``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.text import Text

from densescan.tasks import Task, get_task

from . import commands, layouts, pages
from .cli import DataOption, ManifestOption, TaskOption, app
from .console import err, out, tell
from .data import Fold
from .manifest import Entry, read_manifest
from .runs import Run

RepositoryOption = Annotated[
    Path, typer.Option("--model-repository", help="Where the exported gradient model is; its newest version is taken.")
]
FoldOption = Annotated[str, typer.Option("--fold", help="train, val, test, or official (the published test set).")]
EXAMPLES = 6
"""Images on a class's sheet of examples."""

SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Another seed draws other images.")]


@app.command("explain-check")
def explain_check(
    task: TaskOption,
    data: DataOption = None,
    manifest: ManifestOption = None,
    run: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the training that was exported, with its manifest. Default: the SavedModel beside the "
            "gradient model, and --manifest.",
            show_default=False,
        ),
    ] = None,
    model_repository: RepositoryOption = Path("model_repository"),
    fold: FoldOption = "val",
    images: Annotated[int, typer.Option("--images", min=1, help="Images of each class.")] = 30,
    folder: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the page. Default: runs/<task>/explain-check.", show_default=False),
    ] = None,
    seed: SeedOption = 0,
    record: Annotated[
        Path | None,
        typer.Option(help="Write the figures into this document, between its marks.", show_default=False),
    ] = None,
) -> None:
    """Measure whether the Grad-CAM maps tell the truth, and write a page with the figures and sheets of examples.

    Deletion and insertion against random maps, the maps of shuffled weights, int8 against FP32, and what of the maps
    lies outside the body. The int8 form is the newest of the model repository.

    Example: python -m training explain-check --task xray --images 50
    """
    from . import explain_check, explain_page, explain_samples, explainers

    found = get_task(task.value)
    version = explain_check.newest_version(model_repository, found)
    if run is None:
        weights = explain_check.installed_weights(model_repository, found, version)
        listed = manifest or commands.default_manifest(found)
    else:
        weights, listed = Run(run).best_model, manifest or Run(run).manifest
    data = layouts.find_data(found, data)
    chosen = _load(found, read_manifest(listed, found.labels), fold, data, images, seed)
    with err.status("explaining") as status:
        figures = {"fold": fold, **explain_check.check(found, weights, version, chosen, status.update)}
        explainer = explainers.openvino_file(version / explain_check.INT8)
        examples = {}
        for index, label in enumerate(found.labels):
            some = np.flatnonzero(chosen.classes == index)[:EXAMPLES]
            examples[label] = explain_samples.explain_images(found, chosen, some, data, version, explainer)
    target = folder or Path("runs") / found.name / "explain-check"
    page = explain_page.write_page(target, found, figures, examples)
    for what, value, wanted in explain_page.table(figures):
        out.print(Text.assemble(f"{what:<64} {value:<44} ", (wanted, "dim")), soft_wrap=True)
    tell("\npage: ", page)
    if record is not None:
        pages.record(record, f"explain-check {found.name}", explain_page.recorded(figures))
        tell("recorded: ", record)


@app.command("explain-samples")
def explain_samples(
    task: TaskOption,
    data: DataOption = None,
    manifest: ManifestOption = None,
    model_repository: RepositoryOption = Path("model_repository"),
    fold: FoldOption = "val",
    folder: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the pictures. Default: runs/<task>/explain-samples.", show_default=False),
    ] = None,
    seed: SeedOption = 0,
) -> None:
    """Draw the original report's figure: four Grad-CAM samples, each as picture, map and overlay.

    It needs the exported model and the images, no server and no training.
    """
    from . import explain_check, explain_samples

    found = get_task(task.value)
    version = explain_check.newest_version(model_repository, found)
    data = layouts.find_data(found, data)
    entries = read_manifest(manifest or commands.default_manifest(found), found.labels)
    chosen = _load(found, entries, fold, data, explain_samples.SAMPLES, seed)
    target = folder or Path("runs") / found.name / "explain-samples"
    for path in explain_samples.write_samples(found, chosen, data, version, target, seed):
        tell("written: ", path)


def _load(task: Task, entries: list[Entry], fold: str, data: Path, images: int, seed: int) -> Fold:
    """Some images of a fold, equally many of each class, drawn at random."""
    filled = commands.filled(entries, fold)
    chosen: list[Entry] = []
    generator = np.random.default_rng(seed)
    for label in task.labels:
        some = [entry for entry in filled if entry.label == label]
        drawn = sorted(generator.permutation(len(some))[:images])
        chosen += [some[index] for index in drawn]
    return commands.read(task, chosen, fold, data)
