"""Requests and answers of Triton's protocol, without sending any: shared by every kind of client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ._options import Options
from ._settings import check_threshold, check_version
from .errors import InferenceFailed
from .images import ImageSource, describe, open_picture
from .preprocessing import DETAIL, fit, made_before, replicate
from .results import DEFAULT_OPERATING_POINT, Classification, decide
from .status import ModelStatus, ServerStatus
from .tasks import IMAGE_SHAPE, IMAGE_SIZE, INPUT_NAME, OPERATING_POINT_PARAMETER, OUTPUT_NAME, Task, get_task

# Networks in int8 and FP16 round: their probabilities leave 0 to 1, and their sum 1, by this much.
TOLERANCE = 0.01


@dataclass(frozen=True)
class Job:
    """What to ask, checked before any picture is read.

    Attributes:
        task: The task.
        threshold: The caller's threshold; None for the model's own operating point.
        model_version: The caller's version; empty for the newest.
    """

    task: Task
    threshold: float | None
    model_version: str

    @classmethod
    def of(cls, task: str | Task, threshold: float | None, model_version: str) -> Job:
        """A job of these arguments; ValueError says which of them is wrong."""
        found = get_task(task)
        return cls(found, check_threshold(found, threshold), check_version(model_version))

    @property
    def needs_operating_point(self) -> bool:
        """The threshold has to be read from the server."""
        return self.task.positive is not None and self.threshold is None

    @property
    def model(self) -> str:
        """Name of the model that is asked, with the version if one is wanted."""
        return self.task.classifier + (f" version {self.model_version}" if self.model_version else "")


@dataclass(frozen=True)
class LoadedImage:
    """One picture, ready to be sent: `pixels` is uint8 [224, 224, 3]."""

    source: str
    pixels: npt.NDArray[np.uint8]
    modality: str = ""
    warnings: tuple[str, ...] = ()

    def warnings_for(self, task: Task) -> tuple[str, ...]:
        """What to know before trusting an answer of this task."""
        if self.modality in ("", *task.modalities):
            return self.warnings
        expected = " or ".join(task.modalities)
        return (f"the DICOM header says modality {self.modality}; a {task.title} is {expected}", *self.warnings)


def load(image: ImageSource, options: Options) -> LoadedImage:
    """Read and preprocess one picture, within the limits of the client.

    `pixels` may be the caller's own array: copy it before the call returns.
    """
    made = made_before(image) if options.max_pixels >= IMAGE_SIZE**2 else None
    if made is not None:
        return LoadedImage(describe(image), made)
    picture = open_picture(image, at_least=DETAIL, max_pixels=options.max_pixels, max_bytes=options.max_file_bytes)
    return LoadedImage(picture.source, replicate(fit(picture.image)), picture.modality, picture.warnings)


def infer_arguments(job: Job, image: LoadedImage) -> dict[str, Any]:
    """Keyword arguments of ``InferenceServerClient.infer``."""
    from tritonclient.grpc import InferInput, InferRequestedOutput

    tensor = InferInput(INPUT_NAME, [1, *IMAGE_SHAPE], "UINT8")
    tensor.set_data_from_numpy(image.pixels[np.newaxis])
    return {
        "model_name": job.task.classifier,
        "model_version": job.model_version,
        "inputs": [tensor],
        "outputs": [InferRequestedOutput(OUTPUT_NAME)],
    }


def answered_version(result: Any) -> str:
    """The version of the model that an ``InferResult`` came from."""
    return str(result.get_response().model_version)


def parse_classification(
    job: Job,
    image: LoadedImage,
    result: Any,
    *,
    operating_point: float | None,
    elapsed_ms: float,
    model: str | None = None,
) -> Classification:
    """An ``InferResult`` as a `Classification`.

    Args:
        job: What was asked.
        image: What was sent.
        result: What came back.
        operating_point: The model's own threshold, used unless the job has one.
        elapsed_ms: Duration of the request, in milliseconds.
        model: Who answered; by default the task's classifier.

    Raises:
        InferenceFailed: The answer is not a probability for each label.
    """
    task, model = job.task, model or job.task.classifier
    probabilities = dict(zip(task.labels, parse_probabilities(task, model, result), strict=True))
    threshold = operating_point if job.threshold is None else job.threshold
    label = decide(task, probabilities, threshold)
    return Classification(
        task=task.name,
        label=label,
        confidence=probabilities[label],
        probabilities=probabilities,
        threshold=threshold,
        model=model,
        model_version=answered_version(result),
        source=image.source,
        elapsed_ms=elapsed_ms,
        warnings=image.warnings_for(task),
    )


def parse_probabilities(task: Task, model: str, result: Any) -> list[float]:
    """The probabilities in an ``InferResult`` of one picture, in the order of the labels."""
    values: list[float] = read_output(result, OUTPUT_NAME, (len(task.labels),), model).tolist()
    in_range = all(-TOLERANCE <= value <= 1 + TOLERANCE for value in values)  # false for NaN, too
    if not in_range or abs(sum(values) - 1) > TOLERANCE:
        raise bad_answer(model, f"{values} are no probabilities")
    return [min(max(value, 0.0), 1.0) for value in values]


def read_output(result: Any, name: str, shape: tuple[int, ...], model: str) -> npt.NDArray[np.float32]:
    """One float32 output of an ``InferResult`` of one picture, without the batch dimension.

    Raises:
        InferenceFailed: It is not there, or of another kind.
    """
    try:
        answer = result.as_numpy(name)
    except ValueError as error:  # fewer bytes than the shape announces
        raise bad_answer(model, f"{name!r} is damaged: {error}") from error
    if answer is None:
        raise bad_answer(model, f"no output named {name!r}")
    if answer.dtype != np.float32 or answer.shape != (1, *shape):
        raise bad_answer(model, f"{answer.dtype} {list(answer.shape)}; expected float32 {[1, *shape]}")
    picture: npt.NDArray[np.float32] = answer[0]
    return picture


def parse_operating_point(model: str, response: Any) -> float:
    """The threshold in a ``ModelConfigResponse``; 0.5 if the config names none.

    Raises:
        InferenceFailed: The config names one that is no probability.
    """
    parameters = response.config.parameters
    if OPERATING_POINT_PARAMETER not in parameters:  # reading it would add it
        return DEFAULT_OPERATING_POINT
    text = parameters[OPERATING_POINT_PARAMETER].string_value
    try:
        value = float(text)
    except ValueError as error:
        raise bad_answer(model, f"the {OPERATING_POINT_PARAMETER} in its config is {text!r}") from error
    if not 0.0 <= value <= 1.0:
        raise bad_answer(model, f"the {OPERATING_POINT_PARAMETER} in its config is {text!r}, no probability")
    return value


def parse_status(url: str, *, live: bool, ready: bool, metadata: Any, index: Any) -> ServerStatus:
    """The answers to ServerLive, ServerReady, ServerMetadata and RepositoryIndex as one `ServerStatus`."""
    models = [ModelStatus(model.name, model.version, model.state == "READY", model.reason) for model in index.models]
    models.sort(key=lambda model: (model.name, len(model.version), model.version))
    return ServerStatus(url, metadata.name, metadata.version, live, ready, tuple(models))


def bad_answer(model: str, what: str) -> InferenceFailed:
    """The error for an answer of a model that cannot be used, with what is wrong about it."""
    return InferenceFailed(
        f"{model} answered something else than densescan expects: {what}. "
        "Check that the server's model repository and this package are of the same release."
    )
