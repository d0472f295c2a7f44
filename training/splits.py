"""Cut a data set into folds: by patient, with equal pictures in one fold, the same for the same seed."""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from densescan.errors import InvalidImage
from densescan.images import open_grey

from .layouts import OFFICIAL_TEST, ImageFile
from .manifest import Entry

TRAINABLE = ("train", "val", "test")


@dataclass
class SplitReport:
    """What `split` found out.

    Attributes:
        unreadable: Path and reason of every file left out because it is no picture.
        conflicts: Paths of equal pictures that stand in several classes; left out.
        duplicates: Number of images that equal an earlier one.
        leaked: Duplicates that stood on both sides of the published train and test folders.
    """

    unreadable: list[tuple[str, str]] = field(default_factory=list)
    conflicts: list[list[str]] = field(default_factory=list)
    duplicates: int = 0
    leaked: int = 0


def pixel_hash(pixels: npt.NDArray[np.uint8]) -> str:
    """SHA-256 of a grey picture's size and pixels, in hexadecimal."""
    return hashlib.sha256(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def hash_images(
    images: Sequence[ImageFile], data: Path, on_done: Callable[[], None] = lambda: None
) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Hash every image's pixels: path to hash, and (path, reason) of those that cannot be read."""

    def one(image: ImageFile) -> tuple[str, str | InvalidImage]:
        try:
            return image.path, pixel_hash(np.asarray(open_grey(data / image.path)))
        except InvalidImage as error:
            return image.path, error
        finally:
            on_done()

    hashes: dict[str, str] = {}
    unreadable: list[tuple[str, str]] = []
    with ThreadPoolExecutor() as pool:
        for path, found in pool.map(one, images):
            if isinstance(found, InvalidImage):
                unreadable.append((path, found.reason))
            else:
                hashes[path] = found
    return hashes, unreadable


def make_split(
    images: Sequence[ImageFile],
    hashes: dict[str, str],
    *,
    ratios: tuple[float, float, float] = (0.70, 0.15, 0.15),
    seed: int = 0,
) -> tuple[list[Entry], SplitReport]:
    """Assign every hashed image to a fold.

    Images of one group, and groups that share a picture, go to the same fold. Within a class
    the groups are shuffled and each goes to the fold that is furthest below its share. Pictures
    that equal one of the published test set go with it to the fold ``official``.

    Args:
        images: From `find_images`.
        hashes: Path to pixel hash; images without one are left out.
        ratios: Shares of train, val and test; they must add up to 1.
        seed: Of the shuffle.
    """
    report = SplitReport()
    kept = _without_conflicts([image for image in images if image.path in hashes], hashes, report)
    # The published test set first: of equal pictures, it keeps the one that is not a duplicate.
    kept = sorted(kept, key=lambda image: (image.split not in OFFICIAL_TEST, image.path))
    first: dict[str, ImageFile] = {}
    for image in kept:
        original = first.setdefault(hashes[image.path], image)
        if original is not image:
            report.duplicates += 1
            report.leaked += (original.split in OFFICIAL_TEST) != (image.split in OFFICIAL_TEST)
    folds = _assign(_connected(kept, hashes), ratios, seed)
    entries = []
    for image in kept:
        original = first[hashes[image.path]]
        duplicate_of = "" if original is image else original.path
        entries.append(Entry(image.path, image.label, image.group, folds[image.path], hashes[image.path], duplicate_of))
    return sorted(entries, key=lambda entry: entry.path), report


def _without_conflicts(images: Iterable[ImageFile], hashes: dict[str, str], report: SplitReport) -> list[ImageFile]:
    by_hash: dict[str, list[ImageFile]] = defaultdict(list)
    for image in images:
        by_hash[hashes[image.path]].append(image)
    kept = []
    for same in by_hash.values():
        if len({image.label for image in same}) > 1:
            report.conflicts.append([image.path for image in same])
        else:
            kept.extend(same)
    return kept


def _connected(images: Sequence[ImageFile], hashes: dict[str, str]) -> list[list[ImageFile]]:
    """Groups joined where they share a picture (union-find)."""
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        while parent.setdefault(node, node) != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    # A published test image never joins a training group through the patient's number alone:
    # the chest set numbers its test patients anew.
    def key(image: ImageFile) -> str:
        side = "official" if image.split in OFFICIAL_TEST else "train"
        return f"group:{side}:{image.group}"

    for image in images:
        parent[root(key(image))] = root(f"pixels:{hashes[image.path]}")
    together: dict[str, list[ImageFile]] = defaultdict(list)
    for image in images:
        together[root(key(image))].append(image)
    return list(together.values())


def _assign(groups: Sequence[Sequence[ImageFile]], ratios: tuple[float, float, float], seed: int) -> dict[str, str]:
    if min(ratios) < 0 or abs(sum(ratios) - 1) > 1e-6:
        raise ValueError(f"ratios must not be negative and must add up to 1, not {ratios}")
    folds: dict[str, str] = {}
    strata: dict[str, list[Sequence[ImageFile]]] = defaultdict(list)
    for group in groups:
        if any(image.split in OFFICIAL_TEST for image in group):
            folds.update({image.path: "official" for image in group})
        else:
            strata[group[0].label].append(group)
    for label in sorted(strata):
        shuffled = sorted(strata[label], key=lambda group: group[0].path)
        random.Random(f"{seed}/{label}").shuffle(shuffled)
        shuffled.sort(key=len, reverse=True)  # large groups first, so that the small ones even out
        total = sum(map(len, shuffled))
        wanted = {fold: ratio * total for fold, ratio in zip(TRAINABLE, ratios, strict=True) if ratio > 0}
        filled = dict.fromkeys(wanted, 0)
        for group in shuffled:
            fold = max(wanted, key=lambda name: (wanted[name] - filled[name]) / wanted[name])
            filled[fold] += len(group)
            folds.update({image.path: fold for image in group})
    return folds
