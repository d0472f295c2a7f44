"""The command `split`: read every picture, cut the folds, say and show what was found."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from densescan.tasks import Task

from . import layouts, leakage, near_duplicates, splits
from .commands import default_manifest
from .console import err, out, progress, tell
from .manifest import Entry, ManifestError, fold_counts, read_manifest, used, write_manifest

LARGE_GROUP = 0.1
"""Share of all pictures from which one group is worth a warning."""


def split(
    task: Task,
    data: Path | None,
    target: Path | None,
    ratios: str,
    seed: int,
    group: str | None,
    near: float = near_duplicates.THRESHOLD,
    after: Path | None = None,
    *,
    with_audit: bool = True,
) -> None:
    """Write a manifest, say what was found, and show it on a page.

    Args:
        task: What is classified.
        data: The folder of the images; None looks for it.
        target: Where the manifest goes; None is ``runs/<task>/manifest.csv``.
        ratios: Percentages of train, val and test, such as ``70/15/15``.
        seed: Of the cut.
        group: Regular expression on file names: what must stay together; None is the patient.
        near: Correlation from which pictures are kept together; 1 keeps only equal pixels together.
        after: An earlier manifest; what it trained on stays in train.
        with_audit: Write the page `audit.html` beside the manifest.

    Raises:
        DataNotFound: There are no images, or none of a class can be read.
        ManifestError: `after` is no manifest of this task, or of none of these pictures.
        ValueError: `ratios` or `group` cannot be read.
    """
    shares = _parse_ratios(ratios)
    data = layouts.find_data(task, data)
    images = layouts.find_images(task, data, group)
    with progress("reading images", len(images)) as done:
        scan = splits.scan_images(images, data, done)
    pairs = near_duplicates.find_pairs(scan.fingerprints, near) if near < 1 else []
    before = splits.folds_before(read_manifest(after, task.labels)) if after else None
    if before is not None and not before.keys() & set(scan.hashes.values()):
        raise ManifestError(f"no picture of {after} stands below {data}: is it another data set's manifest?")
    readable = {image.label for image in images if image.path in scan.hashes}
    if missing := [label for label in task.labels if label not in readable]:
        path, reason = scan.unreadable[0]
        raise layouts.DataNotFound(f"no picture of {', '.join(missing)} can be read; of {path}: {reason}")
    entries, report = splits.make_split(images, scan.hashes, pairs=pairs, before=before, ratios=shares, seed=seed)
    report.unreadable = scan.unreadable
    target = target or default_manifest(task)
    write_manifest(target, entries)
    _show_split(task, entries, report, near)
    for what, count in layouts.passed_over(task, data).items():
        out.print(f"not taken, {what}: {count:,}", style="yellow", soft_wrap=True)
    _show_leaks(leakage.between_folders(images, scan.hashes, pairs))
    tell("\nwritten: ", target)
    if with_audit:
        from . import audit, audit_page  # takes Matplotlib's second to import

        with err.status("comparing all pictures"):
            found = audit.audit(task, images, scan, entries, report, near=near, ratios=shares, seed=seed, before=before)
        with progress("drawing the audit", len(found.paths())) as done:
            page = audit_page.write_audit(target, found, data, done)
        tell("audit:   ", page)
    named = [] if target == default_manifest(task) else ["--manifest", str(target)]
    where = shlex.join(["--data", str(data), *named])
    out.print(f"next:    python -m training fit --task {task.name} {where}", soft_wrap=True)


def _parse_ratios(text: str) -> tuple[float, float, float]:
    try:
        train, val, test = (float(part) / 100 for part in text.split("/"))
    except ValueError as error:
        raise ValueError(f"--ratios {text!r}: expected three percentages such as 70/15/15") from error
    if min(train, val, test) < 0 or abs(train + val + test - 1) > 1e-6:
        raise ValueError(f"--ratios {text!r}: the three percentages must add up to 100")
    return train, val, test


def _show_split(task: Task, entries: Sequence[Entry], report: splits.SplitReport, near: float) -> None:
    table = Table(title=f"{task.title}: pictures without duplicates", title_justify="left")
    table.add_column("fold")
    for label in (*task.labels, "all", "groups"):
        table.add_column(label, justify="right")
    for fold, counts, groups in fold_counts(task.labels, entries):
        table.add_row(fold, *(f"{count:,}" for count in (*counts, sum(counts), groups)))
    out.print(table)
    out.print(f"duplicates (equal pixels), kept in their first copy's fold and not used: {report.duplicates:,}")
    out.print(_near(entries, report) if near < 1 else "nearly equal: not looked for, with --near 1", soft_wrap=True)
    if tied := sum(not entry.duplicate_of for entry in entries) - len(used(entries)):
        out.print(f"nearly equal to a published test picture, neither trained nor measured on: {tied:,}")
    _warn_of_clusters(entries)
    if report.leaked:
        out.print(f"stood on both sides of the published train and test folders: {report.leaked}", style="yellow")
    for paths in report.conflicts:
        out.print(f"left out, equal pictures in several classes: {', '.join(paths)}", style="yellow", soft_wrap=True)
    for path, reason in report.unreadable:
        out.print(f"left out, unreadable: {path}: {reason}", style="yellow", soft_wrap=True)


def _show_leaks(leaks: Sequence[leakage.Leak]) -> None:
    """The folders that the set came with, where one holds pictures of another."""
    for leak in leaks:
        if leak.equal or leak.near:
            out.print(
                f"the folder {leak.held or '.'}: {leak.equal + leak.near:,} of {leak.pictures:,} pictures of "
                f"{leak.label} stand in {leak.source or '.'} as well ({leak.equal:,} equal, {leak.near:,} nearly)",
                style="yellow",
                soft_wrap=True,
            )


def _warn_of_clusters(entries: Sequence[Entry]) -> None:
    """A chain of pairs can tie a set together that has little to tell apart: say so, and what to do."""
    chosen = used(entries)
    group, size = Counter(entry.group for entry in chosen).most_common(1)[0] if chosen else ("", 0)
    if size > max(20, LARGE_GROUP * len(chosen)):
        out.print(
            f"{size:,} of {len(chosen):,} pictures are one group ({group} and what is tied to it), so that "
            "folds cannot be cut as asked. If they are nearly equal, raise --near; if it is --group, narrow it.",
            style="yellow",
            soft_wrap=True,
        )


def _near(entries: Sequence[Entry], report: splits.SplitReport) -> str:
    label = {entry.path: entry.label for entry in entries if not entry.duplicate_of}
    pairs = [pair for pair in report.pairs if pair.first in label and pair.second in label]
    pictures = {path for pair in pairs for path in (pair.first, pair.second)}
    mirrored = sum(pair.mirrored for pair in pairs)
    other = sum(label[pair.first] != label[pair.second] for pair in pairs)
    return (
        f"nearly equal, kept in one fold: {len(pairs):,} pairs of {len(pictures):,} pictures, {mirrored:,} of them "
        f"mirrored, {other:,} across classes"
    )
