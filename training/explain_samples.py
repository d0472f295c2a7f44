"""Explanations of images of a fold, without a server: the samples of the original report, and sheets of examples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from densescan import Explanation, contact_sheet
from densescan.results import DEFAULT_OPERATING_POINT, decide
from densescan.tasks import OPERATING_POINT_PARAMETER, Task

from . import explainers
from .data import Fold
from .explainers import Explainer
from .exporting import INT8
from .runs import write_aside

SAMPLES = 4


def choose(fold: Fold, labels: int, count: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """Indices of `count` images, drawn at random and equally from each class as far as that goes."""
    generator = np.random.default_rng(seed)
    queues = [list(generator.permutation(np.flatnonzero(fold.classes == index))) for index in range(labels)]
    chosen: list[int] = []
    while len(chosen) < count and any(queues):
        chosen += [int(queue.pop()) for queue in queues if queue][: count - len(chosen)]
    return np.array(sorted(chosen, key=lambda index: (fold.classes[index], index)), dtype=np.int64)


def explain_images(
    task: Task, fold: Fold, chosen: npt.NDArray[np.int64], data: Path, version: Path, explainer: Explainer
) -> list[Explanation]:
    """Explanations as the SDK gives them, of some images of a fold, each of the decided label.

    Args:
        task: What the network classifies.
        fold: The images.
        chosen: Which of them.
        data: Folder that the fold's paths are relative to.
        version: Version folder of the gradient model.
        explainer: It, opened.
    """
    threshold = operating_point(task, version)
    probabilities, maps = explainers.explain(explainer, fold.grey[chosen])
    explanations = []
    for index, row, heatmap in zip(chosen, probabilities, maps, strict=True):
        named = dict(zip(task.labels, row.tolist(), strict=True))
        label = decide(task, named, threshold)
        if task.labels.index(label) != row.argmax():  # the threshold decided for a less probable one
            heatmap = explainers.explain(explainer, fold.grey[[index]], task.labels.index(label))[1][0]
        path = fold.entries[index].path
        explanations.append(
            explainers.explained(
                task,
                row.tolist(),
                label,
                heatmap,
                data / path,
                threshold=threshold,
                model=task.gradcam,
                version=version.name,
                source=path,
            )
        )
    return explanations


def operating_point(task: Task, version: Path) -> float | None:
    """The threshold in the config beside a version folder; None for a task without one."""
    if task.positive is None:
        return None
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    text = (version.parent / "config.pbtxt").read_text(encoding="utf-8")
    parameters = text_format.Parse(text, model_config_pb2.ModelConfig()).parameters
    if OPERATING_POINT_PARAMETER not in parameters:  # reading it would add it
        return DEFAULT_OPERATING_POINT
    return float(parameters[OPERATING_POINT_PARAMETER].string_value)


def write_samples(task: Task, fold: Fold, data: Path, version: Path, folder: Path, seed: int = 0) -> list[Path]:
    """The original report's figure: four samples, each as picture, map and overlay; returns the files."""
    chosen = choose(fold, len(task.labels), SAMPLES, seed)
    explanations = explain_images(task, fold, chosen, data, version, explainers.openvino_file(version / INT8))
    folder.mkdir(parents=True, exist_ok=True)
    sheet = contact_sheet(explanations, title=f"Grad-CAM: {task.title}")
    written = [folder / f"gradcam_{task.name}.png"]
    write_aside(written[0], lambda aside: sheet.save(aside))
    for number, (explanation, index) in enumerate(zip(explanations, chosen, strict=True), 1):
        true = task.labels[int(fold.classes[index])]
        written.append(explanation.save(folder / f"gradcam_{task.name}_{number}_{true}.png"))
    return written
