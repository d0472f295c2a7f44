"""Triton's Python module as far as the backends use it; the real one exists only inside a Triton process."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_DTYPES = {"TYPE_UINT8": np.uint8, "TYPE_FP32": np.float32, "TYPE_INT32": np.int32}


class TritonModelException(Exception):
    pass


@dataclass
class TritonError:
    INVALID_ARG = 3  # so named in the real module
    INTERNAL = 13

    text: str
    code: int

    def message(self) -> str:
        return self.text


@dataclass
class Tensor:
    name: str
    array: np.ndarray

    def as_numpy(self) -> np.ndarray:
        return self.array


@dataclass
class InferenceResponse:
    output_tensors: list[Tensor]
    error: TritonError | None = None

    def __getitem__(self, name: str) -> np.ndarray:
        assert self.error is None, self.error
        return next(tensor.array for tensor in self.output_tensors if tensor.name == name)

    def has_error(self) -> bool:
        return self.error is not None

    @property
    def names(self) -> list[str]:
        return [tensor.name for tensor in self.output_tensors]


@dataclass
class Request:
    inputs: dict[str, np.ndarray]
    outputs: Sequence[str] = ("probabilities", "heatmap")

    def requested_output_names(self) -> list[str]:
        return list(self.outputs)


@dataclass
class Logger:
    warnings: list[str] = field(default_factory=list)

    def log_warn(self, message: str) -> None:
        self.warnings.append(message)


def get_input_tensor_by_name(request: Request, name: str) -> Tensor | None:
    return Tensor(name, request.inputs[name]) if name in request.inputs else None


def triton_string_to_numpy(name: str) -> Any:
    return _DTYPES[name]


class Metric:
    def __init__(self, family: str, labels: dict[str, str]) -> None:
        self.family, self.labels, self.value = family, labels, 0.0
        _METRICS.add(self)
        weakref.finalize(self, GONE.append, "series")

    def increment(self, value: float) -> None:
        self.value += value

    def set(self, value: float) -> None:
        self.value = value


class MetricFamily:
    COUNTER, GAUGE = "counter", "gauge"

    def __init__(self, name: str, description: str, kind: str) -> None:
        self.name = name
        weakref.finalize(self, GONE.append, "family")

    def Metric(self, labels: dict[str, str]) -> Metric:
        return Metric(self.name, labels)


_METRICS: weakref.WeakSet[Metric] = weakref.WeakSet()
GONE: list[str] = []
"""What was let go, in order: the real ones tell Triton, which must still be there."""


def forget_metrics() -> None:
    _METRICS.clear()
    GONE.clear()


def metrics() -> str:
    """What the metrics' address would show."""
    lines = []
    for metric in sorted(_METRICS, key=lambda one: (one.family, *one.labels.values())):
        labels = ",".join(f'{key}="{value}"' for key, value in metric.labels.items())
        lines.append(f"{metric.family}{{{labels}}} {metric.value:g}\n")
    return "".join(lines)


def refuse(*_: object, **__: object) -> Any:
    raise TritonModelException("metrics are disabled")
