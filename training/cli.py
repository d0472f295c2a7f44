"""``python -m training {split,fit,evaluate,export}``: one command a step."""

from __future__ import annotations

import os
import signal
import sys
from enum import Enum
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

# Before TensorFlow is imported anywhere: its banner of CPU features helps nobody.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import typer

from densescan.tasks import TASKS, get_task

from . import commands, evaluating, near_duplicates, splitting
from .console import err, set_up_logging

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it, and as Typer ends a command then."""

app = typer.Typer(
    help="Train the classifiers: split the images, fit a network, evaluate it, export it to Triton.\n\n"
    "The usual order, for --task xray and --task mri alike:\n\n"
    "  python -m training split    --task xray --data chest_xray\n\n"
    "  python -m training fit      --task xray --data chest_xray --recipe release\n\n"
    "  python -m training evaluate --task xray --data chest_xray --fold val\n\n"
    "  python -m training export   --task xray --data chest_xray\n\n"
    "Look at runs/xray/audit.html before training: it shows what repeats in the images, and what would leak.\n\n"
    "The recipe release, or longer, then distilled, and for films finished is how the released networks were trained: "
    "minutes on a GPU (KERAS_BACKEND=torch), a night on two cores. scratch is a smaller sister, half an hour on two "
    "cores; to go on from an installed network instead, add "
    "--weights model_repository/xray_densenet121/5/model.savedmodel; to only see that everything runs, take "
    "--recipe smoke. Interrupted, the same command goes on.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

TaskName = Enum("TaskName", {name: name for name in TASKS}, type=str)  # type: ignore[misc]

TaskOption = Annotated[TaskName, typer.Option("--task", help="What to classify.", show_default=False)]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Folder of the images: [cyan]<class>/[/] folders, or [cyan]<split>/<class>/[/] as Kaggle packs them. "
        "Default: chest_xray or brain_mri in $DENSESCAN_DATA, in ./data or in ../shared/data.",
        show_default=False,
    ),
]
ManifestOption = Annotated[
    Path | None,
    typer.Option("--manifest", help="CSV that split wrote. Default: runs/<task>/manifest.csv.", show_default=False),
]
RunOption = Annotated[
    Path | None,
    typer.Option("--run", help="Folder of a training. Default: the newest in runs/<task>/.", show_default=False),
]


@app.command()
def split(
    task: TaskOption,
    data: DataOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to write the CSV. Default: runs/<task>/manifest.csv.", show_default=False)
    ] = None,
    ratios: Annotated[str, typer.Option(help="Shares of train/val/test, as percentages.")] = "70/15/15",
    seed: Annotated[int, typer.Option(help="Another seed gives another cut; the same seed the same.")] = 0,
    group: Annotated[
        str | None,
        typer.Option(
            help="Regular expression on file names: what it matches (or its group named 'group') stays in one fold. "
            "Default: the patient, where the names of the chest set tell it.",
            show_default=False,
        ),
    ] = None,
    near: Annotated[
        float,
        typer.Option(
            min=0.5,
            max=1,
            help="Pictures that correlate so much, as they are or mirrored, stay in one fold. 1: only equal pixels.",
        ),
    ] = near_duplicates.THRESHOLD,
    after: Annotated[
        Path | None,
        typer.Option(
            help="An earlier manifest whose network is to be trained further: what it trained on stays in train.",
            show_default=False,
        ),
    ] = None,
    audit: Annotated[
        bool, typer.Option("--audit/--no-audit", help="Write the page audit.html and its pictures beside the CSV.")
    ] = True,
) -> None:
    """Decide which image is in which fold, by patient, with equal and nearly equal pictures in one fold.

    Writes a manifest (CSV: path, class, group, fold, sha256, duplicate_of). Published test folders (test/, Testing/)
    are kept apart as the fold "official". Damaged files are listed and left out.

    Beside it, audit.html shows how many pictures repeat, pairs on either side of --near, and what leaks between the
    folders that the set came with, or would leak by another cut; audit.json has the figures.

    To train an earlier network further on a better cut: split --near 1 made first.csv, its network was trained, and
    split --after first.csv keeps what it has seen in train.
    """
    splitting.split(get_task(task.value), data, out, ratios, seed, group, near, after, with_audit=audit)


@app.command()
def fit(
    task: TaskOption,
    data: DataOption = None,
    manifest: ManifestOption = None,
    recipe: Annotated[
        str,
        typer.Option(
            help="original: the published report's. scratch: from random weights, on two cores. release: the released "
            "networks', on a GPU. longer: twice as long. distilled: a trained network learns from --teacher. "
            "finished: one sees pictures as they are. short: a sixth of release, to compare recipes. smoke: a trial."
        ),
    ] = "original",
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Change the recipe: mixup=0, augmentation.noise=20, phases.0.epochs=3. May be given again; then name "
            "another --out too.",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Start from: imagenet, none (random), a .keras or .weights.h5 file, or an installed model.savedmodel "
            "folder. Default: what the recipe says.",
            show_default=False,
        ),
    ] = None,
    teacher: Annotated[
        list[Path] | None,
        typer.Option(
            help="Learn the answers of this network (.keras, .onnx or .xml) about a picture and its mirror image, in "
            "place of the label; given again, the mean of several. For the recipe distilled.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The run's folder. Default: runs/<task>/<recipe>.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Begin again, deleting the run that is there.")] = False,
) -> None:
    """Train a network by a recipe. Run it again after an interruption, and it goes on where it was.

    The run's folder records what repeats it: the manifest, the recipe, and the SHA-256 of the weights it began with.

    Keras' own variable KERAS_BACKEND chooses tensorflow (default), jax or torch. Watch it with
    tensorboard --logdir runs.
    """
    commands.fit(
        get_task(task.value), data, manifest, recipe, changes or [], weights, teacher or [], out, overwrite=overwrite
    )


@app.command()
def evaluate(
    task: TaskOption,
    data: DataOption = None,
    manifest: ManifestOption = None,
    run: RunOption = None,
    model: Annotated[
        Path | None,
        typer.Option(help="Measure this .keras, .onnx or .xml file or SavedModel folder instead.", show_default=False),
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Measure what a server answers at this gRPC address.", show_default=False)
    ] = None,
    fold: Annotated[str, typer.Option(help="train, val, test, or official (the published test set).")] = "val",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report. Default: in the run's folder.", show_default=False)
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Operating point of a two-class task. Default: the server's, with --url.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print a table for a model card.")] = False,
) -> None:
    """Measure a trained network, a converted file, or a running server on one fold.

    Prints accuracy, AUROC and loss with 95 % intervals, precision, recall and F1 of each class and the confusion
    matrix, and each family of films against each. Writes report.json, report.html with PNG pictures and the worst
    mistakes with their Grad-CAM, and predictions.csv with every image's answer.

    Example: python -m training evaluate --task xray --url localhost:8001 --fold val
    """
    evaluating.evaluate(
        get_task(task.value),
        data,
        manifest,
        run,
        model,
        url,
        fold,
        out,
        threshold,
        as_json=as_json,
        as_markdown=as_markdown,
    )


@app.command()
def export(
    task: TaskOption,
    data: DataOption = None,
    run: RunOption = None,
    model_repository: Annotated[
        Path, typer.Option(help="Triton's model repository; the next version is added to it.")
    ] = Path("model_repository"),
) -> None:
    """Write the SavedModel, ONNX (FP16) and OpenVINO (int8) forms, check each, install them for Triton.

    Every form must answer as Keras does on real validation images, or nothing is installed. The version folder
    appears at once and complete; a running server takes it up at its next start.
    """
    commands.export(get_task(task.value), data, run, model_repository)


def main() -> None:
    """Run the command line; what went wrong is one clear line and exit code 1."""
    set_up_logging()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that what is half-written goes
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files go out as they are, whatever their encoding
    try:
        app()
    except commands.EXPECTED as error:
        err.print("error: ", end="", style="bold red")
        err.print(str(error), soft_wrap=True)
        sys.exit(1)
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            err.print("interrupted; nothing is half-written, and fit goes on from its last checkpoint")
        raise
