"""Stands in for Triton's native ``onnxruntime`` backend where that is not at hand: in the embedded server.

It lets the GPU profile's files and configs run anywhere. It reads the same parameters as the native one
(``intra_op_thread_count``, ``inter_op_thread_count``) and leaves the TensorRT settings alone. The launcher
puts the modules that it imports beside it. Never mount this folder into the container: the native one is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import onnxruntime as ort
import triton_python_backend_utils as pb_utils
from batched_backend import Array, Arrays, BatchedBackend, Run, Settings


class TritonPythonModel(BatchedBackend):
    """What Triton instantiates, once per model instance."""

    default_filename: ClassVar[str] = "model.onnx"

    def load(self, settings: Settings) -> Run:
        """Open a session, on the GPU where the instance and the installed package both have one."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = settings.threads("intra_op_thread_count")
        options.inter_op_num_threads = int(settings.parameters.get("inter_op_thread_count", "0"))
        session = ort.InferenceSession(settings.model_file, options, providers=providers(settings))
        _check_names(session, settings)
        names = [spec.name for spec in settings.outputs]

        def run(batch: Mapping[str, Array]) -> Arrays:
            return dict(zip(names, session.run(names, dict(batch)), strict=True))

        return run


def providers(settings: Settings) -> list[Any]:
    """ONNX Runtime's execution providers, best first."""
    if settings.on_gpu and "CUDAExecutionProvider" in ort.get_available_providers():
        return [("CUDAExecutionProvider", {"device_id": settings.device_id}), "CPUExecutionProvider"]
    return ["CPUExecutionProvider"]


def _check_names(session: ort.InferenceSession, settings: Settings) -> None:
    """Refuse a file that does not hold what the config declares, before anybody calls it."""
    for side, specs, nodes in (
        ("input", settings.inputs, session.get_inputs()),
        ("output", settings.outputs, session.get_outputs()),
    ):
        missing = {spec.name for spec in specs} - {node.name for node in nodes}
        if missing:
            raise pb_utils.TritonModelException(f"{settings.model_file} has no {side} {', '.join(sorted(missing))}")
