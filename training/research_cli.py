"""``python -m training robustness``, ``holdout`` and ``compare``: what recipes are chosen by."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from densescan.tasks import get_task

from .cli import DataOption, ManifestOption, TaskOption, app
from .console import out, tell
from .runs import to_json


@app.command()
def robustness(
    task: TaskOption,
    data: DataOption = None,
    manifest: ManifestOption = None,
    runs: Annotated[
        list[Path] | None,
        typer.Option("--run", help="Folder of a training; repeatable. Default: the newest.", show_default=False),
    ] = None,
    models: Annotated[
        list[Path] | None,
        typer.Option(
            "--model",
            help="A .keras, .onnx or .xml file or SavedModel folder; may be given again.",
            show_default=False,
        ),
    ] = None,
    urls: Annotated[
        list[str] | None,
        typer.Option("--url", help="gRPC address of a server; may be given again.", show_default=False),
    ] = None,
    fold: Annotated[str, typer.Option(help="train, val, test, or official (the published test set).")] = "val",
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="Corruption to try; may be given again. Default: all.", show_default=False),
    ] = None,
    images: Annotated[int, typer.Option(min=0, help="Draw so many images of the fold; 0 takes all.")] = 0,
    folder: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the page. Default: in the first run's folder.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print the table of networks.")] = False,
) -> None:
    """Measure networks on corrupted pictures: contrast, blur, noise, markers and more, each in three severities.

    Several networks stand side by side; the first (runs before files before servers) is the baseline of the others,
    and differences come with paired intervals. Writes robustness.json, predictions, heat maps and robustness.html.

    Example: python -m training robustness --task xray --run runs/xray/scratch --run runs/xray/release
    """
    from . import robustness_run

    robustness_run.run(
        get_task(task.value),
        data,
        manifest,
        runs or [],
        models or [],
        urls or [],
        fold,
        only or [],
        images,
        folder,
        as_json=as_json,
        as_markdown=as_markdown,
    )


@app.command("operating-point")
def operating_point(
    task: TaskOption,
    data: DataOption = None,
    manifest: ManifestOption = None,
    fold: Annotated[str, typer.Option(help="val, or another fold of films the network was not trained on.")] = "val",
    sensitivity: Annotated[
        float, typer.Option(min=0.01, max=1, help="Share of the positive films that are to be found.")
    ] = 0.97,
    model_repository: Annotated[Path, typer.Option(help="Where the exported models are.")] = Path("model_repository"),
    look: Annotated[bool, typer.Option("--look", help="Say what it would be, and write nothing.")] = False,
) -> None:
    """Choose the served threshold again: the highest one that finds so many of the positive films.

    Over the films as they are and in each corruption, mild and strong, which is how they would look from elsewhere.
    Export does the same; this is for films of your own, or another sensitivity. A running server takes the value when
    it loads the model again.

    Example: python -m training operating-point --task xray --data my_films --manifest my_films.csv --look
    """
    from . import commands

    commands.operating_point(get_task(task.value), data, manifest, fold, sensitivity, model_repository, look=look)


@app.command()
def holdout(
    task: TaskOption,
    manifest: Annotated[Path, typer.Option("--manifest", help="CSV that split wrote.", show_default=False)],
    family: Annotated[
        str,
        typer.Option(
            help="bacteria, virus, IM, NORMAL2-IM or adult; of MRI slices 'stored grey' or 'stored RGB'.",
            show_default=False,
        ),
    ],
    target: Annotated[Path, typer.Option("--out", help="Where to write the other CSV.", show_default=False)],
    data: DataOption = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Leave out other families' films with a held-out patient number, too.")
    ] = False,
) -> None:
    """Make a manifest without one family of pictures in train and val: all of it stands in test.

    Train on it, evaluate on its fold test, and see how the network fares on a family that it has never seen.

    Example: python -m training holdout --task xray --manifest runs/xray/manifest.csv --family virus --out no-virus.csv
    """
    from . import holdout

    holdout.run(get_task(task.value), data, manifest, family, target, strict=strict)


@app.command()
def compare(
    results: Annotated[
        list[Path],
        typer.Argument(help="report.json or robustness.json, or their folders; the first network is the baseline."),
    ],
    names: Annotated[
        list[str] | None,
        typer.Option("--name", help="What to call a network, in their order; give all or none.", show_default=False),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(help="Write the table into this document, between its marks.", show_default=False),
    ] = None,
    section: Annotated[
        str, typer.Option(help="Which marks: those of the lines <!-- SECTION TASK: begin --> and … end -->.")
    ] = "ablation",
    family: Annotated[
        str,
        typer.Option(
            help="Compare by the AUROC of this family against each other one alone, say of networks that were "
            "trained with it and without (holdout).",
            show_default=False,
        ),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False,
) -> None:
    """Put evaluated networks into one table, with differences to the first and their intervals.

    Rows are networks, columns AUROC, accuracy, worst-family AUROC, mean error on corrupted pictures, AUROC on other
    hospitals' films, and ECE. predictions.csv must stand beside each result, as evaluate and robustness write it.

    Example: python -m training compare runs/xray/scratch/robustness/val runs/xray/release/robustness/val --markdown
    """
    from . import comparison, comparison_table

    compared = comparison.compare(comparison.load(results), names or [], family=family)
    if record is not None:
        comparison_table.record(record, compared, section)
    if as_json:
        out.print_json(to_json(compared))
    elif as_markdown:
        out.print(comparison_table.markdown(compared), soft_wrap=True)
    else:
        out.print(comparison_table.table(compared))
    if record is not None and not as_json:
        tell("recorded: ", record)
