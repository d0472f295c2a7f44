"""Probabilities that mean what they say, and the threshold that a two-class task decides at.

Both are chosen on the validation fold, and only on the data set's own films: the labels of other hospitals' are
text-mined, and their mistakes would move both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss

from .network import LOGITS

if TYPE_CHECKING:
    import keras

Probabilities = npt.NDArray[np.float32]
Classes = npt.NDArray[np.int64]

SENSITIVITY = 0.97
"""The operating point is the threshold of highest specificity that finds this share of the positive films."""

_SMALLEST = 1e-7


def scaled(probabilities: Probabilities, temperature: float) -> npt.NDArray[np.float64]:
    """What a softmax over logits divided by `temperature` would have answered: float64 [n, classes]."""
    powers = np.log(np.maximum(probabilities.astype(np.float64), _SMALLEST)) / temperature
    powers -= powers.max(axis=1, keepdims=True)
    result: npt.NDArray[np.float64] = np.exp(powers)
    return result / result.sum(axis=1, keepdims=True)


def find_temperature(classes: Classes, probabilities: Probabilities) -> float:
    """The temperature of the lowest log loss, within 1/10 to 10.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2.
    """
    labels = list(range(probabilities.shape[1]))

    def loss(exponent: float) -> float:
        return float(log_loss(classes, scaled(probabilities, 10**exponent), labels=labels))

    return float(10 ** minimize_scalar(loss, bounds=(-1, 1), method="bounded").x)


def apply_temperature(model: keras.Model, temperature: float) -> None:
    """Divide the logits of a classifier by `temperature`, inside its last layer: no decision changes."""
    kernel, bias = model.get_layer(LOGITS).get_weights()
    model.get_layer(LOGITS).set_weights([kernel / temperature, bias / temperature])


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
