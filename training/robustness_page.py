"""The figures of ``robustness`` as files: JSON, heat maps, a sheet of what was done to the pictures, one HTML page."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np

from densescan.tasks import Task

from . import pages, plots
from .corruptions import CORRUPTIONS, SEVERITIES, Grey, corrupt
from .pages import bounded
from .plots import LINES, STYLE
from .predictions import ROBUSTNESS
from .resampling import GROUPS
from .runs import write_json, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKERS = "osD^vP"

HOW = (
    "Errors are shares of wrong decisions. Mean error: over all corruptions and severities. Mean corruption error: "
    "each corruption's errors divided by the first network's, then their mean, so below 1 is better than the first; "
    "relative: the same of what the corruption adds to the errors on unchanged pictures (Hendrycks and Dietterich, "
    f"2019). In brackets: 95 % intervals by bootstrap over {GROUPS}, paired between the networks."
)


def write_page(folder: Path, task: Task, figures: dict[str, Any], example: Grey) -> Path:
    """Write robustness.json, the pictures and robustness.html; returns the page's path.

    Args:
        folder: Where to.
        task: What was classified.
        figures: From `robustness.figures`, with ``fold`` and ``manifest_sha256`` added.
        example: A picture uint8 [224, 224] to show the corruptions on.
    """
    write_json(folder / ROBUSTNESS, figures)
    title = f"{task.title}, fold {figures['fold']}: corrupted pictures"
    drawn = {
        "accuracy": heat_map(figures, "error", f"{title}, accuracy"),
        "auroc": heat_map(figures, "auroc", f"{title}, AUROC"),
    }
    if len(figures["networks"]) > 1:
        drawn["differences"] = differences(figures, title)
    drawn["corruptions"] = examples(example, list(figures["levels"]))
    for name, figure in drawn.items():
        plots.save(figure, folder / f"{name}.png")
    text = pages.page(
        f"densescan: {title}",
        f"{figures['images']:,} images of {figures['groups']:,} patients or groups; manifest "
        f"{figures['manifest_sha256'][:12]}",
        pages.table(*summary(figures)),
        f"<p class='note'>{HOW}</p>",
        *(pages.picture(folder / f"{name}.png") for name in drawn),
        *(_each(row) for row in figures["networks"]),
    )
    target = folder / "robustness.html"
    write_text(target, text)
    return target


def summary(figures: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table of networks."""
    head = ["network", "error, unchanged", "mean error", "mean AUROC", "mean corruption error", "relative"]
    several = len(figures["networks"]) > 1
    if several:
        head.append("mean error less the first's")
    rows = []
    for row in figures["networks"]:
        bounds = row.get("intervals_95", {})
        cells = [
            row["network"],
            bounded(row["clean_error"], None),
            bounded(row["mean_error"], bounds.get("mean_error")),
            bounded(row["mean_auroc"], bounds.get("mean_auroc")),
            bounded(row["mean_corruption_error"], None, 3),
            bounded(row["relative_mean_corruption_error"], None, 3),
        ]
        if several:
            cells.append(_signed(row["against_first"]["mean_error"]) if "against_first" in row else "")
        rows.append(cells)
    return head, rows


def _signed(value: dict[str, Any]) -> str:
    text = f"{value['difference']:+.4f}"
    if "interval_95" in value:
        text += " ({:+.4f} to {:+.4f})".format(*value["interval_95"])
    return text


def _each(row: dict[str, Any]) -> str:
    """A network's accuracy and AUROC under each corruption."""
    rows = []
    for name, values in row["corruptions"].items():
        accuracy = [f"{1 - error:.3f}" for error in values["error"]]
        areas = [f"{area:.3f}" for area in values["auroc"]]
        rows.append([_title(name), *accuracy, *areas])
    head = ["", *(f"accuracy, {name}" for name in SEVERITIES), *(f"AUROC, {name}" for name in SEVERITIES)]
    return f"<h2>{html.escape(row['network'])}</h2>" + pages.table(head, rows)


