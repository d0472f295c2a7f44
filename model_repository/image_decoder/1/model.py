"""From the bytes of a picture file to the network's input, by the SDK's own preprocessing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils

from densescan.errors import InvalidImage
from densescan.preprocessing import preprocess
from densescan.tasks import ENCODED_NAME, INPUT_NAME

Picture = npt.NDArray[np.uint8]


class TritonPythonModel:
    """What Triton instantiates."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Start the threads. Pillow lets go of the interpreter while it decodes and resizes."""
        self._threads = ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="decode")

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Decode all pictures of all requests at once; a bad one spoils only the request that it came with.

        Whether its caller has cancelled one is not asked: Triton itself looks for that in the queue.
        """
        return [_answer(job) for job in [self._begin(request) for request in requests]]

    def finalize(self) -> None:
        """Stop the threads."""
        self._threads.shutdown()

    def _begin(self, request: Any) -> list[Future[Picture]]:
        files = pb_utils.get_input_tensor_by_name(request, ENCODED_NAME).as_numpy()
        return [self._threads.submit(preprocess, file) for file in files.reshape(-1)]


def _answer(job: Sequence[Future[Picture]]) -> Any:
    pictures = []
    for position, future in enumerate(job):
        try:
            pictures.append(future.result())
        except Exception as error:
            where = f"image {position} of {len(job)}: " if len(job) > 1 else ""
            return _failure(where, error)
    batch = np.stack(pictures) if len(pictures) > 1 else pictures[0][None]
    return pb_utils.InferenceResponse([pb_utils.Tensor(INPUT_NAME, batch)])


def _failure(where: str, error: Exception) -> Any:
    if isinstance(error, InvalidImage):
        answer = pb_utils.TritonError(where + error.reason, pb_utils.TritonError.INVALID_ARG)
    else:
        answer = pb_utils.TritonError(f"{where}{type(error).__name__}: {error}", pb_utils.TritonError.INTERNAL)
    return pb_utils.InferenceResponse(output_tensors=[], error=answer)
