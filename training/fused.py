"""DenseNet's layers as PyTorch computes them fastest, for trainings on Keras' torch backend.

Keras composes batch normalisation of moments and elementwise operations, and copies every input of a convolution or
pooling to channels first and back: on a CPU this costs more time than all of DenseNet-121's arithmetic together. These
layers call PyTorch's own operations on the tensors as they lie. On the other backends they are Keras' own.
"""

from __future__ import annotations

from typing import Any

import keras


def _on_torch() -> bool:
    return bool(keras.backend.backend() == "torch")


def _first(channels_last: Any) -> Any:
    """The same memory, seen with the channels first; PyTorch calls that layout channels_last."""
    return channels_last.movedim(-1, 1)


def _last(channels_first: Any) -> Any:
    return channels_first.movedim(1, -1)


@keras.saving.register_keras_serializable("densescan")
class FusedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]  # Keras has no type annotations
    """`keras.layers.BatchNormalization` over the last axis as one operation."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise ``inputs`` [n, ..., channels]."""
        if not _on_torch() or mask is not None:
            return super().call(inputs, training=training, mask=mask)
        from torch.nn.functional import batch_norm

        normalised = batch_norm(
            _first(inputs),
            self.moving_mean.value,
            self.moving_variance.value,
            self.gamma.value,
            self.beta.value,
            training=bool(training and self.trainable),
            momentum=1 - self.momentum,  # PyTorch weighs the new value, Keras the old one
            eps=self.epsilon,
        )
        return _last(normalised)


@keras.saving.register_keras_serializable("densescan")
class FusedConv2D(keras.layers.Conv2D):  # type: ignore[misc]  # Keras has no type annotations
    """`keras.layers.Conv2D` without copies; "same" padding only for odd kernels at stride 1, as DenseNet has it."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Convolve ``inputs`` [n, height, width, channels]."""
        if not _on_torch():
            return super().convolution_op(inputs, kernel)
        from torch.nn.functional import conv2d

        weights = keras.ops.convert_to_tensor(kernel).permute(3, 2, 0, 1)
        padding = [size // 2 for size in self.kernel_size] if self.padding == "same" else 0
        return _last(conv2d(_first(inputs), weights, stride=self.strides, padding=padding))


@keras.saving.register_keras_serializable("densescan")
class FusedMaxPooling2D(keras.layers.MaxPooling2D):  # type: ignore[misc]  # Keras has no type annotations
    """`keras.layers.MaxPooling2D` with "valid" padding, without copies."""

    def call(self, inputs: Any) -> Any:
        """Pool ``inputs`` [n, height, width, channels]."""
        if not _on_torch():
            return super().call(inputs)
        from torch.nn.functional import max_pool2d

        return _last(max_pool2d(_first(inputs), self.pool_size, self.strides))


@keras.saving.register_keras_serializable("densescan")
class FusedAveragePooling2D(keras.layers.AveragePooling2D):  # type: ignore[misc]  # Keras has no type annotations
    """`keras.layers.AveragePooling2D` with "valid" padding, without copies."""

    def call(self, inputs: Any) -> Any:
        """Pool ``inputs`` [n, height, width, channels]."""
        if not _on_torch():
            return super().call(inputs)
        from torch.nn.functional import avg_pool2d

        return _last(avg_pool2d(_first(inputs), self.pool_size, self.strides))


def with_fused_layers(model: keras.Model) -> keras.Model:
    """`model` with faster layers where there are any, its weights kept."""
    if not _on_torch():
        return model
    clone = keras.models.clone_model(model, clone_function=_fused)
    clone.set_weights(model.get_weights())
    return clone


def _fused(layer: keras.layers.Layer) -> keras.layers.Layer:
    return _faster(layer).from_config(layer.get_config())


def _faster(layer: keras.layers.Layer) -> type[keras.layers.Layer]:
    kind = type(layer)
    if kind is keras.layers.BatchNormalization:
        return FusedBatchNormalization
    padding = getattr(layer, "padding", None)
    if kind is keras.layers.Conv2D:
        simple = layer.strides == (1, 1) and all(size % 2 for size in layer.kernel_size)
        plain = layer.dilation_rate == (1, 1) and layer.groups == 1
        return FusedConv2D if plain and (padding == "valid" or simple) else kind
    if kind is keras.layers.MaxPooling2D and padding == "valid":
        return FusedMaxPooling2D
    if kind is keras.layers.AveragePooling2D and padding == "valid":
        return FusedAveragePooling2D
    return kind
