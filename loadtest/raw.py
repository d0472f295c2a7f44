"""The network without any server: the same file, run in this process with the settings that the served config has."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from densescan.tasks import IMAGE_SHAPE, INPUT_NAME, OUTPUT_NAME, Task
from server.repository import RepositoryModel, read_repository

_DEFAULTS = {
    "INFERENCE_NUM_THREADS": "0",
    "PERFORMANCE_HINT": "LATENCY",
    "NUM_STREAMS": "1",
    "ENABLE_CPU_PINNING": "NO",
}


class RawNetwork:
    """One task's network of a model repository's CPU profile, in this process.

    Args:
        task: The task.
        repository: The model repository.
        any_size: Compile it once, for batches of any size, as OpenVINO's own examples do. Otherwise for each size that
            is asked about, at the first time: the best that one inference after the other can do.

    Raises:
        ServerStartError: The repository or the weights are missing.
    """

    def __init__(self, task: Task, repository: Path, *, any_size: bool = False) -> None:
        import openvino as ov

        (model,) = read_repository(repository, "cpu", [task.classifier])
        self._core, self._weights, self._properties = ov.Core(), model.weights, properties(parameters(model))
        self._any_size = any_size
        self._compiled: dict[int, Any] = {}

    def __call__(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """uint8 [n, 224, 224, 3] to probabilities, float32 [n, classes]."""
        size = 0 if self._any_size else len(batch)
        if size not in self._compiled:
            self._compiled[size] = self._compile(size)
        results = self._compiled[size].infer({INPUT_NAME: batch}, share_inputs=True)
        probabilities: npt.NDArray[np.float32] = results[OUTPUT_NAME]
        return probabilities

    def _compile(self, size: int) -> Any:
        model = self._core.read_model(self._weights)
        if size:
            model.reshape({INPUT_NAME: [size, *IMAGE_SHAPE]})
        return self._core.compile_model(model, "CPU", self._properties).create_infer_request()


def parameters(model: RepositoryModel) -> dict[str, str]:
    """The ``parameters`` of a model's config."""
    return {key: value.string_value for key, value in model.config.parameters.items()}


def properties(given: Mapping[str, str]) -> dict[str, str]:
    """OpenVINO's properties as the backend ``densescan_openvino`` takes them from a config's parameters.

    That one knows a container's limit of processor time as well: without such a limit both take the same cores.
    """
    chosen = {key: given.get(key, default) for key, default in _DEFAULTS.items()}
    if chosen["INFERENCE_NUM_THREADS"] == "0":
        chosen["INFERENCE_NUM_THREADS"] = str(len(os.sched_getaffinity(0)))
    if "INFERENCE_PRECISION" in given:
        chosen["INFERENCE_PRECISION_HINT"] = given["INFERENCE_PRECISION"]
    return chosen


def batches(pictures: Sequence[Any], size: int, count: int) -> list[npt.NDArray[np.uint8]]:
    """`count` batches of `size` that go round through the pictures, each uint8 [224, 224, 3]."""
    return [
        np.stack([pictures[(start + offset) % len(pictures)] for offset in range(size)])
        for start in range(0, count * size, size)
    ]
