"""Probabilities that mean what they say, and the threshold that a two-class task decides at.

Both are chosen on the validation fold, and only on the data set's own films: the labels of other hospitals' are
text-mined, and their mistakes would move both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from .network import LOGITS

if TYPE_CHECKING:
    import keras

Probabilities = npt.NDArray[np.float32]
Classes = npt.NDArray[np.int64]

SENSITIVITY = 0.97
"""The operating point is the threshold of highest specificity that finds this share of the positive films."""

_SMALLEST = 1e-7


@dataclass(frozen=True)
class Calibration:
    """What becomes of a classifier's logits: ``logits / temperature + bias``.

    Attributes:
        temperature: Above 1 where the network was too sure of itself.
        bias: Added to each class's logit: training weighs the classes alike, and augments its images.
    """

    temperature: float
    bias: tuple[float, ...]


def calibrated(probabilities: Probabilities, calibration: Calibration) -> npt.NDArray[np.float64]:
    """What the softmax would have answered after the calibration: float64 [n, classes]."""
    logits = np.log(np.maximum(probabilities.astype(np.float64), _SMALLEST))
    powers = logits / calibration.temperature + np.array(calibration.bias)
    powers -= powers.max(axis=1, keepdims=True)
    result: npt.NDArray[np.float64] = np.exp(powers)
    return result / result.sum(axis=1, keepdims=True)


def find_calibration(classes: Classes, probabilities: Probabilities) -> Calibration:
    """The calibration of the lowest log loss: temperature scaling with one bias a class.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2; with the biases as in Alexandari et
    al., Maximum Likelihood with Bias-Corrected Calibration is Hard-To-Beat at Label Shift Adaptation, ICML 2020.
    """
    count = probabilities.shape[1]

    def of(values: npt.NDArray[np.float64]) -> Calibration:
        # The first class's bias is zero: to add one number to all changes nothing.
        return Calibration(float(np.exp(values[0])), (0.0, *map(float, values[1:])))

    def loss(values: npt.NDArray[np.float64]) -> float:
        chosen = calibrated(probabilities, of(values))[np.arange(len(classes)), classes]
        return float(-np.log(np.maximum(chosen, _SMALLEST)).mean())

    bounds = [(-2.3, 2.3)] + [(-6.0, 6.0)] * (count - 1)
    return of(minimize(loss, np.zeros(count), bounds=bounds, method="L-BFGS-B").x)


def apply_calibration(model: keras.Model, calibration: Calibration) -> None:
    """Put the calibration into a classifier's last layer, and have its logits sum to zero.

    Softmax knows only how logits differ, so to take their mean from them changes no answer. It does change what
    Grad-CAM, which asks for the gradient of one logit, shows: what speaks for a class more than for the others, and not
    what raises all of them or none.
    """
    kernel, bias = model.get_layer(LOGITS).get_weights()
    kernel, bias = kernel / calibration.temperature, bias / calibration.temperature + np.array(calibration.bias)
    model.get_layer(LOGITS).set_weights([kernel - kernel.mean(axis=1, keepdims=True), bias - bias.mean()])


def find_operating_point(
    positive: npt.NDArray[np.bool_], probability: npt.NDArray[np.floating[Any]], sensitivity: float = SENSITIVITY
) -> float:
    """The highest threshold that still finds `sensitivity` of the positive films: highest specificity at that.

    Args:
        positive: True finding of each film, bool [n].
        probability: Of the finding, float [n]; it is called from the threshold on.
        sensitivity: Smallest share of the positive films to be found, above 0 and up to 1.

    Returns:
        A threshold halfway to the next lower probability, so that rounding decides no film; 3 decimals if that
        changes no decision.

    Raises:
        ValueError: No film is positive.
    """
    probability = probability.astype(np.float64)  # as the SDK compares
    found = np.sort(probability[positive])[::-1]
    if len(found) == 0:
        raise ValueError("an operating point needs positive films")
    needed = int(np.ceil(sensitivity * len(found) - 1e-9))
    last = found[max(needed, 1) - 1]
    below = probability[probability < last]
    exact = (last + (below.max() if len(below) else 0.0)) / 2
    rounded = round(exact, 3)
    same = np.array_equal(probability >= rounded, probability >= last)
    return rounded if same else exact
