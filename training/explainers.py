"""One way to ask a gradient model in any form: images and class indices in, probabilities and maps out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from densescan import Classification, Explanation
from densescan._explaining import bounded
from densescan.images import open_grey
from densescan.preprocessing import replicate
from densescan.tasks import CLASS_INDEX_NAME, HEATMAP_NAME, INPUT_NAME, OUTPUT_NAME, PREDICTED, Task

from . import gradcam
from .predictors import BATCH

if TYPE_CHECKING:
    import keras

Explained: TypeAlias = "tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]"
"""Probabilities [n, classes] and maps [n, 7, 7] of the same images."""

Explainer: TypeAlias = Callable[[npt.NDArray[np.uint8], npt.NDArray[np.int32]], Explained]
"""uint8 [n, 224, 224, 3] and int32 [n, 1] to probabilities and maps."""


def keras_model(classifier: keras.Model) -> Explainer:
    """Keras' own inference of the gradient model of a classifier."""
    model = gradcam.build_gradient_model(classifier)

    def run(images: npt.NDArray[np.uint8], indices: npt.NDArray[np.int32]) -> Explained:
        answer = model.predict_on_batch({INPUT_NAME: images, CLASS_INDEX_NAME: indices})
        return np.asarray(answer[OUTPUT_NAME]), np.asarray(answer[HEATMAP_NAME])

    return run


def saved_model(path: Path) -> Explainer:
    """TensorFlow's inference of a SavedModel's signature ``gradcam``."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))

    def run(images: npt.NDArray[np.uint8], indices: npt.NDArray[np.int32]) -> Explained:
        # `loaded` is named here to stay alive; a signature alone would lose its variables.
        explain = loaded.signatures[gradcam.SIGNATURE]
        answer = explain(**{INPUT_NAME: tf.constant(images), CLASS_INDEX_NAME: tf.constant(indices)})
        return answer[OUTPUT_NAME].numpy(), answer[HEATMAP_NAME].numpy()

    return run


def onnx_file(path: Path) -> Explainer:
    """ONNX Runtime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(images: npt.NDArray[np.uint8], indices: npt.NDArray[np.int32]) -> Explained:
        probabilities, maps = session.run([OUTPUT_NAME, HEATMAP_NAME], {INPUT_NAME: images, CLASS_INDEX_NAME: indices})
        return probabilities, maps

    return run


def openvino_file(path: Path) -> Explainer:
    """OpenVINO on the CPU."""
    import openvino

    compiled = openvino.compile_model(str(path), "CPU")

    def run(images: npt.NDArray[np.uint8], indices: npt.NDArray[np.int32]) -> Explained:
        answer = compiled({INPUT_NAME: images, CLASS_INDEX_NAME: indices})
        return np.array(answer[OUTPUT_NAME]), np.array(answer[HEATMAP_NAME])

    return run


def explain(
    explainer: Explainer,
    grey: npt.NDArray[np.uint8],
    classes: npt.NDArray[np.integer] | int = PREDICTED,
) -> Explained:
    """Explain many grey images [n, 224, 224], a batch at a time, each for its class or all for one."""
    indices = np.broadcast_to(np.asarray(classes, np.int32), len(grey))[:, np.newaxis]
    results = []
    for start in range(0, len(grey), BATCH):
        chosen = slice(start, start + BATCH)
        results.append(explainer(replicate(grey[chosen]), np.ascontiguousarray(indices[chosen])))
    return np.concatenate([first for first, _ in results]), np.concatenate([second for _, second in results])


def explained(
    task: Task,
    probabilities: Sequence[float],
    label: str,
    heatmap: npt.NDArray[np.float32],
    file: Path,
    *,
    threshold: float | None,
    model: str,
    version: str,
    source: str,
) -> Explanation:
    """The explanation of an image file, with the picture as the SDK keeps it.

    Args:
        task: What was classified.
        probabilities: Of each label.
        label: The decided one, which the map explains.
        heatmap: float32 [7, 7].
        file: The picture.
        threshold: That the label was decided at; None for the most probable one.
        model: Who answered.
        version: Its version.
        source: What the picture is called.
    """
    picture = open_grey(file)
    named = dict(zip(task.labels, probabilities, strict=True))
    result = Classification(task.name, label, named[label], named, threshold, model, version, source)
    return Explanation(result, label, np.ascontiguousarray(heatmap), bounded(picture), picture.size)


def correlations(first: npt.NDArray[np.floating], second: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Pearson's correlation of each pair of maps [n, ...]: of two empty maps 1, of an empty and another one 0."""
    first, second = (maps.reshape(len(maps), -1).astype(np.float64) for maps in (first, second))
    first, second = (maps - maps.mean(axis=1, keepdims=True) for maps in (first, second))
    sizes = np.linalg.norm(first, axis=1), np.linalg.norm(second, axis=1)
    products = sizes[0] * sizes[1]
    both_flat = (sizes[0] == 0) & (sizes[1] == 0)
    return np.where(products > 0, (first * second).sum(axis=1) / np.where(products > 0, products, 1), both_flat)
