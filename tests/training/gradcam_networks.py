"""Classifiers with the layers that Grad-CAM asks for, in networks that are built and converted in a moment."""

from __future__ import annotations

from typing import Any

import numpy as np

from densescan.tasks import CHANNELS, IMAGE_SIZE, INPUT_NAME, OUTPUT_NAME, Task
from training.network import HIDDEN, LOGITS, POOL


def tiny_classifier(task: Task, *, seed: int = 0, channels: int = 24, units: int = 16) -> Any:
    """The head of the real networks behind one convolution with a stride of 32: 7x7 places at 224x224."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    image = keras.Input((IMAGE_SIZE, IMAGE_SIZE, CHANNELS), dtype="uint8", name=INPUT_NAME)
    pixels = layers.Rescaling(1 / 64, offset=-2)(image)
    features = layers.Conv2D(channels, 32, strides=32, activation="relu", bias_initializer="random_normal")(pixels)
    pooled = layers.GlobalAveragePooling2D(name=POOL)(features)
    hidden = layers.Dense(units, activation="relu", bias_initializer="random_normal", name=HIDDEN)(pooled)
    logits = layers.Dense(len(task.labels), bias_initializer="random_normal", name=LOGITS)(layers.Dropout(0.5)(hidden))
    return keras.Model(image, layers.Softmax(name=OUTPUT_NAME)(logits), name=task.classifier)


def noise(count: int, seed: int = 0) -> np.ndarray:
    """Grey pictures uint8 [n, 224, 224] of different brightness, so that their maps differ."""
    generator = np.random.default_rng(seed)
    levels = generator.uniform(0.3, 1, (count, 7, 7)).repeat(32, 1).repeat(32, 2)
    return (generator.integers(0, 256, (count, IMAGE_SIZE, IMAGE_SIZE)) * levels).astype(np.uint8)
