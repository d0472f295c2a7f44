"""What `split` found in a data set: how often pictures repeat, where they leak, and why the threshold is where it is.

Only figures are made here; `audit_plots` draws them, and `audit_page` writes them down.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

from densescan.tasks import Task

from . import leakage, near_duplicates, splits
from .layouts import ImageFile
from .leakage import Leak
from .manifest import Entry, fold_counts
from .near_duplicates import Pair, Survey

BELOW = 0.12
"""How far below the threshold example pairs are looked for."""

MOST_PAIRS = 200_000
"""Example pairs are chosen among so many at most: a million of them would take gigabytes."""

BY_FILE = "files at random"
BY_EQUAL = "patients and equal pixels together"
AS_WRITTEN = "this manifest"


@dataclass(frozen=True)
class Band:
    """Pairs of a stretch of correlations.

    Attributes:
        low: Least correlation.
        high: What the correlation stays below; 1 is included in the uppermost band.
        same: Number of pairs of one class.
        other: Number of pairs of two classes.
        examples: Some of them, each picture at most once: of two classes first, as far as there are any.
    """

    low: float
    high: float
    same: int
    other: int
    examples: tuple[Pair, ...]


@dataclass(frozen=True)
class Audit:
    """All that the page shows.

    Attributes:
        task: What is classified.
        asked: What `--near` said; 1 keeps only equal pixels together.
        threshold: The correlation that the page judges by.
        entries: The manifest.
        report: What `make_split` found.
        labels: The class of each path that is a picture.
        survey: Of all pictures without duplicates.
        pairs: Pictures without duplicates that are nearly equal, by the threshold.
        bands: From the most alike downwards.
        around: The pairs closest above the threshold, and those closest below it.
        across: The pairs of two classes that are most alike.
        folders: What leaks between the split folders that the set came with.
        cuts: What would leak into the held-out folds, by how the set is cut.
        left: What this manifest leaves in train that is like a held-out picture, by the least correlation.
    """

    task: Task
    asked: float
    threshold: float
    entries: Sequence[Entry]
    report: splits.SplitReport
    labels: Mapping[str, str]
    survey: Survey
    pairs: Sequence[Pair]
    bands: Sequence[Band]
    around: tuple[Sequence[Pair], Sequence[Pair]]
    across: Sequence[Pair]
    folders: Sequence[Leak]
    cuts: Mapping[str, Sequence[Leak]]
    left: Mapping[float, Sequence[Leak]]

    def paths(self) -> set[str]:
        """Every picture that is shown."""
        shown = [
            *self.across,
            *self.around[0],
            *self.around[1],
            *(pair for band in self.bands for pair in band.examples),
        ]
        return {path for pair in shown for path in (pair.first, pair.second)}


def audit(
    task: Task,
    images: Sequence[ImageFile],
    scan: splits.Scan,
    entries: Sequence[Entry],
    report: splits.SplitReport,
    *,
    near: float,
    ratios: tuple[float, float, float],
    seed: int,
    before: Mapping[str, str] | None = None,
) -> Audit:
    """Gather what the page shows.

    Args:
        task: What is classified.
        images: From `layouts.find_images`.
        scan: From `splits.scan_images`.
        entries: The manifest that was cut from them.
        report: What was found on the way.
        near: The correlation from which pictures were kept together; 1 if only equal ones were.
        ratios: As given to `make_split`; with `seed` and `before`, they cut the set in the ways to compare with.
        seed: As given to `make_split`.
        before: As given to `make_split`.
    """
    threshold = near if near < 1 else near_duplicates.THRESHOLD
    everywhere = report.pairs if near < 1 else near_duplicates.find_pairs(scan.fingerprints, threshold)
    labels = {image.path: image.label for image in images if image.path in scan.hashes}
    unique = {entry.path: scan.fingerprints[entry.path] for entry in entries if not entry.duplicate_of}
    survey = near_duplicates.survey(unique, labels)
    candidates = near_duplicates.find_pairs(unique, _floor(survey, threshold))
    return Audit(
        task=task,
        asked=near,
        threshold=threshold,
        entries=entries,
        report=report,
        labels=labels,
        survey=survey,
        pairs=[pair for pair in candidates if pair.correlation >= threshold],
        bands=_bands(candidates, labels, threshold),
        around=_around(candidates, threshold),
        across=_apart(
            sorted(
                (pair for pair in candidates if labels[pair.first] != labels[pair.second]),
                key=lambda pair: (-pair.correlation, pair),
            ),
            12,
        ),
        folders=leakage.between_folders(images, scan.hashes, everywhere),
        cuts=_cuts(images, scan.hashes, everywhere, entries, ratios=ratios, seed=seed, before=before),
        left={
            edge: leakage.between_folds(entries, scan.hashes, [pair for pair in candidates if pair.correlation >= edge])
            for edge in _edges(threshold)[3:]
        },
    )


def _floor(survey: Survey, threshold: float) -> float:
    """The correlation down to which pairs are looked at: `BELOW` the threshold, less if that were too many."""
    above = (survey.same + survey.other)[::-1].cumsum()[::-1]
    allowed = [float(edge) for edge, count in zip(survey.edges, above, strict=False) if count <= MOST_PAIRS]
    return min(threshold, max(threshold - BELOW, min(allowed, default=threshold)))


def _bands(pairs: Sequence[Pair], labels: Mapping[str, str], threshold: float) -> list[Band]:
    bands = []
    for place, (high, low) in enumerate(pairwise(_edges(threshold))):
        inside = [pair for pair in pairs if low <= pair.correlation and (pair.correlation < high or place == 0)]
        shuffled = random.Random(place).sample(inside, len(inside))
        other = [pair for pair in shuffled if labels[pair.first] != labels[pair.second]]
        same = [pair for pair in shuffled if labels[pair.first] == labels[pair.second]]
        some = _apart([*other[:2], *same, *other[2:]], 6)
        bands.append(Band(low, high, len(same), len(other), tuple(some)))
    return bands


def _edges(threshold: float) -> list[float]:
    """Bounds of three bands above the threshold and three below it, from 1 downwards."""
    above = [1.0, *(threshold + share * (1 - threshold) for share in (0.8, 0.4))]
    below = [threshold - step for step in (0.03, 0.07, BELOW)]
    return [*(round(edge, 6) for edge in above), threshold, *(round(edge, 6) for edge in below)]


def _around(pairs: Sequence[Pair], threshold: float, count: int = 12) -> tuple[list[Pair], list[Pair]]:
    """The pairs closest to the threshold on either side, those nearest to it first."""
    ordered = sorted(pairs, key=lambda pair: (pair.correlation, pair))
    above = [pair for pair in ordered if pair.correlation >= threshold]
    below = [pair for pair in reversed(ordered) if pair.correlation < threshold]
    return _apart(above, count), _apart(below, count)


def _apart(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """The first of `pairs`, without a picture that was shown already: a cluster would fill the sheet with itself."""
    shown: set[str] = set()
    some: list[Pair] = []
    for pair in pairs:
        if len(some) == count:
            break
        if not shown & {pair.first, pair.second}:
            shown |= {pair.first, pair.second}
            some.append(pair)
    return some


def _cuts(
    images: Sequence[ImageFile],
    hashes: Mapping[str, str],
    pairs: Sequence[Pair],
    entries: Sequence[Entry],
    *,
    ratios: tuple[float, float, float],
    seed: int,
    before: Mapping[str, str] | None,
) -> dict[str, list[Leak]]:
    """Leaks of this manifest, and of those that would have been written without patients or near-duplicates."""
    alone = [replace(image, group=image.path) for image in images]
    own = {path: path for path in hashes}  # every file a picture of its own
    cuts = {
        BY_FILE: splits.make_split(alone, own, ratios=ratios, seed=seed)[0],
        BY_EQUAL: splits.make_split(images, hashes, before=before, ratios=ratios, seed=seed)[0],
        AS_WRITTEN: entries,
    }
    return {name: leakage.between_folds(cut, hashes, pairs) for name, cut in cuts.items()}


def figures(audit: Audit) -> dict[str, Any]:
    """Everything as plain data for JSON; pictures are named, not shown."""
    across = [pair for pair in audit.pairs if audit.labels[pair.first] != audit.labels[pair.second]]
    return {
        "task": audit.task.name,
        "near": audit.asked,
        "threshold": audit.threshold,
        "folds": {
            fold: {**dict(zip(audit.task.labels, pictures, strict=True)), "groups": groups}
            for fold, pictures, groups in fold_counts(audit.task.labels, audit.entries)
        },
        "unreadable": [{"path": path, "reason": reason} for path, reason in audit.report.unreadable],
        "conflicts": audit.report.conflicts,
        "duplicates": audit.report.duplicates,
        "near_duplicates": {
            "pairs": len(audit.pairs),
            "pictures": len({path for pair in audit.pairs for path in (pair.first, pair.second)}),
            "mirrored": sum(pair.mirrored for pair in audit.pairs),
            "across_classes": [asdict(pair) for pair in across],
        },
        "histogram": {
            "edges": [round(float(edge), 4) for edge in audit.survey.edges],
            "same_class": audit.survey.same.tolist(),
            "different_classes": audit.survey.other.tolist(),
        },
        "leaks_between_folders": [asdict(leak) for leak in audit.folders],
        "leaks_into_held_out_folds": {name: [asdict(leak) for leak in leaks] for name, leaks in audit.cuts.items()},
        "left_in_train": {f"{edge:.4g}": [asdict(leak) for leak in leaks] for edge, leaks in audit.left.items()},
    }
