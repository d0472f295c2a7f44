"""The report's pictures: training curves, confusion matrix, ROC, precision and recall, reliability, families."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.ticker import NullFormatter, StrMethodFormatter
from PIL import Image
from scipy.stats import binomtest
from sklearn.metrics import precision_recall_curve, roc_curve

from densescan.tasks import Task

mpl.use("Agg")

import matplotlib.pyplot as plt

from . import resampling
from .metrics import Classes, Probabilities, calibration_bins
from .runs import write_aside

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, apart for colour-blind readers; lines differ in their dashes as well.
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
LINES = ((BLUE, "-"), (ORANGE, "--"), (GREEN, "-."), (PURPLE, (0, (1, 1))), ("#56B4E9", "-"), ("#000000", "--"))
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "figure.dpi": 130,
    "figure.constrained_layout.use": True,
}


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, all or nothing."""
    write_aside(path, lambda aside: figure.savefig(aside, format="png"))
    plt.close(figure)


def training_curves(history: Sequence[dict[str, str]], title: str) -> Figure:
    """Loss and accuracy over the epochs of all phases, with the phases' borders."""
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
        steps = np.arange(1, len(history) + 1)
        for axes, name in ((left, "loss"), (right, "accuracy")):
            for key, label, colour in ((name, "training", BLUE), (f"val_{name}", "validation", ORANGE)):
                axes.plot(steps, [float(row[key]) for row in history], "o-", ms=3.5, color=colour, label=label)
            axes.set(xlabel="epoch", ylabel=name)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.set_xlim(0.5, len(history) + 0.5)
            _mark_phases(axes, [row["phase"] for row in history])
        right.set_ylim(top=1.0)
        left.legend(frameon=False)
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
        return figure


def _mark_phases(axes: Axes, phases: Sequence[str]) -> None:
    for index, phase in enumerate(phases):
        if index and phase == phases[index - 1]:
            continue
        if index:
            axes.axvline(index + 0.5, color="0.6", lw=1, ls=":")
        axes.text(index + 0.6, 1.01, phase, transform=axes.get_xaxis_transform(), fontsize=8, color="0.35")


def confusion_matrix(task: Task, counts: Sequence[Sequence[int]], title: str, decided: str = "predicted") -> Figure:
    """Counts, shaded by the share of each true class; `decided` names the axis of the answers."""
    with plt.rc_context({**STYLE, "axes.grid": False}):
        matrix = np.asarray(counts)
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        figure, axes = plt.subplots(figsize=(1.6 + 0.95 * len(task.labels), 1.3 + 0.8 * len(task.labels)))
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for (row, column), count in np.ndenumerate(matrix):
            shade = "white" if shares[row, column] > 0.55 else "black"
            text = f"{count:,}\n{shares[row, column]:.1%}"
            axes.text(column, row, text, ha="center", va="center", color=shade, fontsize=9)
        axes.set_xticks(range(len(task.labels)), task.labels)
        axes.set_yticks(range(len(task.labels)), task.labels)
        axes.set(xlabel=decided, ylabel="true")
        axes.set_title(title, loc="left", fontweight="bold", fontsize=10)
        return figure


def roc(task: Task, classes: Classes, probabilities: Probabilities, figures: dict[str, Any], title: str) -> Figure:
    """ROC of the positive finding, or of each class against the rest, with the operating point where there is one."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(4.6, 4.2))
        for index, (colour, dashes) in _lines(task):
            false_positive, true_positive, _ = roc_curve(classes == index, probabilities[:, index])
            axes.plot(
                false_positive, true_positive, color=colour, ls=dashes, label=_named(task, figures, index, "auroc")
            )
        axes.plot([0, 1], [0, 1], color="0.7", lw=1, ls=":")
        if at := figures.get("operating_point"):
            _mark(axes, 1 - at["specificity"], at["sensitivity"], at["threshold"])
        axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1), ylim=(0, 1.01))
        axes.legend(frameon=False, loc="lower right", title=f"AUROC {figures['auroc']:.4f}", fontsize=9)
        axes.set_title(title, loc="left", fontweight="bold", fontsize=10)
        return figure


def precision_recall(
    task: Task, classes: Classes, probabilities: Probabilities, figures: dict[str, Any], title: str
) -> Figure:
    """Precision over recall of the positive finding, or of each class against the rest.

    The dotted lines are the shares of the classes: the precision of a guess.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(4.6, 4.2))
        for index, (colour, dashes) in _lines(task):
            precision, recall, _ = precision_recall_curve(classes == index, probabilities[:, index])
            axes.plot(recall, precision, color=colour, ls=dashes, label=_named(task, figures, index, "auprc"))
            axes.axhline((classes == index).mean(), color=colour, lw=1, ls=":", alpha=0.6)
        if at := figures.get("operating_point"):
            _mark(axes, at["sensitivity"], at["ppv"], at["threshold"])
        axes.set(xlabel="recall (sensitivity)", ylabel="precision (PPV)", xlim=(0, 1.01), ylim=(0, 1.01))
        axes.legend(frameon=False, loc="lower left", title=f"AUPRC {figures['auprc']:.4f}", fontsize=9)
        axes.set_title(title, loc="left", fontweight="bold", fontsize=10)
        return figure


