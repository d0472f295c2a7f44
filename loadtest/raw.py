"""The network without any server: the same file, run in this process with the settings that the served config has."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from densescan.tasks import INPUT_NAME, OUTPUT_NAME, Task
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

    Raises:
        ServerStartError: The repository or the weights are missing.
    """

    def __init__(self, task: Task, repository: Path) -> None:
        import openvino as ov

        (model,) = read_repository(repository, "cpu", [task.classifier])
        compiled = ov.Core().compile_model(model.weights, "CPU", properties(parameters(model)))
        self._request = compiled.create_infer_request()
        self._output = compiled.output(OUTPUT_NAME)

    def __call__(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """uint8 [n, 224, 224, 3] to probabilities, float32 [n, classes]."""
        results = self._request.infer({INPUT_NAME: batch}, share_inputs=True)
        probabilities: npt.NDArray[np.float32] = results[self._output]
        return probabilities


def parameters(model: RepositoryModel) -> dict[str, str]:
    """The ``parameters`` of a model's config."""
    return {key: value.string_value for key, value in model.config.parameters.items()}


def properties(given: Mapping[str, str]) -> dict[str, str]:
    """OpenVINO's properties as the backend ``densescan_openvino`` takes them from a config's parameters."""
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
