"""The audit's pictures: how alike all pairs are, what leaks, and sheets of pairs to judge the threshold by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter

from .audit import AS_WRITTEN, Audit
from .leakage import Leak, summed
from .near_duplicates import LEAST, Pair
from .plots import BLUE, ORANGE, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Thumbnails = Mapping[str, npt.NDArray[np.uint8]]
"""Path to a small grey picture: uint8 [`THUMBNAIL`, `THUMBNAIL`]."""

THUMBNAIL = 150
COLUMNS = 6

_LIGHT = "#F0B48A"
_INK, _DIM = "#1b1b1b", "#6b6b6b"
_PAIR_INCHES = (2.05, 1.0)
_CAPTION, _GAP, _MARGIN, _ROW_TITLE = 0.42, 0.18, 0.25, 0.34


def histogram(audit: Audit) -> Figure:
    """All pairs by their correlation, and all pictures by their nearest one."""
    survey = audit.survey
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 3.8))
        for counts, label, colour in (
            (survey.same, "of one class", BLUE),
            (survey.other, "of two classes", ORANGE),
        ):
            left.stairs(counts, survey.edges, fill=True, color=colour, alpha=0.35)
            left.stairs(counts, survey.edges, color=colour, lw=1.5, label=label)
        left.set(ylabel="pairs of pictures", title="All pairs")
        if (survey.same + survey.other).any():
            left.set(yscale="log", ylim=(0.7, None))
        left.legend(frameon=False, loc="lower left")
        pictures = max(1, len(survey.nearest))
        share = np.array([(survey.nearest >= edge).sum() / pictures for edge in survey.edges])
        right.fill_between(survey.edges, share, color=BLUE, alpha=0.2)
        right.plot(survey.edges, share, color=BLUE, lw=2)
        right.set(ylim=(0, 1.02), ylabel="share of the pictures", title="Pictures that have another so much like them")
        right.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        reached = float((survey.nearest >= audit.threshold).sum() / pictures)
        right.plot([audit.threshold], [reached], "o", color=_INK, ms=5)
        right.annotate(f"{reached:.1%}", (audit.threshold, reached), (6, 6), textcoords="offset points", color=_INK)
        for axes in (left, right):
            axes.set(xlabel="correlation, as they are or mirrored", xlim=(LEAST, 1.005))
            axes.axvline(audit.threshold, color=_INK, lw=1, ls="--")
            axes.set_title(axes.get_title(), loc="left", fontweight="bold", fontsize=10)
            axes.set_title("")
        left.annotate(
            f"threshold {audit.threshold:g}",
            (audit.threshold, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(-4, -4),
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=8.5,
            color=_INK,
            rotation=90,
        )
        return figure


def leaks(audit: Audit) -> Figure:
    """Held-out pictures that have a twin in train, per class, by how the set is cut."""
    classes = list(audit.task.labels)
    with plt.rc_context(STYLE):
        height = 1.25 + 0.42 * (len(classes) + 1)
        figure, panels = plt.subplots(1, len(audit.cuts), figsize=(10.5, height), sharey=True, sharex=True)
        rows = {
            name: [*_by_class(found, classes), summed(found)] if found else [] for name, found in audit.cuts.items()
        }
        largest = max((leak.share for found in rows.values() for leak in found), default=0.0)
        for axes, (name, found) in zip(panels, rows.items(), strict=True):
            _leak_panel(axes, found)
            axes.set_title(name, loc="left", fontsize=10, fontweight="bold" if name == AS_WRITTEN else "normal")
        panels[0].set(xlim=(0, max(0.02, largest * 1.6)))
        panels[0].set_xticks([tick for tick in panels[0].get_xticks() if tick <= min(1.0, largest * 1.6)])
        panels[0].set_yticks(range(len(classes) + 1), [*classes, "all classes"])
        panels[0].invert_yaxis()
        figure.supxlabel("share of the held-out pictures that have a twin in train", fontsize=10)
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, frameon=False, fontsize=9, loc="outside upper right", ncols=2)
        return figure


def _leak_panel(axes: Axes, found: Sequence[Leak]) -> None:
    places = np.arange(len(found))
    equal = np.array([leak.equal / max(1, leak.pictures) for leak in found])
    near = np.array([leak.near / max(1, leak.pictures) for leak in found])
    axes.barh(places, equal, 0.62, color=ORANGE, label="equal pixels")
    axes.barh(places, near, 0.62, left=equal, color=_LIGHT, label="nearly equal")
    for place, leak in zip(places, found, strict=True):
        text = f" {leak.share:.1%}  ({leak.equal + leak.near:,} of {leak.pictures:,})"
        axes.text(leak.share, float(place), text, va="center", fontsize=8.5, color=_INK)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(visible=False, axis="y")


def _by_class(found: Sequence[Leak], classes: Sequence[str]) -> list[Leak]:
    rows = []
    for label in classes:
        some = [leak for leak in found if leak.label == label]
        rows.append(summed(some) if some else Leak("", "train", label, 0, 0, 0))
    return rows


def band_sheet(audit: Audit, thumbnails: Thumbnails) -> Figure:
    """Example pairs, a row a stretch of correlations, with the threshold between the rows."""
    rows = []
    for band in audit.bands:
        count = band.same + band.other
        title = f"{band.low:.3g} to {band.high:.3g}:  {count:,} pair{'s' if count > 1 else ''}"
        title += f", {band.other:,} of two classes" if band.other else ""
        rows.append((title if count else f"{band.low:.3g} to {band.high:.3g}", band.examples))
    line = sum(band.low >= audit.threshold for band in audit.bands)
    return pair_sheet(rows, audit.labels, thumbnails, line_before=line)


def threshold_sheet(audit: Audit, thumbnails: Thumbnails) -> Figure:
    """The pairs closest to the threshold on either side."""
    above, below = audit.around
    return pair_sheet(
        [
            (f"just above {audit.threshold:g}, closest to it last", above[::-1][:COLUMNS]),
            ("", above[::-1][COLUMNS:]),
            (f"just below {audit.threshold:g}, closest to it first", below[:COLUMNS]),
            ("", below[COLUMNS:]),
        ],
        audit.labels,
        thumbnails,
        line_before=2,
    )


def class_sheet(audit: Audit, thumbnails: Thumbnails) -> Figure:
    """The pairs of two classes that are most alike."""
    rows = [("", audit.across[start : start + COLUMNS]) for start in range(0, len(audit.across), COLUMNS)]
    rows[0] = ("the most alike pictures of two classes", rows[0][1])
    return pair_sheet(rows, audit.labels, thumbnails)


def pair_sheet(
    rows: Sequence[tuple[str, Sequence[Pair]]],
    labels: Mapping[str, str],
    thumbnails: Thumbnails,
    line_before: int | None = None,
) -> Figure:
    """Pairs in rows, each with its correlation and class; those of two classes are framed.

    Args:
        rows: Title and at most `COLUMNS` pairs; an empty title takes no room, a row without pairs says so.
        labels: The class of each path.
        thumbnails: Of each path.
        line_before: Index of the row before which the threshold's line is drawn.
    """
    wide, high = _PAIR_INCHES
    heights = [(_ROW_TITLE if title else 0.0) + (high + _CAPTION if some else 0.0) + _GAP for title, some in rows]
    width = 2 * _MARGIN + COLUMNS * wide + (COLUMNS - 1) * _GAP
    height = 2 * _MARGIN + sum(heights)
    figure = plt.figure(figsize=(width, height), dpi=100)
    top = height - _MARGIN
    for place, ((title, some), step) in enumerate(zip(rows, heights, strict=True)):
        if place == line_before:
            _draw_line(figure, top + _GAP / 2, width, height)
        start = top
        if title:
            text = title if some else f"{title}:  no pairs"
            figure.text(
                _MARGIN / width, (start - 0.1) / height, text, va="top", fontsize=10.5, weight="bold", color=_INK
            )
            start -= _ROW_TITLE
        for column, pair in enumerate(some):
            left = _MARGIN + column * (wide + _GAP)
            axes = figure.add_axes((left / width, (start - high) / height, wide / width, high / height))
            _draw_pair(axes, pair, labels, thumbnails)
        top -= step
    return figure


def _draw_line(figure: Figure, at: float, width: float, height: float) -> None:
    line = Line2D([_MARGIN / width, 1 - _MARGIN / width], [at / height] * 2, color=_INK, lw=1.6, ls=(0, (6, 3)))
    figure.add_artist(line)
    for text, va, shift in (("kept in one fold ▲", "bottom", 0.03), ("left apart ▼", "top", -0.03)):
        figure.text(1 - _MARGIN / width, (at + shift) / height, text, ha="right", va=va, fontsize=9, color=_INK)


def _draw_pair(axes: Axes, pair: Pair, labels: Mapping[str, str], thumbnails: Thumbnails) -> None:
    gap = np.full((THUMBNAIL, 5), 255, np.uint8)
    axes.imshow(np.hstack([thumbnails[pair.first], gap, thumbnails[pair.second]]), cmap="gray", vmin=0, vmax=255)
    axes.set_axis_off()
    first, second = labels[pair.first], labels[pair.second]
    if first != second:
        frame = Rectangle((0, 0), 1, 1, transform=axes.transAxes, fill=False, ec=ORANGE, lw=3, clip_on=False)
        axes.add_patch(frame)
    mirrored = "  mirrored" if pair.mirrored else ""
    caption = f"{pair.correlation:.4f}{mirrored}"
    axes.text(0, -0.05, caption, transform=axes.transAxes, va="top", fontsize=9.5, color=_INK)
    name = first if first == second else f"{first} | {second}"
    colour = _DIM if first == second else ORANGE
    axes.text(0, -0.23, name, transform=axes.transAxes, va="top", fontsize=8.5, color=colour)
