"""Triton's Python module as far as the backends use it; the real one exists only inside a Triton process."""

from __future__ import annotations

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
    CANCELLED = 1

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

    @property
    def names(self) -> list[str]:
        return [tensor.name for tensor in self.output_tensors]


@dataclass
class Request:
    inputs: dict[str, np.ndarray]
    outputs: Sequence[str] = ("probabilities", "heatmap")
    cancelled: bool = False

    def is_cancelled(self) -> bool:
        return self.cancelled

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
