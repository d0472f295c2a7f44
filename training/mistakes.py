"""The worst mistakes of a network as a sheet: the pictures, and with Grad-CAM what each wrong answer rests on.

A sheet shows images of the data set: it belongs beside a report, not into a repository.
"""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from densescan import Explanation, contact_sheet
from densescan.tasks import Task

from . import explainers
from .metrics import decided, own_films

if TYPE_CHECKING:
    from .data import Fold
    from .evaluating import Answers
    from .explainers import Explainer
    from .metrics import Classes, Probabilities


def worst(
    task: Task, classes: Classes, probabilities: Probabilities, threshold: float | None, count: int
) -> npt.NDArray[np.int64]:
    """Indices of at most `count` wrongly decided images, those whose true class got the least probability first."""
    given = probabilities[np.arange(len(classes)), classes]
    wrong = np.flatnonzero(decided(task, probabilities, threshold) != classes)
    chosen: npt.NDArray[np.int64] = wrong[np.argsort(given[wrong], kind="stable")][:count]
    return chosen


def sheet(task: Task, fold: Fold, data: Path, answers: Answers, count: int) -> Image.Image | None:
    """The worst mistakes, each with picture, map, overlay and probabilities; None where there is no mistake.

    Of the data set's own films: the labels of other hospitals' are text-mined, and their worst mistakes mostly theirs.

    Without the maps, as plain pictures, where no gradient model of the network is at hand: of a server, or of a
    converted file that does not stand in a model repository.
    """
    own = own_films(fold.entries)
    places = worst(task, fold.classes[own], answers.probabilities[own], answers.threshold, count)
    if not len(places):
        return None
    chosen = np.flatnonzero(own)[places]
    calls = decided(task, answers.probabilities, answers.threshold)
    wrong = int((calls != fold.classes)[own].sum())
    title = f"{task.title}: the worst {len(chosen)} of {wrong} mistakes"
    explainer = find_explainer(task, answers.path)
    if explainer is None:
        return _plain(task, fold, answers, chosen, calls, title)
    maps = explainers.explain(explainer, fold.grey[chosen], calls[chosen])[1]
    rows = [
        _row(task, fold, data, answers, int(index), int(calls[index]), heatmap)
        for index, heatmap in zip(chosen, maps, strict=True)
    ]
    return contact_sheet(rows, title=title)


def _plain(
    task: Task, fold: Fold, answers: Answers, chosen: npt.NDArray[np.int64], calls: npt.NDArray[np.int64], title: str
) -> Image.Image:
    """The pictures alone, four in a row, with truth and answer below each."""
    from . import plots

    captions = []
    for index in chosen:
        entry, call = fold.entries[index], int(calls[index])
        answer = f"said {task.labels[call]} {answers.probabilities[index, call]:.3f}"
        captions.append(f"{PurePath(entry.path).name}\ntrue class {entry.label}\n{answer}")
    return plots.as_image(plots.pictures(fold.grey[chosen], captions, title))


def _row(
    task: Task, fold: Fold, data: Path, answers: Answers, index: int, call: int, heatmap: npt.NDArray[np.float32]
) -> Explanation:
    entry = fold.entries[index]
    return explainers.explained(
        task,
        answers.probabilities[index].tolist(),
        task.labels[call],
        heatmap,
        data / entry.path,
        threshold=answers.threshold if task.positive else None,
        model=answers.network,
        version="",
        # The sheet writes the source below the picture, so the truth stands there too.
        source=f"true class {entry.label}: {PurePath(entry.path).name}",
    )


def find_explainer(task: Task, path: Path | None) -> Explainer | None:
    """The gradient model of a network: built from a ``.keras`` file, or the one installed beside it for Triton.

    None where there is neither, as of a network with other layers than ours.
    """
    from . import explainers
    from .network import HIDDEN, LOGITS, POOL, load_model

    if path is None:
        return None
    if path.suffix == ".keras":
        model = load_model(path)
        known = {layer.name for layer in model.layers}
        return explainers.keras_model(model) if known.issuperset((POOL, HIDDEN, LOGITS)) else None
    installed = path.resolve().parent.parent.parent / task.gradcam / path.parent.name / "model.xml"
    return explainers.openvino_file(installed) if path.suffix == ".xml" and installed.is_file() else None
