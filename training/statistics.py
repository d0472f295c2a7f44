"""The moving statistics of batch normalisation, settled after training.

They are averages over the last hundred or so batches, while the weights still changed, and over augmented images; what
is served are images as they are. Wu and Johnson, Rethinking "Batch" in BatchNorm, 2021, section 3.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import numpy as np
from sklearn import metrics

from .network import BACKBONE

if TYPE_CHECKING:
    import keras

    from .batches import Batches

BATCHES = 32


def settle(model: keras.Model, images: Batches, batches: int = BATCHES) -> None:
    """Replace the statistics by their plain means over some batches of unchanged training images; weights stay."""
    import keras

    layers = [layer for layer in _layers(model) if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in layers]
    frozen = [layer.trainable for layer in layers]
    for layer in layers:
        layer.trainable = True  # a frozen one would not look at the images
    try:
        with _without_gradients():
            for seen in range(min(batches, len(images))):
                for layer in layers:
                    layer.momentum = seen / (seen + 1)  # makes the moving average a plain one
                model(images[seen][0], training=True)
    finally:
        for layer, momentum, trainable in zip(layers, momenta, frozen, strict=True):
            layer.momentum, layer.trainable = momentum, trainable


def log_loss(model: keras.Model, checks: Batches) -> float:
    """Mean negative log-likelihood over batches in their order."""
    probabilities = np.concatenate(
        [np.asarray(model.predict_on_batch(checks[place][0])) for place in range(len(checks))]
    )
    targets = np.concatenate([checks[place][1] for place in range(len(checks))])
    whole = probabilities.astype(np.float64)
    whole /= whole.sum(axis=1, keepdims=True)
    return float(metrics.log_loss(targets.argmax(axis=1), whole, labels=range(targets.shape[1])))


def _layers(model: keras.Model) -> list[keras.layers.Layer]:
    return [*model.layers, *model.get_layer(BACKBONE).layers]


def _without_gradients() -> AbstractContextManager[object]:
    import keras

    if keras.backend.backend() != "torch":
        return nullcontext()
    import torch

    return torch.no_grad()
