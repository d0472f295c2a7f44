"""The network: uint8 pixels in, probabilities out, with mean and deviation inside the graph."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from densescan.tasks import CHANNELS, IMAGE_SIZE, INPUT_NAME, OUTPUT_NAME, Task

from .recipes import Precision, Trainable

if TYPE_CHECKING:
    import keras

BACKBONE = "densenet121"
FEATURES = "relu"
"""Backbone layer of the last feature map, after the final ReLU: 7x7x1024 at 224x224."""

POOL = "pool"
HIDDEN = "hidden"
LOGITS = "logits"

# Per-channel mean and deviation that DenseNet's ImageNet weights were trained with, in 0..1
# (keras.applications' "torch" mode).
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)

TOP_HALF_FROM = 213
"""First of the backbone's 427 layers that the second phase of the original training unfreezes."""


class WeightsUnavailable(Exception):
    """The starting weights cannot be had; the message names the alternatives."""


def build_classifier(
    task: Task,
    *,
    size: int = IMAGE_SIZE,
    dense_units: int = 512,
    dropout: float = 0.5,
    weights: str = "none",
    precision: Precision = "float32",
) -> keras.Model:
    """DenseNet-121 with the head GAP, Dropout, Dense(relu), Dropout, Dense, softmax.

    Args:
        task: Its labels are the outputs.
        size: Side of the input, in pixels; the weights do not depend on it.
        dense_units: Width of the hidden layer.
        dropout: Share of units dropped.
        weights: `none` (random), `imagenet` (the backbone's), or a ``.keras`` or
            ``.weights.h5`` file or an installed ``model.savedmodel`` folder of this very network.
        precision: What the layers compute in; the weights are kept in float32 all the same.

    Returns:
        A model from ``image`` uint8 [n, size, size, 3] to ``probabilities`` float32 [n, classes].

    Raises:
        WeightsUnavailable: The weights cannot be downloaded, found, or do not fit.
    """
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)  # keras.applications takes no policy as an argument
    try:
        model = _assemble(task, size, dense_units, dropout, weights)
    finally:
        keras.config.set_dtype_policy(before)
    if weights not in ("none", "imagenet"):
        _load_file(model, Path(weights))
    return model


def _assemble(task: Task, size: int, dense_units: int, dropout: float, weights: str) -> keras.Model:
    import keras
    from keras import layers

    from .fused import with_fused_layers

    image = keras.Input((size, size, CHANNELS), dtype="uint8", name=INPUT_NAME)
    scale = [1 / (255 * deviation) for deviation in IMAGENET_DEVIATION]
    offset = [-mean / deviation for mean, deviation in zip(IMAGENET_MEAN, IMAGENET_DEVIATION, strict=True)]
    pixels = layers.Rescaling(scale=scale, offset=offset, name="normalise")(image)
    features = with_fused_layers(_backbone(size, weights))(pixels)
    pooled = layers.GlobalAveragePooling2D(name=POOL)(features)
    hidden = layers.Dense(dense_units, activation="relu", name=HIDDEN)(layers.Dropout(dropout)(pooled))
    logits = layers.Dense(len(task.labels), name=LOGITS)(layers.Dropout(dropout)(hidden))
    probabilities = layers.Softmax(dtype="float32", name=OUTPUT_NAME)(logits)
    return keras.Model(image, probabilities, name=task.classifier)


def _backbone(size: int, weights: str) -> keras.Model:
    import keras

    try:
        return keras.applications.DenseNet121(
            include_top=False,
            weights="imagenet" if weights == "imagenet" else None,
            input_shape=(size, size, CHANNELS),
            name=BACKBONE,
        )
    except Exception as error:
        if weights != "imagenet":
            raise
        raise WeightsUnavailable(
            "the ImageNet weights are not in Keras' cache and could not be downloaded "
            f"({type(error).__name__}: {str(error)[:120]}). Alternatives: --weights none (random weights; the recipe "
            "'scratch' is made for them), or --weights FILE, a .keras or .weights.h5 file of an earlier training."
        ) from error


