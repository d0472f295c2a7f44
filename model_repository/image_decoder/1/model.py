"""From the bytes of a picture file to the network's input, by the SDK's own preprocessing."""

from __future__ import annotations

import ctypes
import io
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils
from PIL import Image

from densescan.dicom import DicomFile, is_dicom
from densescan.errors import InvalidImage
from densescan.images import MAX_PIXELS
from densescan.preprocessing import preprocess
from densescan.tasks import ENCODED_NAME, INPUT_NAME

Picture = npt.NDArray[np.uint8]

AT_ONCE = MAX_PIXELS
"""Pixels that one process decodes at a time, in some ten bytes each: a dozen films, or one of the largest pictures."""

HEADED = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "JPEG2000", "PPM")
"""Formats of which Pillow opens the header alone; for a WebP it sets memory aside at once."""

_M_MMAP_THRESHOLD = -3  # of glibc's malloc.h


class TritonPythonModel:
    """What Triton instantiates."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Start the threads. Pillow lets go of the interpreter while it decodes and resizes."""
        self._threads = ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="decode")
        self._pixels = Pixels(AT_ONCE)
        # Otherwise glibc keeps what each thread has once used, for that thread: of the largest picture, in every one.
        with suppress(AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 4 << 20)

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
        return [self._threads.submit(self._decode, file) for file in files.reshape(-1)]

    def _decode(self, file: bytes) -> Picture:
        with self._pixels.taken(pixels(file)):
            return preprocess(file)


class Pixels:
    """Memory that decoding may take, in pixels: who wants more than are free waits, and so do those who come after."""

    def __init__(self, free: int) -> None:
        self._free = free
        self._turn = threading.Lock()
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, count: int) -> Iterator[None]:
        """Have some for as long as this lasts."""
        # One at a time waits for pixels: small pictures, one after another, would leave a large one none.
        with self._turn, self._changed:
            self._changed.wait_for(lambda: count <= self._free)
            self._free -= count
        try:
            yield
        finally:
            with self._changed:
                self._free += count
                self._changed.notify_all()


def pixels(file: bytes) -> int:
    """How many a picture has, by its header; as many as the largest where that is not known, as of WebP."""
    try:
        if is_dicom(file):
            width, height = DicomFile.open(file, "").size
        else:
            with Image.open(io.BytesIO(file), formats=HEADED) as image:
                width, height = image.size
    except Exception:  # what is damaged, decoding says
        return AT_ONCE
    return min(width * height, AT_ONCE)


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
