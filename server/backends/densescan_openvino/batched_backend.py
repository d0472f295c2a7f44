"""What a Python-based Triton backend does around a network: gather a batch, run it once, answer each.

It, ``answer_counts.py`` and ``decoder_backlog.py`` stand beside ``model.py`` because Triton puts that folder on the
import path, both in the official container and in the embedded server; they need nothing but NumPy and Triton's own
module.
"""

from __future__ import annotations

import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils
from answer_counts import OUTPUT, open_counts
from decoder_backlog import open_backlog

RANGE = "range_of_"
"""``range_of_class_index`` with the value ``-1:3``: a request with any other number in that input is refused."""

Array = npt.NDArray[Any]
Arrays = dict[str, Array]
Run = Callable[[Mapping[str, Array]], Arrays]
"""One inference: a batch of every input to a batch of every output, in arrays of the caller's own."""


class BadRequest(Exception):
    """A request that cannot be run; it is answered with this message, its batch-mates are not touched."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output as the model's config declares it; `shape` is without the batch dimension."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def accepts(self, shape: Sequence[int]) -> bool:
        """Whether one sample of that shape fits; -1 fits everything."""
        return len(shape) == len(self.shape) and all(
            want in (-1, have) for want, have in zip(self.shape, shape, strict=True)
        )

    @classmethod
    def from_config(cls, entry: Mapping[str, Any]) -> TensorSpec:
        """Read one entry of ``input`` or ``output`` of a model config."""
        dtype = np.dtype(pb_utils.triton_string_to_numpy(entry["data_type"]))
        return cls(entry["name"], dtype, tuple(int(size) for size in entry["dims"]))


@dataclass(frozen=True)
class Settings:
    """What the backends read from the arguments that Triton passes to ``initialize``."""

    model_file: Path
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch_size: int
    parameters: Mapping[str, str]
    on_gpu: bool
    device_id: int
    instances: int = 1
    ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Smallest and largest value that an input may hold, for inputs with such a limit."""

    @classmethod
    def from_args(cls, args: Mapping[str, str], default_filename: str) -> Settings:
        """Parse Triton's arguments."""
        config = json.loads(args["model_config"])
        filename = config.get("default_model_filename") or default_filename
        parameters = {key: value.get("string_value", "") for key, value in config.get("parameters", {}).items()}
        return cls(
            model_file=Path(args["model_repository"], args["model_version"], filename),
            inputs=tuple(TensorSpec.from_config(entry) for entry in config["input"]),
            outputs=tuple(TensorSpec.from_config(entry) for entry in config["output"]),
            max_batch_size=int(config.get("max_batch_size", 0)),
            parameters=parameters,
            on_gpu=args.get("model_instance_kind") == "GPU",
            device_id=int(args.get("model_instance_device_id") or 0),
            instances=sum(int(group.get("count", 1)) for group in config.get("instance_group", [])) or 1,
            ranges=_ranges(parameters, {entry["name"] for entry in config["input"]}),
        )

    def threads(self, parameter: str) -> int:
        """Number of threads that a parameter asks for; 0 or none: every core this process may use."""
        try:
            threads = int(self.parameters.get(parameter, "0"))
        except ValueError:
            raise pb_utils.TritonModelException(
                f"parameter {parameter} must be a number of threads, not {self.parameters[parameter]!r}"
            ) from None
        return threads if threads > 0 else available_cores()


def _ranges(parameters: Mapping[str, str], inputs: set[str]) -> dict[str, tuple[int, int]]:
    """The limits that a config's parameters set; a mistake in them is told when the model is loaded."""
    ranges = {}
    for key, text in parameters.items():
        if not key.startswith(RANGE):
            continue
        name = key[len(RANGE) :]
        try:
            low, high = map(int, text.split(":"))
        except ValueError:
            raise pb_utils.TritonModelException(f"parameter {key} must be LOW:HIGH, not {text!r}") from None
        if name not in inputs:
            raise pb_utils.TritonModelException(f"parameter {key}: there is no input {name!r}")
        ranges[name] = (low, high)
    return ranges