def weights_hash(weights: str) -> str | None:
    """SHA-256 of the file that a training starts from; None for ``none`` and ``imagenet``.

    Of a SavedModel's folder, of the names and the bytes of what holds its variables.

    Raises:
        WeightsUnavailable: There is no such file.
    """
    if weights in ("none", "imagenet"):
        return None
    path = Path(weights)
    _check_there(path)
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    digest = hashlib.sha256()
    for file in sorted((path / "variables").iterdir()):
        digest.update(f"{file.name}\0{file.stat().st_size}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def _is_saved_model(path: Path) -> bool:
    return (path / "variables" / "variables.index").is_file()


def _check_there(path: Path) -> None:
    if not path.is_file() and not _is_saved_model(path):
        raise WeightsUnavailable(
            f"no weights at {path}. --weights takes imagenet, none, a .keras or .weights.h5 file, or a SavedModel's "
            "folder such as model_repository/xray_densenet121/5/model.savedmodel."
        )


def _load_file(model: keras.Model, path: Path) -> None:
    _check_there(path)
    try:
        if _is_saved_model(path):
            _load_saved_model(model, path)
        elif path.suffix == ".keras":
            model.set_weights(load_model(path).get_weights())
        else:
            model.load_weights(path)
    except (ValueError, OSError) as error:
        raise WeightsUnavailable(f"{path} holds no weights of this network: {error}") from error


def _load_saved_model(model: keras.Model, folder: Path) -> None:
    """Take the variables of a SavedModel that `exporting` wrote: those of the model, in their order."""
    from tensorflow import train  # reads the file, whichever backend Keras uses

    reader = train.load_checkpoint((folder / "variables" / "variables").as_posix())
    shapes = reader.get_variable_to_shape_map()
    for place, variable in enumerate(model.variables):
        name = f"weights/{place}/.ATTRIBUTES/VARIABLE_VALUE"
        if tuple(shapes.get(name, ())) != tuple(variable.shape):
            raise ValueError(f"variable {place} is {shapes.get(name)}, not {variable.path} {tuple(variable.shape)}")
        variable.assign(reader.get_tensor(name))


def load_model(path: Path) -> keras.Model:
    """The model in a ``.keras`` file, without its optimiser."""
    import keras

    from . import fused  # noqa: F401  # its class may stand in the file

    return keras.models.load_model(path, compile=False)


def load_any(task: Task, path: Path) -> keras.Model:
    """The classifier in a ``.keras`` file, or one with the weights of an installed ``model.savedmodel``, uncalibrated.

    Raises:
        WeightsUnavailable: There is no such file, or the folder holds another network.
    """
    _check_there(path)
    return load_model(path) if path.is_file() else build_classifier(task, weights=str(path))


def rebuilt(model: keras.Model, task: Task, size: int, precision: Precision = "float32") -> keras.Model:
    """The same weights behind an input of another size, computed in another precision."""
    hidden = model.get_layer(HIDDEN)
    rates = [layer.rate for layer in model.layers if type(layer).__name__ == "Dropout"]
    other = build_classifier(task, size=size, dense_units=hidden.units, dropout=rates[0], precision=precision)
    other.set_weights(model.get_weights())
    return other


def set_trainable(model: keras.Model, trainable: Trainable) -> None:
    """Freeze the backbone (`head`), its lower half (`top_half`), or nothing (`all`).

    A frozen batch normalisation runs in inference mode, as Keras defines it.
    """
    backbone = model.get_layer(BACKBONE)
    backbone.trainable = True
    first = {"head": len(backbone.layers), "top_half": TOP_HALF_FROM, "all": 0}[trainable]
    for index, layer in enumerate(backbone.layers):
        layer.trainable = index >= first
