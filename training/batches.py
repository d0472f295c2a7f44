"""The batches that training draws from a fold: ordered, augmented and mixed by seed, epoch and place alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from densescan.preprocessing import replicate

from .augment import augment
from .data import Fold, repeated, shrink
from .layouts import domain_of
from .recipes import Augmentation

Batch = tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]
"""Images uint8 [b, size, size, 3], one-hot float32 [b, classes], weights float32 [b]."""


class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras has no type annotations
    """Batches of (images uint8 [b, size, size, 3], one-hot float32 [b, classes], weights float32 [b]).

    Order and augmentation depend on the seed, the epoch and the place in it alone, so that a resumed
    training sees what an uninterrupted one would have seen. The last, smaller batch is dropped
    in training: a batch normalisation of two images would be noise. With `teach`, its answers about
    the images, changed and mixed, take their labels' place.
    """

    def __init__(
        self,
        fold: Fold,
        *,
        size: int,
        batch_size: int,
        labels: int,
        rarest_domain: float = 0.0,
        augmentation: Augmentation | None = None,
        mixup: float = 0.0,
        weights: npt.NDArray[np.float32] | None = None,
        teach: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]] | None = None,
        seed: int = 0,
        epoch: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._grey = shrink(fold.grey, size)
        self._classes = fold.classes
        self._one_hot = np.eye(labels, dtype=np.float32)
        self._weights = np.ones(labels, np.float32) if weights is None else weights
        self._augmentation = augmentation
        self._mixup = mixup
        self._teach = teach
        self.batch_size = min(batch_size, len(fold))
        self._seed = seed
        self.epoch = epoch
        self._pool = repeated([domain_of(entry.path) for entry in fold.entries], rarest_domain)

    @property
    def images(self) -> int:
        """Images an epoch, repeated ones counted as often as they are shown."""
        return len(self._pool)

    def __len__(self) -> int:
        full, rest = divmod(len(self._pool), self.batch_size)
        return full + (1 if rest and self._augmentation is None else 0)

    def __getitem__(self, index: int) -> Batch:
        return self.of_epoch(self.epoch, index)

    def of_epoch(self, epoch: int, index: int) -> Batch:
        """The batch of an epoch and a place in it, whichever was asked for before."""
        chosen = self._order(epoch)[index * self.batch_size : (index + 1) * self.batch_size]
        grey = self._grey[chosen]
        if self._augmentation is not None:
            first = index * self.batch_size
            grey = np.stack([self._augmented(image, epoch, first + place) for place, image in enumerate(grey)])
        classes = self._classes[chosen]
        targets, weights = self._one_hot[classes], self._weights[classes]
        if self._mixup > 0:
            grey, targets, weights = self._mixed(grey, targets, weights, epoch, index)
        images = replicate(grey)
        return images, targets if self._teach is None else self._teach(images), weights

    def on_epoch_end(self) -> None:
        """Go on to the next epoch."""
        self.epoch += 1

    def _augmented(self, grey: npt.NDArray[np.uint8], epoch: int, place: int) -> npt.NDArray[np.uint8]:
        assert self._augmentation is not None
        rng = np.random.default_rng((self._seed, epoch, place))
        return augment(grey, rng, self._augmentation)

    def _mixed(
        self, grey: npt.NDArray[Any], targets: npt.NDArray[Any], weights: npt.NDArray[Any], epoch: int, index: int
    ) -> Batch:
        """Each image with its neighbour in the batch, in a share of its own; targets and weights alike."""
        rng = np.random.default_rng((self._seed, epoch, index, len(grey)))
        share = rng.beta(self._mixup, self._mixup, len(grey)).astype(np.float32)

        def mix(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
            part = share.reshape(-1, *[1] * (values.ndim - 1))
            mixed: npt.NDArray[np.float32] = part * values + (1 - part) * np.roll(values, 1, axis=0)
            return mixed

        return np.rint(mix(grey)).astype(np.uint8), mix(targets), mix(weights)

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        if self._augmentation is None:
            return self._pool
        return np.random.default_rng((self._seed, epoch)).permutation(self._pool)
