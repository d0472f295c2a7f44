"""The gradient model of a classifier that is being exported: made from its converted forms, and checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from densescan.tasks import Task

from . import conversion, explainers, gradcam, predictors
from .runs import RunError

if TYPE_CHECKING:
    import keras

SAME_PROBABILITIES = 1e-3
"""Largest difference from the classifier in the same form; it is 0 but where a runtime fuses the two differently."""

FP32_TOLERANCE = 1e-3
"""Of any place of a map: dividing a map by its largest value magnifies the rounding of FP32."""

CORRELATION = {"ONNX FP16": 0.99, "OpenVINO int8": 0.9}
"""Least mean correlation of the maps with those of Keras in FP32; below it, a form explains another network."""


class GradientModelDiffers(RunError):
    """A converted gradient model does not answer as it should."""


@dataclass(frozen=True)
class MapCheck:
    """The maps of a form against those of Keras in FP32, on the same real images, each for its most probable class.

    Attributes:
        form: What was compared.
        images: On how many images.
        mean_correlation: Mean over the images of the correlation of both maps.
        least_correlation: The smallest of them.
        largest_difference: Of any place of any map.
        probabilities_differ: Largest difference from the probabilities of the classifier in the same form.
    """

    form: str
    images: int
    mean_correlation: float
    least_correlation: float
    largest_difference: float
    probabilities_differ: float


def convert_and_check(
    classifier: keras.Model,
    saved_model: Path,
    onnx_forms: Mapping[str, tuple[Path, Path]],
    int8: tuple[Path, Path],
    grey: npt.NDArray[np.uint8],
    on_step: Callable[[str], None] = lambda step: None,
) -> list[MapCheck]:
    """Write the gradient models of a classifier's converted forms, and compare each with Keras.

    Args:
        classifier: The network in Keras.
        saved_model: Its SavedModel, which already has the signature ``gradcam``.
        onnx_forms: The classifier's file and the file to write, for ``FP32`` and ``FP16``.
        int8: The same for OpenVINO.
        grey: The images to compare on: uint8 [n, 224, 224].
        on_step: Told what is being done.

    Raises:
        GradientModelDiffers: A form's maps are not those of Keras, or its probabilities not those of its classifier.
    """
    import onnx

    on_step("writing the gradient models")
    head = gradcam.to_onnx_head(classifier, conversion.OPSET)
    for source, path in onnx_forms.values():
        onnx.save(gradcam.onto_onnx(onnx.load(str(source)), head), str(path))
    gradcam.onto_openvino(int8[0], head, int8[1])

    on_step("comparing their maps with Keras")
    probabilities, expected = explainers.explain(explainers.keras_model(classifier), grey)
    classes = probabilities.argmax(axis=1)
    checks = []
    for form, source, explainer in (
        ("SavedModel", saved_model, explainers.saved_model(saved_model)),
        *((f"ONNX {form}", source, explainers.onnx_file(path)) for form, (source, path) in onnx_forms.items()),
        ("OpenVINO int8", int8[0], explainers.openvino_file(int8[1])),
    ):
        got, maps = explainers.explain(explainer, grey, classes)
        own = predictors.predict(predictors.open_model(source), grey)
        checks.append(compare_maps(form, expected, maps, float(np.abs(got - own).max())))
        _judge(checks[-1])
    return checks


def map_judge(
    classifier: keras.Model, fp32: Path, sets: Sequence[npt.NDArray[np.uint8]], work: Path
) -> Callable[[Path], list[float]]:
    """What tells how far the maps of an OpenVINO classifier correlate, in the mean, with those of its ONNX file.

    Args:
        classifier: The network in Keras, for the head.
        fp32: Its ONNX file in FP32.
        sets: Sets of images, uint8 [n, 224, 224] each.
        work: A folder for what is written meanwhile.

    Returns:
        A function of the ``.xml`` of a quantised form, which gives the figure of each set.
    """
    import onnx

    head = gradcam.to_onnx_head(classifier, conversion.OPSET)
    onnx.save(gradcam.onto_onnx(onnx.load(str(fp32)), head), str(work / "maps.onnx"))
    explainer = explainers.onnx_file(work / "maps.onnx")
    known = []
    for grey in sets:
        probabilities, expected = explainers.explain(explainer, grey)
        known.append((grey, probabilities.argmax(axis=1), expected))

    def correlations(int8: Path) -> list[float]:
        gradcam.onto_openvino(int8, head, work / "maps.xml")
        quantised = explainers.openvino_file(work / "maps.xml")
        return [
            float(explainers.correlations(expected, explainers.explain(quantised, grey, classes)[1]).mean())
            for grey, classes, expected in known
        ]

    return correlations


def compare_maps(
    form: str, expected: npt.NDArray[np.float32], got: npt.NDArray[np.float32], probabilities_differ: float = 0.0
) -> MapCheck:
    """Compare maps [n, 7, 7] of the same images and classes."""
    correlations = explainers.correlations(expected, got)
    return MapCheck(
        form=form,
        images=len(expected),
        mean_correlation=float(correlations.mean()),
        least_correlation=float(correlations.min()),
        largest_difference=float(np.abs(expected - got).max()),
        probabilities_differ=probabilities_differ,
    )


def _judge(check: MapCheck) -> None:
    """Refuse a form that is not what its name says; written so that NaN is refused, too."""
    least = CORRELATION.get(check.form)
    if least is None and not check.largest_difference <= FP32_TOLERANCE:
        raise GradientModelDiffers(f"the maps of {check.form} differ from Keras by {check.largest_difference:.2g}")
    if least is not None and not check.mean_correlation >= least:
        raise GradientModelDiffers(f"the maps of {check.form} correlate only {check.mean_correlation:.3f} with Keras")
    if not check.probabilities_differ <= SAME_PROBABILITIES:
        raise GradientModelDiffers(
            f"the gradient model in {check.form} answers probabilities that differ from the classifier's"
            f" by {check.probabilities_differ:.2g}"
        )


def card(task: Task, classifier_card: Mapping[str, Any], checks: list[MapCheck]) -> dict[str, Any]:
    """What stands beside the gradient model's files, but for their hashes."""
    return {
        "model": task.gradcam,
        "labels": task.labels,
        "explains": {key: classifier_card[key] for key in ("model", "trained", "exported", "sha256")},
        "checks": [asdict(check) for check in checks],
    }
