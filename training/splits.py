"""Cut a data set into folds: by patient, equal and nearly equal pictures in one, the same for the same seed."""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from densescan.errors import InvalidImage
from densescan.images import open_grey

from .layouts import OFFICIAL_TEST, ImageFile
from .manifest import FOLDS, Entry
from .near_duplicates import Fingerprint, Pair, fingerprint

TRAINABLE = ("train", "val", "test")


@dataclass
class SplitReport:
    """What `split` found out.

    Attributes:
        unreadable: Path and reason of every file left out because it is no picture.
        conflicts: Paths of equal pictures that stand in several classes; left out.
        duplicates: Number of images that equal an earlier one.
        leaked: Duplicates that stood on both sides of the published train and test folders.
        pairs: Pictures that are nearly the same, from `near_duplicates.find_pairs`.
    """

    unreadable: list[tuple[str, str]] = field(default_factory=list)
    conflicts: list[list[str]] = field(default_factory=list)
    duplicates: int = 0
    leaked: int = 0
    pairs: list[Pair] = field(default_factory=list)


@dataclass
class Scan:
    """What reading every picture gave.

    Attributes:
        hashes: Path to the hash of the pixels.
        fingerprints: Path to what `near_duplicates` compares.
        unreadable: Path and reason of every file that is no picture.
    """

    hashes: dict[str, str] = field(default_factory=dict)
    fingerprints: dict[str, Fingerprint] = field(default_factory=dict)
    unreadable: list[tuple[str, str]] = field(default_factory=list)


def pixel_hash(pixels: npt.NDArray[np.uint8]) -> str:
    """SHA-256 of a grey picture's size and pixels, in hexadecimal."""
    return hashlib.sha256(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def scan_images(images: Sequence[ImageFile], data: Path, on_done: Callable[[], None] = lambda: None) -> Scan:
    """Read every picture once: its hash and its fingerprint, or why it cannot be read."""

    def one(image: ImageFile) -> tuple[str, Fingerprint] | InvalidImage:
        try:
            grey = np.asarray(open_grey(data / image.path))
            return pixel_hash(grey), fingerprint(grey)
        except InvalidImage as error:
            return error
        finally:
            on_done()

    scan = Scan()
    with ThreadPoolExecutor() as pool:
        for image, found in zip(images, pool.map(one, images), strict=True):
            if isinstance(found, InvalidImage):
                scan.unreadable.append((image.path, found.reason))
            else:
                scan.hashes[image.path], scan.fingerprints[image.path] = found
    return scan


def make_split(
    images: Sequence[ImageFile],
    hashes: Mapping[str, str],
    *,
    pairs: Sequence[Pair] = (),
    before: Mapping[str, str] | None = None,
    ratios: tuple[float, float, float] = (0.70, 0.15, 0.15),
    seed: int = 0,
) -> tuple[list[Entry], SplitReport]:
    """Assign every hashed image to a fold.

    Images of one group, and groups that share a picture or nearly do, are one group from then on (named after the
    first of them) and go to the same fold. Within a class the groups are shuffled and each goes to the fold that is
    furthest below its share. Pictures that equal, or nearly equal, one of the published test set go with it to the
    fold ``official``, so that nothing is trained on them; `of_fold` measures on the published ones alone.

    Args:
        images: From `find_images`.
        hashes: Path to pixel hash; images without one are left out.
        pairs: Pictures that are nearly the same.
        before: From `folds_before` of an earlier manifest, whose networks are to be trained further: a group of which
            one image was in ``train`` stays there, so that no network is measured on what it has seen. Others keep
            their fold (``val`` before ``test`` where they had both); only new groups are assigned.
        ratios: Shares of train, val and test; they must add up to 1.
        seed: Of the shuffle.
    """
    report = SplitReport(pairs=list(pairs))
    kept = _without_conflicts([image for image in images if image.path in hashes], hashes, report)
    # The published test set first: of equal pictures, it keeps the one that is not a duplicate.
    kept = sorted(kept, key=lambda image: (image.split not in OFFICIAL_TEST, image.path))
    first: dict[str, ImageFile] = {}
    for image in kept:
        original = first.setdefault(hashes[image.path], image)
        if original is not image:
            report.duplicates += 1
            report.leaked += (original.split in OFFICIAL_TEST) != (image.split in OFFICIAL_TEST)
    together = _connected(kept, hashes, pairs)
    known = {path: before[digest] for path, digest in hashes.items() if digest in before} if before else {}
    folds = _assign(together, ratios, seed, known)
    names = {image.path: min(one.group for one in group) for group in together for image in group}
    entries = []
    for image in kept:
        original = first[hashes[image.path]]
        duplicate_of = "" if original is image else original.path
        entries.append(
            Entry(image.path, image.label, names[image.path], folds[image.path], hashes[image.path], duplicate_of)
        )
    return sorted(entries, key=lambda entry: entry.path), report


def folds_before(entries: Sequence[Entry]) -> dict[str, str]:
    """Fold of each pixel hash in an earlier manifest; of several, as after `holdout`, the first of `FOLDS`."""
    first: dict[str, str] = {}
    for entry in sorted(entries, key=lambda entry: FOLDS.index(entry.fold)):
        first.setdefault(entry.sha256, entry.fold)
    return first


def _without_conflicts(images: Iterable[ImageFile], hashes: Mapping[str, str], report: SplitReport) -> list[ImageFile]:
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


def _connected(images: Sequence[ImageFile], hashes: Mapping[str, str], pairs: Sequence[Pair]) -> list[list[ImageFile]]:
    """Groups joined where they share a picture, or nearly do (union-find)."""
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
    known = {image.path for image in images}
    for pair in pairs:
        if pair.first in known and pair.second in known:
            parent[root(f"pixels:{hashes[pair.first]}")] = root(f"pixels:{hashes[pair.second]}")
    together: dict[str, list[ImageFile]] = defaultdict(list)
    for image in images:
        together[root(key(image))].append(image)
    return list(together.values())


def _assign(
    groups: Sequence[Sequence[ImageFile]],
    ratios: tuple[float, float, float],
    seed: int,
    before: Mapping[str, str],
) -> dict[str, str]:
    if min(ratios) < 0 or abs(sum(ratios) - 1) > 1e-6:
        raise ValueError(f"ratios must not be negative and must add up to 1, not {ratios}")
    folds: dict[str, str] = {}
    strata: dict[str, list[Sequence[ImageFile]]] = defaultdict(list)
    for group in groups:
        if any(image.split in OFFICIAL_TEST for image in group):
            folds.update({image.path: "official" for image in group})
        elif had := [fold for fold in TRAINABLE if any(before.get(image.path) == fold for image in group)]:
            folds.update({image.path: had[0] for image in group})
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
