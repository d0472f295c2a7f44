"""The figures of ``explain-check`` as a page: Markdown, with a picture of the curves and sheets of examples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from densescan import Explanation, contact_sheet
from densescan.tasks import RESEARCH_ONLY, Task

from . import pages, plots
from .faithfulness import STEPS
from .plots import BLUE, ORANGE, STYLE, plt
from .resampling import GROUPS
from .runs import write_aside, write_json, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CANNOT_TELL = """## What Grad-CAM cannot tell

- It says where the network looked, not what it saw there, and not whether that is a disease. A map of a wrong answer
  looks as convincing as one of a right answer.
- It has 7 by 7 places, each about 32 pixels of the network's picture wide, and every place sees far beyond its own
  square. It is no outline of a finding; do not measure on it.
- Every map is scaled to its own largest value: it does not say how much spoke for the label. Compare the
  probabilities, not the colours.
- It shows what speaks for one label, not what speaks against it, and only what is in one place: that a lung is clear
  everywhere has no place.
- Where a letter, a tube or the rim of the film is hot, the network may have learned the hospital and not the disease.
  Where none is hot, it may have learned it all the same.
- The figures of `explain-check` are means over many pictures. They promise nothing for a single one.
"""

_RIVALS = {
    "gradcam": "Grad-CAM",
    "random": "random maps",
    "another": "maps of other pictures",
    "middle": "the middle of the picture",
}


def write_page(folder: Path, task: Task, figures: dict[str, Any], examples: dict[str, Sequence[Explanation]]) -> Path:
    """Write figures.json, curves.png, a sheet of examples per class, and README.md; returns the page's path.

    Args:
        folder: Where to.
        task: What was explained.
        figures: From `explain_check.check`.
        examples: Explanations of some images by their true label; a label without any has no sheet.
    """
    write_json(folder / "figures.json", figures)
    plots.save(curves_picture(task, figures), folder / "curves.png")
    for label, some in examples.items():
        if some:
            sheet = contact_sheet(some, title=f"{task.title}, true class {label}")
            write_aside(folder / f"examples-{label}.png", lambda aside, sheet=sheet: sheet.save(aside))
    target = folder / "README.md"
    text = page(task, figures, [label for label, some in examples.items() if some])
    write_text(target, text)
    return target


def curves_picture(task: Task, figures: dict[str, Any]) -> Figure:
    """The deletion and insertion curves, and how alike the maps of shuffled weights are."""
    shares = np.linspace(0, 100, STEPS)
    colours = {"gradcam": BLUE, "random": "#777777", "another": "#5b8c5a", "middle": ORANGE}
    with plt.rc_context(STYLE):
        figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.4))
        for axes, name, change in ((left, "deletion", "blurred"), (middle, "insertion", "shown")):
            for rival, title in _RIVALS.items():
                part = figures["deletion_and_insertion"][name][rival]
                label = f"{title}: {part['auc']['mean']:.3f}"
                axes.plot(shares, part["curve"], color=colours[rival], label=label, lw=2 if rival == "gradcam" else 1.3)
            axes.set(title=name, xlabel=f"% of the picture {change}, hottest first", ylim=(0, 1.02))
            axes.legend(fontsize=8)
        left.set_ylabel("probability of the decided class")
        rows = _stages(figures)
        values = [figures["randomised_weights"][name]["mean_correlation"] for name in rows]
        right.barh(range(len(rows)), values, color=BLUE)
        right.set(
            yticks=range(len(rows)), xlim=(-1, 1), title="weights shuffled", xlabel="correlation with the true map"
        )
        right.set_yticklabels(rows)
        right.invert_yaxis()
        figure.suptitle(f"{task.title}: {figures['images']} images, {figures['model']}", fontsize=10)
    return figure


def page(task: Task, figures: dict[str, Any], sheets: Sequence[str]) -> str:
    """The page as Markdown."""
    lines = [
        f"# Grad-CAM of the {task.title} network: can it be believed?",
        "",
        f"Written by `python -m training explain-check --task {task.name}` on {figures['images']} images of the fold "
        f"{figures.get('fold', '?')}, judging {figures['model']}. {RESEARCH_ONLY}",
        "",
        "![deletion, insertion and shuffled weights](curves.png)",
        "",
        *_markdown(figures).splitlines(),
        "",
        f"In brackets: 95 % intervals by bootstrap over {GROUPS}. Deletion blurs the picture place by place, the",
        "hottest first, and insertion shows it so on a blurred picture; the figure is the mean probability of the",
        "decided class along the way. *Maps of other pictures* are those of other patients with the same decided",
        "class: as smooth, but not of this picture. *The middle* is a map that points to the centre of every picture.",
        "Where a class stays as probable when everything is blurred (its last figure), deletion says nothing about it.",
        "",
        CANNOT_TELL,
    ]
    if sheets:
        lines += ["## Examples", "", *(f"- [{label}](examples-{label}.png)" for label in sheets), ""]
    return "\n".join(lines)


def recorded(figures: dict[str, Any]) -> str:
    """The figures for a document that shows no pictures of the data set."""
    about = f"`{figures['model']}`, {figures['images']} images of the fold `{figures['fold']}`.\n\n"
    return about + _markdown(figures)


def _markdown(figures: dict[str, Any]) -> str:
    return pages.markdown_table(["what", "figure", "what it should be"], table(figures))


def table(figures: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What was measured, its figure, and what it should be."""
    rows = []
    for name, wanted in (("deletion", "lower than its rivals"), ("insertion", "higher than its rivals")):
        part = figures["deletion_and_insertion"][name]
        for rival, title in _RIVALS.items():
            rows.append((f"{name} AUC, {title}", _bounded(part[rival]["auc"]), wanted if rival == "gradcam" else ""))
        for rival in [rival for rival in _RIVALS if rival != "gradcam"]:
            better = part[f"better_than_{rival}"]
            share = f", on {better['on_share_of_images']:.0%} of the images"
            rows.append((f"{name}: better than {_RIVALS[rival]} by", _bounded(better) + share, "over 0"))
        for label, own in part["gradcam"]["auc_by_class"].items():
            others = [f"{part[rival]['auc_by_class'][label]:.3f}" for rival in _RIVALS if rival != "gradcam"]
            ends = f"; from {part['first_by_class'][label]:.2f} to {part['last_by_class'][label]:.2f} in all"
            what = f"{name} AUC where {label} was decided: Grad-CAM (its rivals in that order)"
            rows.append((what, f"{own:.3f} ({', '.join(others)}){ends}", ""))
    for name in _stages(figures):
        stage = figures["randomised_weights"][name]
        empty = f", {stage['empty_maps']} of {figures['randomised_weights']['images']} maps empty"
        value = f"{stage['mean_correlation']:.3f}{empty if stage['empty_maps'] else ''}"
        rows.append((f"correlation with the map after shuffling: {name}", value, "near 0: the map must change"))
    alike = figures["int8_against_fp32"]
    rows += [
        ("int8 against FP32: mean correlation", f"{alike['mean_correlation']:.4f}", "0.99 or more"),
        ("the same, worst twentieth of the images", f"{alike['worst_twentieth']:.4f}", ""),
        ("the same: hottest place is the same", f"{alike['same_hottest_place']:.1%}", "near 100 %"),
    ]
    outside, rim = figures["outside_the_body"], figures["at_the_rim"]
    rows += [
        ("mass of the map outside the body", f"{outside['mass']:.1%}", f"under {outside['area']:.1%}, its area"),
        ("hottest pixel outside the body", f"{outside['hottest_outside']:.1%}", "near 0 %"),
        ("mass in the outermost places", f"{rim['mass']:.1%}", f"under {rim['area']:.1%}, their area"),
        ("empty maps", str(outside["empty_maps"]), "few"),
    ]
    return rows


def _stages(figures: dict[str, Any]) -> list[str]:
    return [name for name, value in figures["randomised_weights"].items() if isinstance(value, dict)]


def _bounded(value: dict[str, Any]) -> str:
    return pages.bounded(value["mean"], value["interval_95"], 3)
