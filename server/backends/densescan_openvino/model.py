"""Triton backend ``densescan_openvino``: OpenVINO on the CPU, true dynamic batches, no padding.

The folder is complete: mount it at ``/opt/tritonserver/backends/densescan_openvino`` of the official
container, with the ``openvino`` package installed, and a model's config may say
``backend: "densescan_openvino"``. Parameters it reads from that config, all optional:

=====================  ============  ==================================================
``INFERENCE_NUM_THREADS``  ``"0"``       of an inference that is alone; 0: every core that the process may use
``SHARED_NUM_THREADS``     ``"0"``       of one in company; 0: the cores divided by the model's instances
``FIXED_BATCH_SIZES``      none          sizes to compile for, such as ``1,4``; none: any, see ``compiling.py``
``PERFORMANCE_HINT``       ``LATENCY``   LATENCY or THROUGHPUT
``NUM_STREAMS``            ``"1"``       inferences at once; Triton sends one at a time
``ENABLE_CPU_PINNING``     ``"NO"``      YES ties each thread to a core, whoever else needs that core
``INFERENCE_PRECISION``    the CPU's     what is not int8: f32, or bf16 where the CPU has it
``FLOW_FROM``              none          the decoding model whose pictures it gets: that one waits for it
``range_of_<input>``       no limit      LOW:HIGH; a request with another number is refused
=====================  ============  ==================================================
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import openvino as ov
import triton_python_backend_utils as pb_utils
from batched_backend import Array, Arrays, BatchedBackend, Run, Settings, TensorSpec, available_cores
from compiling import THREADS, compile_for, fixed_sizes


class TritonPythonModel(BatchedBackend):
    """What Triton instantiates, once per model instance."""

    default_filename: ClassVar[str] = "model.xml"

    def load(self, settings: Settings) -> Run:
        """Compile the network for the CPU."""
        core, chosen = ov.Core(), properties(settings)
        model = core.read_model(settings.model_file)
        for spec in settings.inputs:
            _check(spec, model.input, "input", settings)
        for spec in settings.outputs:
            _check(spec, model.output, "output", settings)
        many, few = int(chosen[THREADS]), shared_threads(settings)
        if few >= many:
            (run_alone,) = compile_for(core, model, settings, chosen, [many])
            return run_alone
        run_alone, run_shared = compile_for(core, model, settings, chosen, [many, few])
        for size in fixed_sizes(settings) or {1, max(1, settings.max_batch_size)}:
            run_shared(_zeros(settings, size))  # Triton's own warm-up finds each instance alone
        company = Company()

        def run(batch: Mapping[str, Array]) -> Arrays:
            with company as others:
                return run_shared(batch) if others else run_alone(batch)

        return run


def shared_threads(settings: Settings) -> int:
    """Threads of an inference that shares the cores with another instance's."""
    if settings.parameters.get("SHARED_NUM_THREADS", "0") != "0":
        return settings.threads("SHARED_NUM_THREADS")
    return max(1, available_cores() // max(1, settings.instances))


def _zeros(settings: Settings, size: int) -> Arrays:
    """A batch of nothing, for the first inference of its size."""
    batched = [size] if settings.max_batch_size > 0 else []
    return {
        spec.name: np.zeros([*batched, *(max(1, side) for side in spec.shape)], spec.dtype) for spec in settings.inputs
    }


class Company:
    """Tells an inference whether another instance of the server computes, whichever model and process it belongs to.

    Alone, it had better use every core: one picture is answered soonest. In company, the threads of two inferences
    that both want every core wait for one another at each layer, and half of the cores' work is lost; each with cores
    of its own loses nothing.

    A lock on this very file, shared by all that compute; who can have it exclusively for a moment is alone. Every
    instance has the file, nothing is left behind, and the kernel takes the lock from a process that dies.
    """

    def __init__(self) -> None:
        self._file = os.open(__file__, os.O_RDONLY | os.O_CLOEXEC)

    def __enter__(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            others = True
        else:
            others = False
        fcntl.flock(self._file, fcntl.LOCK_SH)  # waits, at most for the moment that another looks around
        return others

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def __del__(self) -> None:
        os.close(self._file)


def properties(settings: Settings) -> dict[str, str]:
    """OpenVINO's properties for the parameters of a model config."""
    chosen = {
        THREADS: str(settings.threads(THREADS)),
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