def available_cores() -> int:
    """Cores this process may use: its affinity, cut down to the container's CPU quota."""
    cores = len(os.sched_getaffinity(0))
    quota = _cgroup_quota()
    return max(1, min(cores, math.ceil(quota)) if quota else cores)


def _cgroup_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """CPU quota in cores; None where there is none."""
    try:
        if (root / "cpu.max").is_file():
            quota, period = (root / "cpu.max").read_text().split()
        else:
            quota = (root / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu/cpu.cfs_period_us").read_text().strip()
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):  # no cgroup file system, or the word "max"
        return None


class BatchedBackend(ABC):
    """A TritonPythonModel but for `load`."""

    default_filename: ClassVar[str]

    @abstractmethod
    def load(self, settings: Settings) -> Run:
        """Load the network; what it returns takes and gives the tensors that the config names."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the weights. Called once by Triton, before the model is ready."""
        self._settings = Settings.from_args(args, self.default_filename)
        if not self._settings.model_file.is_file():
            raise pb_utils.TritonModelException(f"there are no weights at {self._settings.model_file}")
        self._run = self.load(self._settings)
        self._buffers: Arrays = {}
        self._counts = open_counts(json.loads(args["model_config"]), self._settings.model_file.parent)
        self._backlog = open_backlog(self._settings.parameters, args.get("model_name", ""))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer every request, in order, with one inference for all of them where that is possible.

        Whether a caller has cancelled is not asked: Triton drops such requests from its queue by itself, and asking it
        about one that has left the queue takes an eighth of a millisecond.

        Raises:
            TritonModelException: Every inference failed. Triton counts a request that is answered with an error as a
                success, and only what is raised as a failure, which alerts go by.
        """
        answers: list[Any] = [None] * len(requests)
        readable: dict[int, Arrays] = {}
        for position, request in enumerate(requests):
            try:
                readable[position] = self._read(request)
            except BadRequest as error:
                answers[position] = _failure(str(error), pb_utils.TritonError.INVALID_ARG)
        if readable:
            if self._backlog is not None:
                pictures = sum(len(next(iter(inputs.values()))) for inputs in readable.values())
                self._backlog.take(pictures, full=pictures >= self._settings.max_batch_size)
            results = self._infer(readable)
            failed = [message for message in results.values() if isinstance(message, str)]
            if len(failed) == len(requests):
                raise pb_utils.TritonModelException(failed[0])
            for position, outputs in results.items():
                answers[position] = _answer(requests[position], outputs)
            self._count([outputs for outputs in results.values() if not isinstance(outputs, str)])
        return answers

    def finalize(self) -> None:
        """Let go of the network. Called once by Triton, when the model is unloaded."""
        del self._run
        if self._counts is not None:
            self._counts.close()
            self._counts = None
        if self._backlog is not None:
            self._backlog.close()
            self._backlog = None

    def _count(self, answered: Sequence[Arrays]) -> None:
        """Have the answers counted, where the version's card says how."""
        if self._counts is not None:
            for outputs in answered:
                self._counts.add(outputs[OUTPUT] if self._batched else outputs[OUTPUT][None])

    def _read(self, request: Any) -> Arrays:
        """The inputs of one request, checked against the config."""
        inputs = {spec.name: _input_array(request, spec, self._batched) for spec in self._settings.inputs}
        sizes = {len(array) for array in inputs.values()} if self._batched else {1}
        if len(sizes) > 1:
            raise BadRequest(f"inputs have different batch sizes: {sorted(sizes)}")
        if not 0 < min(sizes) <= max(1, self._settings.max_batch_size):
            raise BadRequest(f"batch size {min(sizes)} is not within 1 and {self._settings.max_batch_size}")
        for name, (low, high) in self._settings.ranges.items():
            outside = inputs[name][(inputs[name] < low) | (inputs[name] > high)]
            if outside.size:
                raise BadRequest(f"input {name} must be within {low} and {high}, not {outside.flat[0]}")
        return inputs

    @property
    def _batched(self) -> bool:
        return self._settings.max_batch_size > 0

    def _infer(self, readable: Mapping[int, Arrays]) -> dict[int, Arrays | str]:
        """Outputs by position, or the message of what went wrong there."""
        if self._batched:
            try:
                return dict(zip(readable, self._infer_together(list(readable.values())), strict=True))
            except Exception as error:
                if len(readable) == 1:
                    return dict.fromkeys(readable, _describe(error))
                pb_utils.Logger.log_warn(f"a batch failed, running its requests one by one: {_describe(error)}")
        return {position: self._infer_alone(inputs) for position, inputs in readable.items()}

    def _infer_alone(self, inputs: Arrays) -> Arrays | str:
        try:
            return self._run_checked(inputs, len(next(iter(inputs.values()))) if self._batched else 1)
        except Exception as error:
            return _describe(error)

    def _infer_together(self, group: Sequence[Arrays]) -> list[Arrays]:
        """One inference for all, its outputs cut up again."""
        sizes = [len(next(iter(inputs.values()))) for inputs in group]
        batch = {
            spec.name: self._gather(spec, [inputs[spec.name] for inputs in group]) for spec in self._settings.inputs
        }
        outputs = self._run_checked(batch, sum(sizes))
        ends = np.cumsum(sizes)
        return [
            {name: array[end - size : end] for name, array in outputs.items()}
            for size, end in zip(sizes, ends.tolist(), strict=True)
        ]

    def _gather(self, spec: TensorSpec, arrays: Sequence[Array]) -> Array:
        """One batch of all; a single request's array is used as it lies in Triton's shared memory."""
        if len(arrays) == 1:
            return arrays[0]
        total = sum(len(array) for array in arrays)
        if -1 in spec.shape or total > self._settings.max_batch_size:
            return np.concatenate(arrays)
        if spec.name not in self._buffers:
            self._buffers[spec.name] = np.empty((self._settings.max_batch_size, *spec.shape), spec.dtype)
        return np.concatenate(arrays, out=self._buffers[spec.name][:total])

    def _run_checked(self, batch: Arrays, size: int) -> Arrays:
        """Run the network and make sure that every declared output came, one row per sample."""
        outputs = self._run(batch)
        for spec in self._settings.outputs:
            array = outputs[spec.name]
            if self._batched and (array.ndim == 0 or len(array) != size):
                raise RuntimeError(f"output {spec.name} has shape {list(array.shape)} for a batch of {size}")
            outputs[spec.name] = np.ascontiguousarray(array, dtype=spec.dtype)
        return outputs