def heat_map(figures: dict[str, Any], what: str, title: str) -> Figure:
    """One panel a network: corruptions down, severities across; dark is bad. `what` is ``error`` or ``auroc``."""
    networks, names = figures["networks"], list(figures["levels"])
    grids = [np.array([row["corruptions"][name][what] for name in names]) for row in networks]
    grids = [1 - grid if what == "error" else grid for grid in grids]
    least = min(0.5, float(np.nanmin(grids)))
    with plt.rc_context({**STYLE, "axes.grid": False}):
        width = 2.0 + 2.1 * len(networks)
        figure, panels = plt.subplots(
            1, len(networks), figsize=(width, 1.2 + 0.3 * len(names)), sharey=True, squeeze=False
        )
        for axes, row, grid in zip(panels[0], networks, grids, strict=True):
            image = axes.imshow(grid, cmap="cividis", vmin=least, vmax=1, aspect="auto")
            for (place, severity), value in np.ndenumerate(grid):
                shade = "black" if value > (least + 1) / 2 else "white"
                axes.text(severity, place, f"{value:.3f}", ha="center", va="center", color=shade, fontsize=8)
            axes.set_xticks(range(len(SEVERITIES)), SEVERITIES)
            axes.set_yticks(range(len(names)), [_title(name) for name in names])
            axes.set_title(f"{_short(row['network'])}\nmean {np.nanmean(grid):.3f}", fontsize=9)
            axes.tick_params(length=0)
        figure.colorbar(image, ax=panels[0].tolist(), aspect=5 * len(names) + 5, fraction=0.16 / (1 + len(networks)))
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=10)
        return figure


def differences(figures: dict[str, Any], title: str) -> Figure:
    """Each network's errors less the first's, by corruption, with paired intervals; left of the line is better."""
    first, *others = figures["networks"]
    names = list(figures["levels"])
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.2, 1.5 + 0.32 * len(names)))
        for number, row in enumerate(others):
            colour, marker = LINES[number % len(LINES)][0], MARKERS[number % len(MARKERS)]
            shift = 0.22 * (number - (len(others) - 1) / 2)
            for place, name in enumerate(names):
                value = row["against_first"]["corruptions"][name]
                low, high = value.get("interval_95", [value["difference"]] * 2)
                axes.plot([low, high], [place + shift] * 2, color=colour, lw=2, alpha=0.45)
                label = _short(row["network"]) if place == 0 else None
                axes.plot(value["difference"], place + shift, marker, color=colour, ms=5, label=label)
        axes.axvline(0, color="0.3", lw=1)
        axes.set_yticks(range(len(names)), [_title(name) for name in names])
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlabel(f"share of errors less that of {_short(first['network'])}; left is better")
        figure.legend(frameon=False, fontsize=8, loc="outside lower left", ncols=2)
        axes.set_title(title, loc="left", fontweight="bold", fontsize=10)
        return figure


def examples(picture: Grey, names: Sequence[str]) -> Figure:
    """What each corruption does to one picture."""
    halves = 2 if len(names) > 1 else 1
    rows = -(-len(names) // halves)
    with plt.rc_context({**STYLE, "axes.grid": False}):
        columns = len(SEVERITIES) * halves
        figure, grid = plt.subplots(rows, columns, figsize=(1.45 * columns, 1.65 * rows + 0.3), squeeze=False)
        for axes in grid.flat:
            axes.axis("off")
        for place, name in enumerate(names):
            half, row = divmod(place, rows)
            for severity, level in enumerate(CORRUPTIONS[name].levels):
                axes = grid[row, half * len(SEVERITIES) + severity]
                axes.imshow(corrupt(picture[None], name, severity)[0], cmap="gray", vmin=0, vmax=255)
                caption = f"{_title(name)} {level:g}" if severity == 0 else f"{level:g}"
                axes.set_title(caption, fontsize=7.5, loc="left", pad=2)
        figure.suptitle("what was done to the pictures: mild, strong, severe", x=0.01, ha="left", fontsize=10)
        return figure


def _title(name: str) -> str:
    return name.replace("_", " ")


def _short(network: str) -> str:
    """A network's name for a small place: of a path the last two folders and the file, without what all share."""
    parts = [part for part in network.split("/") if part not in ("model.xml", "model.onnx", "best.keras")]
    return "/".join(parts[-2:])
