"""One way to ask a Keras model, an ONNX or OpenVINO file, or a server: images in, probabilities out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from densescan.preprocessing import replicate
from densescan.tasks import INPUT_NAME, OUTPUT_NAME, Task

if TYPE_CHECKING:
    import keras

Predictor: TypeAlias = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
"""uint8 [n, 224, 224, 3] to float32 [n, classes]."""

BATCH = 64


def open_model(path: Path) -> Predictor:
    """The network in a ``.keras`` or ``.onnx`` file, an OpenVINO ``.xml``, or a SavedModel folder.

    Raises:
        ValueError: It is none of these, or damaged.
    """
    openers = {".keras": keras_file, ".onnx": onnx_file, ".xml": openvino_file}
    opener = openers.get(path.suffix) if path.is_file() else None
    if (path / "saved_model.pb").is_file():
        opener = saved_model
    if opener is None:
        raise ValueError(f"{path} is no network: expected a .keras, .onnx or .xml file or a SavedModel folder")
    try:
        return opener(path)
    except Exception as error:  # each runtime has errors of its own for a damaged file
        raise ValueError(f"{path} cannot be opened: {error}") from error


def keras_file(path: Path) -> Predictor:
    """Keras' own inference of a ``.keras`` file."""
    from .network import load_model

    return keras_model(load_model(path))


def keras_model(model: keras.Model) -> Predictor:
    """Keras' own inference of a model in memory."""
    return lambda images: np.asarray(model.predict_on_batch(images))


def saved_model(path: Path) -> Predictor:
    """TensorFlow's inference of a SavedModel's serving signature."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))

    def run(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        # By `loaded`, which must live on: a signature alone loses its variables.
        return np.asarray(loaded.signatures["serving_default"](**{INPUT_NAME: tf.constant(images)})[OUTPUT_NAME])

    return run


def onnx_file(path: Path) -> Predictor:
    """ONNX Runtime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run([OUTPUT_NAME], {INPUT_NAME: images})[0])


def openvino_file(path: Path) -> Predictor:
    """OpenVINO on the CPU."""
    import openvino

    compiled = openvino.compile_model(str(path), "CPU")
    return lambda images: np.array(compiled(images)[OUTPUT_NAME])


def predict(
    predictor: Predictor, grey: npt.NDArray[np.uint8], on_done: Callable[[], None] = lambda: None
) -> npt.NDArray[np.float32]:
    """Probabilities of many grey images [n, 224, 224], a batch at a time: float32 [n, classes]."""
    results = []
    for start in range(0, len(grey), BATCH):
        batch = replicate(grey[start : start + BATCH])
        results.append(predictor(batch))
        for _ in batch:
            on_done()
    return np.concatenate(results)


def predict_served(
    url: str,
    task: Task,
    sources: Sequence[Path | npt.NDArray[np.uint8]],
    on_done: Callable[[], None] = lambda: None,
) -> tuple[npt.NDArray[np.float32], float | None]:
    """Probabilities of many pictures by the SDK and a running server: float32 [n, classes], and its operating point.

    Args:
        url: The server's gRPC address.
        task: What to classify.
        sources: Files, or grey pictures uint8 [height, width].
        on_done: Called after each.

    Raises:
        DensescanError: A file or the server failed.
    """
    from densescan import Client, DensescanError

    results = []
    threshold = None
    with Client(url, timeout_s=60) as client:
        for answer in client.classify_many(task.name, sources):
            if isinstance(answer, DensescanError):
                raise answer
            results.append([answer.probabilities[label] for label in task.labels])
            threshold = answer.threshold
            on_done()
    return np.array(results, dtype=np.float32), threshold
