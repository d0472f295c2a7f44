"""The two tasks: labels, sizes, model and tensor names. Everything else reads them from here.

The order of `labels` is the order of the network's outputs, of ``labels.txt`` in the model
repository and of the class folders' indices in training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

IMAGE_SIZE: Final = 224
"""Side of the network's square input, in pixels."""

CHANNELS: Final = 3
"""The one grey channel is replicated, because DenseNet-121 takes three."""

IMAGE_SHAPE: Final = (IMAGE_SIZE, IMAGE_SIZE, CHANNELS)
"""Shape of one preprocessed image, height x width x channels, uint8."""

HEATMAP_SHAPE: Final = (7, 7)
"""Height and width of a Grad-CAM map: the network's last feature map, float32."""

MAX_BATCH_SIZE: Final = 16
"""Largest batch that a served model executes at once."""

INPUT_NAME: Final = "image"
OUTPUT_NAME: Final = "probabilities"
HEATMAP_NAME: Final = "heatmap"
CLASS_INDEX_NAME: Final = "class_index"
ENCODED_NAME: Final = "encoded_image"

PREDICTED: Final = -1
"""The `class_index` that asks for the most probable label."""

OPERATING_POINT_PARAMETER: Final = "operating_point"
"""Key in a model config's ``parameters`` that holds the threshold of a two-class task."""

RESEARCH_ONLY: Final = "Research use only. Not a medical device."


@dataclass(frozen=True)
class Task:
    """One thing densescan classifies.

    Attributes:
        name: Short name, as in ``classify_<name>`` and ``--task <name>``.
        title: What a person calls it.
        labels: Class names, in the order of the network's outputs.
        positive: The finding that a threshold decides on; None where the most probable
            label wins.
        modalities: DICOM's codes of what takes such pictures.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    positive: str | None = None
    modalities: tuple[str, ...] = ()

    @property
    def classifier(self) -> str:
        """Triton model: `image` to `probabilities`."""
        return f"{self.name}_densenet121"

    @property
    def gradcam(self) -> str:
        """Triton model: `image` and `class_index` to `probabilities` and `heatmap`."""
        return f"{self.name}_gradcam"

    @property
    def decoder(self) -> str:
        """Triton model: `encoded_image`, the bytes of a file, to `image`."""
        return f"{self.name}_decoder"

    @property
    def ensemble(self) -> str:
        """Triton model: `encoded_image` to `probabilities`, by the decoder and the classifier."""
        return f"{self.name}_classifier"

    @property
    def positive_index(self) -> int | None:
        """Index of `positive` among `labels`."""
        return None if self.positive is None else self.labels.index(self.positive)


XRAY: Final = Task("xray", "chest X-ray", ("NORMAL", "PNEUMONIA"), positive="PNEUMONIA", modalities=("CR", "DX"))
MRI: Final = Task("mri", "brain MRI slice", ("glioma", "meningioma", "notumor", "pituitary"), modalities=("MR",))

TASKS: Final[dict[str, Task]] = {task.name: task for task in (XRAY, MRI)}


def get_task(name: str | Task) -> Task:
    """The task of that name.

    Raises:
        ValueError: There is none; the message names those that exist.
    """
    if isinstance(name, Task):
        return name
    try:
        return TASKS[name]
    except KeyError:
        raise ValueError(f"unknown task {name!r}: choose one of {', '.join(TASKS)}") from None
