"""Triton backend ``densescan_openvino``: OpenVINO on the CPU, true dynamic batches, no padding.

The folder is complete: mount it at ``/opt/tritonserver/backends/densescan_openvino`` of the official
container, with the ``openvino`` package installed, and a model's config may say
``backend: "densescan_openvino"``. Parameters it reads from that config, all optional:

=====================  ============  ==================================================
``INFERENCE_NUM_THREADS``  ``"0"``       0: every core that the process may use
``PERFORMANCE_HINT``       ``LATENCY``   LATENCY or THROUGHPUT
``NUM_STREAMS``            ``"1"``       inferences at once; Triton sends one at a time
``ENABLE_CPU_PINNING``     ``"NO"``      YES ties each thread to a core, whoever else needs that core
``INFERENCE_PRECISION``    the CPU's     what is not int8: f32, or bf16 where the CPU has it
``range_of_<input>``       no limit      LOW:HIGH; a request with another number is refused
=====================  ============  ==================================================
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import openvino as ov
import triton_python_backend_utils as pb_utils
from batched_backend import Array, Arrays, BatchedBackend, Run, Settings, TensorSpec, available_cores


class TritonPythonModel(BatchedBackend):
    """What Triton instantiates, once per model instance."""

    default_filename: ClassVar[str] = "model.xml"

    def load(self, settings: Settings) -> Run:
        """Compile the network for the CPU."""
        compiled = ov.Core().compile_model(settings.model_file, "CPU", properties(settings))
        for spec in settings.inputs:
            _check(spec, compiled.input, "input", settings)
        for spec in settings.outputs:
            _check(spec, compiled.output, "output", settings)
        request = compiled.create_infer_request()
        outputs = {spec.name: compiled.output(spec.name) for spec in settings.outputs}
        takes_all = settings.threads("INFERENCE_NUM_THREADS") >= available_cores()
        turn: AbstractContextManager[Any] = Turn() if takes_all else contextlib.nullcontext()

        def run(batch: Mapping[str, Array]) -> Arrays:
            with turn:
                # share_inputs: the network reads the arrays where they lie. The outputs are small, and copied.
                results = request.infer(batch, share_inputs=True)
            return {name: results[port] for name, port in outputs.items()}

        return run


class Turn:
    """Held by one instance of the server at a time, whichever model and process it belongs to.

    A lock on this very file: every instance has it, nothing is left behind, and the kernel takes the lock from a
    process that dies.
    """

    def __init__(self) -> None:
        self._file = os.open(__file__, os.O_RDONLY | os.O_CLOEXEC)

    def __enter__(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def __del__(self) -> None:
        os.close(self._file)


def properties(settings: Settings) -> dict[str, str]:
    """OpenVINO's properties for the parameters of a model config."""
    chosen = {
        "INFERENCE_NUM_THREADS": str(settings.threads("INFERENCE_NUM_THREADS")),
        "PERFORMANCE_HINT": settings.parameters.get("PERFORMANCE_HINT", "LATENCY"),
        "NUM_STREAMS": settings.parameters.get("NUM_STREAMS", "1"),
        # Triton, and often the client, share the cores: a thread tied to a busy one keeps all the others waiting.
        "ENABLE_CPU_PINNING": settings.parameters.get("ENABLE_CPU_PINNING", "NO"),
    }
    if "INFERENCE_PRECISION" in settings.parameters:
        chosen["INFERENCE_PRECISION_HINT"] = settings.parameters["INFERENCE_PRECISION"]
    return chosen


def _check(spec: TensorSpec, find: Any, side: str, settings: Settings) -> None:
    """Refuse a file that does not hold what the config declares, before anybody calls it."""
    try:
        port = find(spec.name)
    except RuntimeError:
        raise pb_utils.TritonModelException(f"{settings.model_file} has no {side} {spec.name!r}") from None
    if port.element_type.to_dtype() != spec.dtype:
        raise pb_utils.TritonModelException(
            f"{side} {spec.name!r} of {settings.model_file} is {port.element_type}, the config says {spec.dtype}"
        )
    if settings.max_batch_size > 0 and port.partial_shape[0].is_static:
        raise pb_utils.TritonModelException(
            f"{side} {spec.name!r} of {settings.model_file} has the fixed shape {port.partial_shape}:"
            " export it with a dynamic batch dimension"
        )