def _input_array(request: Any, spec: TensorSpec, batched: bool) -> Array:
    """One input of one request, without a copy."""
    tensor = pb_utils.get_input_tensor_by_name(request, spec.name)
    if tensor is None:
        raise BadRequest(f"input {spec.name} is missing")
    array: Array = tensor.as_numpy()
    if array.dtype != spec.dtype:
        raise BadRequest(f"input {spec.name} must be {spec.dtype}, not {array.dtype}")
    sample = array.shape[1:] if batched else array.shape
    if (batched and array.ndim == 0) or not spec.accepts(sample):
        wanted = [*(["batch"] if batched else []), *spec.shape]
        raise BadRequest(f"input {spec.name} must have shape {wanted}, not {list(array.shape)}")
    return array


def _answer(request: Any, outputs: Arrays | str) -> Any:
    """The response to one request: the outputs it asked for, or an error."""
    if isinstance(outputs, str):
        return _failure(outputs, pb_utils.TritonError.INTERNAL)
    wanted = set(request.requested_output_names())
    tensors = [pb_utils.Tensor(name, array) for name, array in outputs.items() if name in wanted]
    return pb_utils.InferenceResponse(output_tensors=tensors)


def _failure(message: str, code: int) -> Any:
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(message, code))


def _describe(error: Exception) -> str:
    return f"inference failed: {type(error).__name__}: {error}"
