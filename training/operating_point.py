"""The operating point: how it is chosen, and where the SDK reads it from the server, in a model's configs.

Chosen on validation films as they are and as they would look from elsewhere. On the films as they are alone, the
threshold that finds 97 % of the pneumonias is too low for other films: whatever else changes a film makes it less like
the clear ones of the training, so that sensitivity rises and specificity falls.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from densescan.tasks import OPERATING_POINT_PARAMETER, Task

from . import calibration, metrics
from .corruptions import CORRUPTIONS, Grey, corrupt
from .data import Fold
from .predictors import Predictor, predict
from .runs import write_text

SEVERITIES = (0, 1)
"""Mild and strong, as films of other hospitals and exports differ; what is severe hides the finding."""

STEPS = 1 + len(CORRUPTIONS) * len(SEVERITIES)
"""How often each film is looked at."""

_VALUE = re.compile(rf'(key:\s*"{OPERATING_POINT_PARAMETER}"\s*value\s*{{\s*string_value:\s*")[^"]*(")')


def as_from_elsewhere(grey: Grey) -> Iterator[Grey]:
    """Pictures uint8 [n, height, width] as they are, then in each corruption, mild and strong: `STEPS` times."""
    yield grey
    for name in CORRUPTIONS:
        for severity in SEVERITIES:
            yield corrupt(grey, name, severity)


def choose(
    task: Task,
    predictor: Predictor,
    fold: Fold,
    sensitivity: float = calibration.SENSITIVITY,
    on_done: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """The highest threshold that finds `sensitivity` of the positive films, over all their forms taken together.

    Args:
        task: One with a positive class.
        predictor: The network as it is served.
        fold: Films that it was not trained on; those of other hospitals are left out.
        sensitivity: Smallest share of the positive films to be found, above 0 and up to 1.
        on_done: Called after each form, `STEPS` times.

    Returns:
        The ``threshold``, how it was chosen, and what a decision at it is worth, as plain data for JSON.

    Raises:
        ValueError: No film is positive.
    """
    own = metrics.own_films(fold.entries)
    positive = fold.classes[own] == task.positive_index
    forms = []
    for some in as_from_elsewhere(fold.grey[own]):
        forms.append(predict(predictor, some).astype(np.float64))  # as the SDK compares
        on_done()
    everything = np.concatenate(forms)[:, task.positive_index]
    exact = calibration.find_operating_point(np.tile(positive, len(forms)), everything, sensitivity)
    threshold = math.floor(1000 * exact) / 1000 or exact  # a little lower finds no fewer

    def worth(some: list[npt.NDArray[np.float64]]) -> dict[str, float]:
        classes = np.tile(fold.classes[own], len(some))
        each = metrics.at_threshold(task, classes, np.concatenate(some), threshold)
        return {name: each[name] for name in ("sensitivity", "specificity", "accuracy")}

    return {
        "threshold": threshold,
        "wanted_sensitivity": sensitivity,
        "films": int(own.sum()),
        "as_they_are": worth(forms[:1]),
        "as_from_elsewhere": worth(forms[1:]),
    }


def configs_with(model: Path, threshold: float) -> dict[Path, str]:
    """Each config of a model that has another operating point than `threshold`, and its text with that."""
    changed = {}
    for path in sorted([model / "config.pbtxt", *model.glob("configs/*.pbtxt")]):
        text = path.read_text(encoding="utf-8")
        new = _VALUE.sub(rf"\g<1>{threshold:.6g}\g<2>", text)
        if new != text:
            changed[path] = new
    return changed


def write(model: Path, threshold: float) -> list[Path]:
    """Put `threshold` into every config of a model that has an operating point; returns the files that changed."""
    changed = configs_with(model, threshold)
    for path, text in changed.items():
        write_text(path, text)
    return list(changed)
