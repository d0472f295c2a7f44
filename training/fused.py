"""Batch normalisation as the one operation that PyTorch has for it.

Keras composes it of moments and elementwise operations, which on the torch backend costs more time than all of
DenseNet-121's convolutions together. On the other backends the layer is Keras' own.
"""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable("densescan")
class FusedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]  # Keras has no type annotations
    """`keras.layers.BatchNormalization` over the last axis, fused in training on the torch backend."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise ``inputs`` [n, ..., channels]."""
        if not (training and self.trainable and keras.backend.backend() == "torch") or mask is not None:
            return super().call(inputs, training=training, mask=mask)
        from torch.nn.functional import batch_norm

        normalised = batch_norm(
            inputs.movedim(-1, 1),
            self.moving_mean.value,
            self.moving_variance.value,
            self.gamma.value,
            self.beta.value,
            training=True,
            momentum=1 - self.momentum,  # PyTorch weighs the new value, Keras the old one
            eps=self.epsilon,
        )
        return normalised.movedim(1, -1)


def with_fused_normalisation(model: keras.Model) -> keras.Model:
    """`model` with its batch normalisations fused where that is faster, its weights kept."""
    if keras.backend.backend() != "torch":
        return model
    clone = keras.models.clone_model(model, clone_function=_fused)
    clone.set_weights(model.get_weights())
    return clone


def _fused(layer: keras.layers.Layer) -> keras.layers.Layer:
    kind = FusedBatchNormalization if type(layer) is keras.layers.BatchNormalization else type(layer)
    return kind.from_config(layer.get_config())
