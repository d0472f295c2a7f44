"""``explain-check``: figures that say how far the maps of a network can be believed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from densescan.tasks import Task

from . import explainers, faithfulness, gradcam, network
from .data import Fold
from .exporting import INT8, SAVED_MODEL
from .network import HIDDEN, LOGITS
from .predictors import Predictor
from .runs import RunError

if TYPE_CHECKING:
    import keras

SANITY_IMAGES = 24
"""Images of the check with randomised weights; Keras explains each of them once for every stage."""

LAST_BLOCK = ("conv5", "bn")
"""How the names of the layers after the backbone's last transition begin."""

Done = Callable[[str], None]


def newest_version(repository: Path, task: Task, model: str | None = None) -> Path:
    """The newest version folder of a task's gradient model, or of its other `model`.

    Raises:
        RunError: There is none with weights.
    """
    home = repository / (model or task.gradcam)
    versions = sorted((path for path in home.glob("*") if path.name.isdigit()), key=lambda path: int(path.name))
    if not versions or not (versions[-1] / INT8).is_file():
        raise RunError(f"no weights in {home}; write them with: python -m training export --task {task.name}")
    return versions[-1]


def installed_weights(repository: Path, task: Task, version: Path) -> Path:
    """The classifier in FP32 from which a version of the gradient model was made: its SavedModel.

    Raises:
        RunError: It is not there.
    """
    folder = repository / task.classifier / version.name / SAVED_MODEL
    if not folder.is_dir():
        raise RunError(f"no FP32 weights at {folder}: name the training that version is of with --run")
    return folder


def check(task: Task, weights: Path, version: Path, fold: Fold, on_step: Done = lambda step: None) -> dict[str, Any]:
    """All figures, as plain data for JSON.

    Args:
        task: What the network classifies.
        weights: The network that was exported to `version`, a ``.keras`` file or a SavedModel's folder: Keras in FP32
            is the reference.
        version: Version folder of the gradient model; its int8 form is what is judged.
        fold: Images that it was not trained on.
        on_step: Told what is being done.
    """
    served = explainers.openvino_file(version / INT8)
    on_step("explaining with the int8 network")
    probabilities, maps = explainers.explain(served, fold.grey)
    classes = probabilities.argmax(axis=1)
    groups = [entry.group for entry in fold.entries]
    classifier = network.load_any(task, weights)
    on_step("explaining with Keras in FP32")
    reference = explainers.explain(explainers.keras_model(classifier), fold.grey, classes)[1]
    figures = {
        "task": task.name,
        "images": len(fold),
        "of_each_class": {label: int((fold.classes == index).sum()) for index, label in enumerate(task.labels)},
        "model": f"{task.gradcam} version {version.name}, int8",
        "classified_rightly": float((classes == fold.classes).mean()),
        "int8_against_fp32": agreement(reference, maps),
        "outside_the_body": faithfulness.outside_body(fold.grey, maps),
        "at_the_rim": faithfulness.at_the_rim(maps),
        "randomised_weights": sanity(classifier, fold, classes, reference, on_step),  # the last: it shuffles them
    }
    figures["deletion_and_insertion"] = removal(
        classify(served), fold.grey, maps, classes, groups, task.labels, on_step
    )
    return figures


