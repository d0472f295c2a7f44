"""Images of a fold in memory, ready to be trained or measured on. Without Keras, which takes seconds to import."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from densescan.preprocessing import preprocess_grey

from .manifest import Entry


@dataclass(frozen=True)
class Fold:
    """Preprocessed images of one fold.

    Attributes:
        grey: uint8 [n, 224, 224].
        classes: Index of each image's label: int64 [n].
        entries: Where each came from.
    """

    grey: npt.NDArray[np.uint8]
    classes: npt.NDArray[np.int64]
    entries: tuple[Entry, ...]

    def __len__(self) -> int:
        return len(self.entries)


def load_fold(
    entries: Sequence[Entry], labels: Sequence[str], data: Path, on_done: Callable[[], None] = lambda: None
) -> Fold:
    """Decode and preprocess `entries` with the SDK's own function.

    Raises:
        InvalidImage: A file of the manifest is missing or damaged.
    """

    def one(entry: Entry) -> npt.NDArray[np.uint8]:
        pixels = preprocess_grey(data / entry.path)
        on_done()
        return pixels

    with ThreadPoolExecutor() as pool:
        grey = list(pool.map(one, entries))
    classes = np.array([labels.index(entry.label) for entry in entries], dtype=np.int64)
    return Fold(np.stack(grey), classes, tuple(entries))


def shrink(grey: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """Images [n, 224, 224] at another side: uint8 [n, size, size], antialiased."""
    if grey.shape[1] == size:
        return grey
    resized = [Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR) for image in grey]
    return np.stack([np.asarray(image) for image in resized])


def class_weights(classes: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.float32]:
    """Weight of each class so that all count alike: n / (count * n_class), float32 [count].

    The formula is scikit-learn's ``class_weight="balanced"``.
    """
    frequency = np.bincount(classes, minlength=count)
    return (len(classes) / (count * np.maximum(frequency, 1))).astype(np.float32)


def repeated(domains: Sequence[str], share: float, at_most: int = 6) -> npt.NDArray[np.int64]:
    """Indices of all images, those of rare domains several times.

    Args:
        domains: Of each image.
        share: What every domain shall make up; 0 repeats nothing.
        at_most: Most repetitions, because an image seen too often is learnt by heart.
    """
    names = np.asarray(domains)
    most = max((int((names == name).sum()) for name in set(domains)), default=0)
    indices = []
    for name in sorted(set(domains)):
        members = np.flatnonzero(names == name)
        wanted = share / (1 - share) * most if share > 0 else 0.0
        indices.append(np.tile(members, min(at_most, max(1, round(wanted / len(members))))))
    return np.concatenate(indices)
