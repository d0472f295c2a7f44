"""Requests and answers of the gradient models, without sending any: shared by every kind of client."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ._encoded import decodes_otherwise
from ._options import Options
from ._protocol import TOLERANCE, Job, LoadedImage, bad_answer, parse_classification, read_output
from .dicom import is_dataset
from .errors import InvalidImage
from .explanation import MAX_PICTURE_SIDE, Explanation
from .images import ImageSource, describe, open_picture, read_bytes
from .preprocessing import DETAIL, fit, replicate
from .results import Classification
from .tasks import CLASS_INDEX_NAME, HEATMAP_NAME, HEATMAP_SHAPE, IMAGE_SHAPE, INPUT_NAME, OUTPUT_NAME, PREDICTED, Task

_BYTES = (bytes, bytearray, memoryview)


@dataclass(frozen=True)
class Question:
    """What to ask a gradient model, checked before any picture is read.

    Attributes:
        job: What to classify.
        target: The label to explain; None for the one that is decided on.
    """

    job: Job
    target: str | None

    @classmethod
    def of(cls, task: str | Task, target: str | None, threshold: float | None, model_version: str) -> Question:
        """A question of these arguments; ValueError says which of them is wrong."""
        job = Job.of(task, threshold, model_version)
        if target is not None and target not in job.task.labels:
            raise ValueError(f"target is {target!r}; a {job.task.title} is one of {', '.join(job.task.labels)}")
        return cls(job, target)

    @property
    def model(self) -> str:
        """Name of the model that is asked, with the version if one is wanted."""
        return self.job.task.gradcam + (f" version {self.job.model_version}" if self.job.model_version else "")

    def follow_up(self, classification: Classification) -> Question | None:
        """What must be asked as well, to the version that answered.

        The model explains the most probable label unless it is told another. Where a threshold decided for a
        less probable one, that is the label to explain.
        """
        probabilities = classification.probabilities
        if self.target is not None or classification.label == max(probabilities, key=probabilities.__getitem__):
            return None
        job = replace(self.job, model_version=classification.model_version)
        return Question(job, classification.label)


@dataclass(frozen=True)
class ExplainedImage:
    """One picture, ready to be sent and to be drawn on.

    Attributes:
        loaded: What is sent: the same pixels as for classifying.
        picture: 8-bit grey, upright, with sides of at most 1024 pixels.
        size: Width and height before that reduction.
    """

    loaded: LoadedImage
    picture: Image.Image
    size: tuple[int, int]


def load(image: ImageSource, options: Options) -> ExplainedImage:
    """Read and preprocess one picture, within the limits of the client, and keep it for drawing."""
    name = describe(image)
    limits = {"max_pixels": options.max_pixels, "max_bytes": options.max_file_bytes}
    if isinstance(image, (str, os.PathLike)) or (hasattr(image, "read") and not is_dataset(image)):
        image = read_bytes(image, max_bytes=options.max_file_bytes)  # it may be decoded twice
    try:
        whole = seen = open_picture(image, **limits)
        if isinstance(image, _BYTES) and decodes_otherwise(image, DETAIL):
            # As it is decoded before it is classified, for the same pixels to the bit.
            seen = open_picture(image, at_least=DETAIL, **limits)
    except InvalidImage as error:
        raise InvalidImage(name, error.reason) from error
    loaded = LoadedImage(
        name if whole.source == "<bytes>" else whole.source,
        replicate(fit(seen.image)),
        whole.modality,
        whole.warnings,
    )
    return ExplainedImage(loaded, bounded(whole.image), whole.full_size or whole.image.size)


def bounded(image: Image.Image) -> Image.Image:
    """A copy, because the caller's own may change, as large as an `Explanation` keeps it."""
    copy = image.copy()
    copy.thumbnail((MAX_PICTURE_SIDE, MAX_PICTURE_SIDE), Image.Resampling.LANCZOS)
    return copy


def infer_arguments(question: Question, image: ExplainedImage) -> dict[str, Any]:
    """Keyword arguments of ``InferenceServerClient.infer``."""
    from tritonclient.grpc import InferInput, InferRequestedOutput

    task = question.job.task
    pixels = InferInput(INPUT_NAME, [1, *IMAGE_SHAPE], "UINT8")
    pixels.set_data_from_numpy(image.loaded.pixels[np.newaxis])
    number = PREDICTED if question.target is None else task.labels.index(question.target)
    index = InferInput(CLASS_INDEX_NAME, [1, 1], "INT32")
    index.set_data_from_numpy(np.array([[number]], np.int32))
    return {
        "model_name": task.gradcam,
        "model_version": question.job.model_version,
        "inputs": [pixels, index],
        "outputs": [InferRequestedOutput(name) for name in (OUTPUT_NAME, HEATMAP_NAME)],
    }


def parse_decision(
    question: Question, image: ExplainedImage, result: Any, *, operating_point: float | None, elapsed_ms: float
) -> Classification:
    """The classification in an ``InferResult``; arguments and errors as in `parse_classification`."""
    return parse_classification(
        question.job,
        image.loaded,
        result,
        operating_point=operating_point,
        elapsed_ms=elapsed_ms,
        model=question.job.task.gradcam,
    )


def parse_explanation(
    question: Question, image: ExplainedImage, result: Any, classification: Classification
) -> Explanation:
    """An ``InferResult`` and the decision as an `Explanation`.

    Raises:
        InferenceFailed: The answer is no map.
    """
    return Explanation(
        classification=classification,
        target=question.target or classification.label,
        heatmap=parse_heatmap(question.job.task.gradcam, result),
        picture=image.picture,
        size=image.size,
    )


_ROUNDING = 1e-6
"""A map's peak, scaled to 1 by the network, may come out this much lower."""


def parse_heatmap(model: str, result: Any) -> npt.NDArray[np.float32]:
    """The map in an ``InferResult`` of one picture: float32 [7, 7] in 0..1, read-only."""
    answer = read_output(result, HEATMAP_NAME, HEATMAP_SHAPE, model)
    if not (answer.min() >= -TOLERANCE and answer.max() <= 1 + TOLERANCE):  # false for NaN, too
        raise bad_answer(model, f"a map with values from {answer.min()} to {answer.max()}")
    heatmap: npt.NDArray[np.float32] = np.clip(answer, 0.0, 1.0)
    peak = heatmap.max()
    if 1 - _ROUNDING < peak < 1:  # OpenVINO divides by multiplying with the reciprocal
        heatmap /= peak
    heatmap.flags.writeable = False
    return heatmap
