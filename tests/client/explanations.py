"""Explanations made by hand, for the tests of what is drawn from them."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from densescan import Classification, Explanation
from densescan.tasks import TASKS


def explain(
    heatmap: Any = None,
    *,
    task: str = "xray",
    label: str = "",
    target: str = "",
    picture: Image.Image | None = None,
    source: str = "film.png",
    threshold: float | None = None,
) -> Explanation:
    labels = TASKS[task].labels
    label = label or labels[-1]
    probabilities = {name: 0.9 if name == label else 0.1 / (len(labels) - 1) for name in labels}
    picture = picture or Image.new("L", (224, 224), 100)
    return Explanation(
        classification=Classification(task, label, 0.9, probabilities, threshold, f"{task}_gradcam", "1", source),
        target=target or label,
        heatmap=np.zeros((7, 7), np.float32) if heatmap is None else np.asarray(heatmap, np.float32),
        picture=picture,
        size=picture.size,
    )


def spike(row: int, column: int) -> np.ndarray:
    heatmap = np.zeros((7, 7), np.float32)
    heatmap[row, column] = 1
    return heatmap
