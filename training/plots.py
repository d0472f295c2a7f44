"""The report's pictures: training curves, confusion matrix, ROC."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from sklearn.metrics import roc_curve

from densescan.tasks import Task

mpl.use("Agg")

import matplotlib.pyplot as plt

from .metrics import Classes, Probabilities
from .runs import write_aside

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE = "#0072B2", "#D55E00"  # Okabe and Ito's colours, apart for colour-blind readers
STYLE = {
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


def confusion_matrix(task: Task, counts: Sequence[Sequence[int]], title: str) -> Figure:
    """Counts, shaded by the share of each true class."""
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
        axes.set(xlabel="predicted", ylabel="true")
        axes.set_title(title, loc="left", fontweight="bold", fontsize=10)
        return figure


def roc(task: Task, classes: Classes, probabilities: Probabilities, figures: dict[str, Any], title: str) -> Figure:
    """ROC of the positive finding, or of each class against the rest."""
    indices = range(len(task.labels)) if task.positive_index is None else [task.positive_index]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(4.4, 4.0))
        for index in indices:
            false_positive, true_positive, _ = roc_curve(classes == index, probabilities[:, index])
            axes.plot(false_positive, true_positive, label=task.labels[index])
        axes.plot([0, 1], [0, 1], color="0.7", lw=1, ls=":")
        axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1), ylim=(0, 1.01))
        axes.legend(frameon=False, loc="lower right", title=f"AUROC {figures['auroc']:.4f}")
        axes.set_title(title, loc="left", fontweight="bold", fontsize=10)
        return figure


def reliability(classes: Classes, probabilities: Probabilities, error: float, title: str, bins: int = 10) -> Figure:
    """How often the most probable class is right, by the probability that was given for it."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == classes
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    present = np.unique(places)
    with plt.rc_context(STYLE):
        figure, (upper, lower) = plt.subplots(2, 1, figsize=(4.4, 4.6), sharex=True, height_ratios=(3, 1))
        upper.plot([0, 1], [0, 1], color="0.7", lw=1, ls=":")
        shown = [confidence[places == place].mean() for place in present]
        upper.plot(shown, [right[places == place].mean() for place in present], "o-", color=BLUE)
        upper.set(ylabel="share that is right", ylim=(0, 1.02))
        upper.set_title(f"{title}\nexpected calibration error {error:.4f}", loc="left", fontsize=10)
        lower.bar((present + 0.5) / bins, [(places == place).sum() for place in present], 0.9 / bins, color="0.7")
        lower.set(xlabel="probability of the most probable class", ylabel="images", xlim=(0, 1), yscale="log")
        return figure