def _lines(task: Task) -> list[tuple[int, tuple[str, Any]]]:
    """The classes that have a curve, each with its colour and dashes."""
    return list(zip(resampling.scored_classes(task), LINES, strict=False))


def _named(task: Task, figures: dict[str, Any], index: int, area: str) -> str:
    """A class's name in a legend, with its own area where there are several."""
    label = task.labels[index]
    own = figures["classes"][label].get(area)
    return label if own is None else f"{label} {own:.4f}"


def _mark(axes: Axes, x: float, y: float, threshold: float) -> None:
    axes.plot(x, y, "D", ms=7, color=ORANGE, mec="white", label=f"operating point {threshold:.3g}", ls="none")


def family_pairs(figures: dict[str, Any], title: str) -> Figure:
    """AUROC of each family against each, with its interval; the worst is named apart."""
    table = figures["family_pairs"]
    names = sorted(table, key=lambda name: table[name]["auroc"])
    worst = {figures[key]["pair"] for key in ("worst_family", "worst_family_with_other_hospitals") if key in figures}
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.2, 1.0 + 0.3 * len(names)))
        for place, name in enumerate(names):
            value = table[name]["auroc"]
            colour, marker = (ORANGE, "D") if name in worst else (BLUE, "o")
            low, high = table[name].get("interval_95", (value, value))
            axes.plot([low, high], [place, place], color=colour, lw=2, alpha=0.5, solid_capstyle="butt")
            axes.plot(value, place, marker, color=colour, ms=6)
            axes.annotate(f"{value:.3f}", (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=9)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set(xlabel="AUROC, with 95 % interval; diamonds: the worst")
        axes.set_xlim(right=1.003)
        axes.set_title(f"{title}: each family against each", loc="left", fontweight="bold", fontsize=10)
        return figure


def pictures(grey: npt.NDArray[np.uint8], captions: Sequence[str], title: str, columns: int = 4) -> Figure:
    """A sheet of grey pictures [n, height, width] with a caption below each."""
    rows = -(-len(grey) // columns)
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(rows, columns, figsize=(2.6 * columns, 3.2 * rows + 0.4), squeeze=False)
        for axes in grid.flat:
            axes.axis("off")
        for axes, image, caption in zip(grid.flat, grey, captions, strict=False):
            axes.imshow(image, cmap="gray", vmin=0, vmax=255)
            axes.text(0, -0.02, caption, transform=axes.transAxes, va="top", fontsize=8)
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
        return figure


def as_image(figure: Figure) -> Image.Image:
    """A figure as an RGB picture."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    plt.close(figure)
    return Image.open(buffer).convert("RGB")


def reliability(classes: Classes, probabilities: Probabilities, error: float, title: str, bins: int = 10) -> Figure:
    """How often the most probable class is right, by the probability that was given for it, with Wilson's intervals."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == classes
    places = calibration_bins(confidence, bins)
    present = np.unique(places)
    least = 1 / probabilities.shape[1]  # the most probable of k classes has at least this
    with plt.rc_context(STYLE):
        figure, (upper, lower) = plt.subplots(2, 1, figsize=(4.6, 4.6), sharex=True, height_ratios=(3, 1))
        upper.plot([0, 1], [0, 1], color="0.6", lw=1, ls=":")
        for place in present:
            chosen = places == place
            bounds = binomtest(int(right[chosen].sum()), int(chosen.sum())).proportion_ci(method="wilson")
            upper.plot([confidence[chosen].mean()] * 2, [bounds.low, bounds.high], color=BLUE, lw=2, alpha=0.4)
        shown = [confidence[places == place].mean() for place in present]
        upper.plot(shown, [right[places == place].mean() for place in present], "o-", color=BLUE)
        upper.set(ylabel="share that is right", ylim=(0, 1.02))
        upper.set_title(f"{title}\nexpected calibration error {error:.4f}", loc="left", fontsize=10)
        lower.bar((present + 0.5) / bins, [(places == place).sum() for place in present], 0.9 / bins, color="0.7")
        lower.set(xlabel="probability of the most probable class", xlim=(least - 0.02, 1.01), yscale="log")
        lower.set_ylabel("images")
        lower.yaxis.set_minor_formatter(NullFormatter())
        lower.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        return figure