def classify(explainer: explainers.Explainer) -> Predictor:
    """A gradient model as a classifier: its probabilities are the classifier's."""

    def run(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return explainer(images, np.full((len(images), 1), gradcam.PREDICTED, np.int32))[0]

    return run


def agreement(reference: faithfulness.Maps, maps: faithfulness.Maps) -> dict[str, float]:
    """How alike two sets of maps of the same images and classes are."""
    correlations = explainers.correlations(reference, maps)
    same = reference.reshape(len(maps), -1).argmax(axis=1) == maps.reshape(len(maps), -1).argmax(axis=1)
    return {
        "mean_correlation": float(correlations.mean()),
        "worst_twentieth": float(np.quantile(correlations, 0.05)),
        "least_correlation": float(correlations.min()),
        "same_hottest_place": float(same.mean()),
    }


def removal(
    predictor: Predictor,
    grey: faithfulness.Images,
    maps: faithfulness.Maps,
    classes: npt.NDArray[np.int64],
    groups: list[str],
    labels: Sequence[str],
    on_step: Done = lambda step: None,
) -> dict[str, Any]:
    """Deletion and insertion, of all images and by the class that was decided on.

    The network's maps have three rivals: random maps, each the map of another picture, and maps that only say "the
    middle".
    """
    count, shape = len(maps), maps.shape[1:]
    rivals = {
        "gradcam": maps,
        "random": faithfulness.random_maps(count, shape, seed=0),
        "another": faithfulness.others_maps(maps, classes, groups),
        "middle": faithfulness.centre_maps(count, shape),
    }
    figures: dict[str, Any] = {}
    for name, insert in (("deletion", False), ("insertion", True)):
        areas, part = {}, {}
        for rival, its_maps in rivals.items():
            on_step(f"{name} by {rival} maps")
            values = faithfulness.curves(predictor, grey, its_maps, classes, insert=insert)
            areas[rival] = faithfulness.area(values)
            part[rival] = {
                "curve": [float(value) for value in values.mean(axis=0)],
                "auc": faithfulness.mean_with_interval(areas[rival], groups),
                "auc_by_class": _by_class(areas[rival], classes, labels),
            }
            if rival == "gradcam":
                part["first_by_class"] = _by_class(values[:, 0], classes, labels)
                part["last_by_class"] = _by_class(values[:, -1], classes, labels)
        sign = 1 if insert else -1  # deleting should lower the probability, inserting raise it
        for rival in [name for name in rivals if name != "gradcam"]:
            better = sign * (areas["gradcam"] - areas[rival])
            part[f"better_than_{rival}"] = {
                **faithfulness.mean_with_interval(better, groups),
                "on_share_of_images": float((better > 0).mean()),
            }
        figures[name] = part
    return figures


def _by_class(
    values: npt.NDArray[np.float64], classes: npt.NDArray[np.int64], labels: Sequence[str]
) -> dict[str, float]:
    """Mean of the images that were decided to be of each class; a class without any is left out."""
    return {labels[index]: float(values[classes == index].mean()) for index in np.unique(classes)}


def sanity(
    classifier: keras.Model,
    fold: Fold,
    classes: npt.NDArray[np.int64],
    reference: faithfulness.Maps,
    on_step: Done = lambda step: None,
) -> dict[str, Any]:
    """Adebayo et al. (2018): do the maps change when the classifier's weights are shuffled, from the last layer down?

    Its weights stay shuffled.

    Returns:
        For each stage the mean correlation with the trained network's maps, and its mean absolute value.
    """
    some = np.unique(np.linspace(0, len(fold) - 1, min(len(fold), SANITY_IMAGES)).round().astype(int))
    figures: dict[str, Any] = {"images": len(some)}
    shuffle = faithfulness.shuffled(seed=0)
    for stage, layers in stages(classifier).items():
        on_step(f"explaining with shuffled weights: {stage}")
        for layer in layers:
            layer.set_weights([shuffle(values) for values in layer.get_weights()])
        maps = explainers.explain(explainers.keras_model(classifier), fold.grey[some], classes[some])[1]
        correlations = explainers.correlations(reference[some], maps)
        figures[stage] = {
            "mean_correlation": float(correlations.mean()),
            "mean_absolute_correlation": float(np.abs(correlations).mean()),
            "empty_maps": int((~maps.any(axis=(1, 2))).sum()),
        }
    return figures


def stages(classifier: keras.Model) -> dict[str, list[keras.layers.Layer]]:
    """What is shuffled at each stage, in addition to what the stages before it shuffled."""
    head = {name: classifier.get_layer(name) for name in (LOGITS, HIDDEN)}
    others = [layer for layer in _flat(classifier) if layer.weights and layer.name not in head]
    last_block = [layer for layer in others if layer.name.startswith(LAST_BLOCK)]
    rest = [layer for layer in others if layer not in last_block]
    found = {
        "last layer": [head[LOGITS]],
        "head": [head[HIDDEN]],
        "head and last block": last_block,
        "everything": rest,
    }
    return {stage: layers for stage, layers in found.items() if layers}


def _flat(model: keras.Model) -> list[keras.layers.Layer]:
    return [inner for layer in model.layers for inner in (_flat(layer) if hasattr(layer, "layers") else [layer])]
