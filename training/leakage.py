"""Pictures of one side of a cut that the other side holds as well, equal or nearly so: what a network has seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from .layouts import ImageFile
from .manifest import Entry, used
from .near_duplicates import Pair

HELD_OUT = ("val", "test", "official")
"""Folds that a network is measured on."""


@dataclass(frozen=True)
class Leak:
    """How many pictures of one class in `held` have a twin, of whatever class, in `source`.

    Attributes:
        held: The fold or folder that is measured on.
        source: The fold or folder that is learnt from.
        label: The class of the pictures in `held`.
        pictures: All of them.
        equal: Those whose very pixels stand in `source`.
        near: Those that are not equal to any picture in `source`, but nearly so.
    """

    held: str
    source: str
    label: str
    pictures: int
    equal: int
    near: int

    @property
    def share(self) -> float:
        """Share of the pictures that have a twin, 0 to 1."""
        return (self.equal + self.near) / self.pictures if self.pictures else 0.0


def between(
    held: str,
    source: str,
    where: Mapping[str, str],
    labels: Mapping[str, str],
    hashes: Mapping[str, str],
    pairs: Iterable[Pair],
) -> list[Leak]:
    """The leaks from `source` to `held`, one a class that stands in `held`.

    Args:
        held: One side.
        source: The other side.
        where: The side of each path that is used.
        labels: The class of each path.
        hashes: The hash of each path's pixels.
        pairs: Nearly equal pictures, from `near_duplicates.find_pairs`; paths that are not in `where` are ignored.
    """
    seen = {hashes[path] for path, side in where.items() if side == source}
    close: set[str] = set()
    for pair in pairs:
        for path, twin in ((pair.first, pair.second), (pair.second, pair.first)):
            if where.get(path) == held and where.get(twin) == source:
                close.add(path)
    pictures: Counter[str] = Counter()
    equal: Counter[str] = Counter()
    near: Counter[str] = Counter()
    for path, side in where.items():
        if side == held:
            label = labels[path]
            pictures[label] += 1
            equal[label] += hashes[path] in seen
            near[label] += hashes[path] not in seen and path in close
    return [Leak(held, source, label, pictures[label], equal[label], near[label]) for label in sorted(pictures)]


def between_folders(images: Sequence[ImageFile], hashes: Mapping[str, str], pairs: Sequence[Pair]) -> list[Leak]:
    """What leaks between the split folders that the data set came with: from each larger one to each smaller one."""
    where = {image.path: image.split for image in images if image.path in hashes}
    labels = {image.path: image.label for image in images}
    sizes = Counter(where.values())
    folders = sorted(sizes, key=lambda name: (sizes[name], name))
    return [
        leak
        for held, source in combinations(folders, 2)
        for leak in between(held, source, where, labels, hashes, pairs)
    ]


def between_folds(entries: Sequence[Entry], hashes: Mapping[str, str], pairs: Sequence[Pair]) -> list[Leak]:
    """What leaks from the fold ``train`` to the folds that are measured on; duplicates, which are not used, are not."""
    chosen = used(entries)
    where = {entry.path: entry.fold for entry in chosen}
    labels = {entry.path: entry.label for entry in chosen}
    present = set(where.values())
    return [
        leak for held in HELD_OUT if held in present for leak in between(held, "train", where, labels, hashes, pairs)
    ]


def summed(leaks: Iterable[Leak]) -> Leak:
    """All of `leaks` as one: the names of their sides side by side, the class ``all`` where there are several."""
    leaks = list(leaks)
    held, source, label = (
        ", ".join(dict.fromkeys(getattr(leak, name) for leak in leaks)) for name in ("held", "source", "label")
    )
    pictures, equal, near = (sum(getattr(leak, name) for leak in leaks) for name in ("pictures", "equal", "near"))
    return Leak(held, source, "all" if ", " in label else label, pictures, equal, near)
