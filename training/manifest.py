"""The manifest: which image is in which fold. A CSV, so that people can read and diff it."""

from __future__ import annotations

import csv
import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from .layouts import is_official
from .runs import open_table, write_aside

log = logging.getLogger(__name__)

FOLDS = ("train", "val", "test", "official")
"""The first three are cut from the training images; ``official`` is the published test set."""

_HEADER = {"label": "class"}  # a column's name where it is no name in Python


@dataclass(frozen=True)
class Entry:
    """One image.

    Attributes:
        path: Relative to the data folder, with forward slashes.
        label: Its class.
        group: Patient, or whatever must stay together.
        fold: One of `FOLDS`.
        sha256: Of the decoded grey pixels and their size, so that equal pictures have equal
            hashes however they were stored.
        duplicate_of: Path of the first image with equal pixels; empty for that first one.
            Duplicates are neither trained nor measured on.
    """

    path: str
    label: str
    group: str
    fold: str
    sha256: str
    duplicate_of: str = ""


class ManifestError(Exception):
    """The manifest is missing, damaged, or does not fit the task."""


def write_manifest(path: Path, entries: Iterable[Entry]) -> None:
    """Write `entries` to `path`, which appears only when it is complete."""
    names = [field.name for field in fields(Entry)]

    def fill(aside: Path) -> None:
        with open_table(aside, "w") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([_HEADER.get(name, name) for name in names])
            writer.writerows([asdict(entry)[name] for name in names] for entry in entries)

    write_aside(path, fill)


def read_manifest(path: Path, labels: Sequence[str]) -> list[Entry]:
    """The entries of a manifest.

    Raises:
        ManifestError: It is missing or damaged, or names a class or a fold that does not exist.
    """
    try:
        with open_table(path) as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError as error:
        raise ManifestError(f"no manifest at {path}; make one with: python -m training split") from error
    names = {_HEADER.get(field.name, field.name): field.name for field in fields(Entry)}
    if not rows or not names.keys() <= rows[0].keys():
        raise ManifestError(f"{path} is no manifest: expected the columns {', '.join(names)}")
    entries = [Entry(**{name: row[column] for column, name in names.items()}) for row in rows]
    for entry in entries:
        if entry.label not in labels:
            raise ManifestError(f"{path}: class {entry.label!r} is none of {', '.join(labels)}; is it another task's?")
        if entry.fold not in FOLDS:
            raise ManifestError(f"{path}: fold {entry.fold!r} is none of {', '.join(FOLDS)}")
    return entries


def trained_on(network: Path, entries: Iterable[Entry], labels: Sequence[str]) -> int:
    """How many of some pictures a network was trained on, by the manifest beside its file.

    Args:
        network: Its file; without a manifest beside it nothing is known, and the answer is 0.
        entries: The pictures.
        labels: Of the task.

    Raises:
        ManifestError: The manifest is damaged.
    """
    own = network.parent / "manifest.csv"
    if not own.is_file():
        return 0
    trained = {entry.sha256 for entry in read_manifest(own, labels) if entry.fold == "train"}
    return sum(entry.sha256 in trained for entry in entries)


def warn_if_trained_on(network: Path, entries: Sequence[Entry], labels: Sequence[str]) -> None:
    """Say so where a network is about to be measured on pictures that it has seen."""
    if seen := trained_on(network, entries, labels):
        log.warning(
            "%s was trained on %s of these %s pictures, by the manifest beside it: its figures will be too good. "
            "Measure it by its own --manifest",
            *(network.as_posix(), f"{seen:,}", f"{len(entries):,}"),
        )


def manifest_hash(path: Path) -> str:
    """SHA-256 of the manifest's bytes, in hexadecimal: names the exact data of a training."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def of_fold(entries: Iterable[Entry], fold: str) -> list[Entry]:
    """The entries of one fold, without the duplicates; of ``official`` those in the published test folders alone.

    What is nearly equal to a published test picture is in that fold as well, so that nothing is trained on it, but
    figures of the published set are of the published pictures.
    """
    found = [entry for entry in entries if entry.fold == fold and not entry.duplicate_of]
    return [entry for entry in found if is_official(entry.path)] if fold == "official" else found


def fold_counts(labels: Sequence[str], entries: Sequence[Entry]) -> list[tuple[str, list[int], int]]:
    """Fold, its pictures of each class without duplicates, its groups; folds without any are left out."""
    pictures = Counter((entry.fold, entry.label) for entry in used(entries))
    groups = {fold: {entry.group for entry in entries if entry.fold == fold} for fold in FOLDS}
    return [(fold, [pictures[fold, label] for label in labels], len(groups[fold])) for fold in FOLDS if groups[fold]]


def used(entries: Sequence[Entry]) -> list[Entry]:
    """The entries that are trained or measured on: those of all folds, as `of_fold` gives them."""
    return [entry for fold in FOLDS for entry in of_fold(entries, fold)]
