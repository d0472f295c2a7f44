"""From the bytes of a picture file to the network's input, by the SDK's own preprocessing."""

from __future__ import annotations

import ctypes
import io
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils
from PIL import Image

from densescan.dicom import DicomFile, is_dicom
from densescan.errors import InvalidImage
from densescan.images import MAX_PIXELS
from densescan.preprocessing import preprocess
from densescan.tasks import ENCODED_NAME, INPUT_NAME

from .backlog import Backlog

Picture = npt.NDArray[np.uint8]

AT_ONCE = MAX_PIXELS
"""Pixels that one process decodes at a time, in some ten bytes each: a dozen films, or one of the largest pictures."""

HEADED = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "JPEG2000", "PPM")
"""Formats of which Pillow opens the header alone; for a WebP it sets memory aside at once."""

AHEAD = 2
"""Batches that may be decoded and wait for the network: one for each of its instances, when that one is done."""

LOOK_S = 0.002
"""How often to look whether the network has taken some."""

_M_MMAP_THRESHOLD = -3  # of glibc's malloc.h


class TritonPythonModel:
    """What Triton instantiates."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Start the threads. Pillow lets go of the interpreter while it decodes and resizes."""
        self._threads = ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="decode")
        self._pixels = Pixels(AT_ONCE)
        config = json.loads(args["model_config"])
        self._flow = Flow(config["name"], AHEAD * int(config["max_batch_size"]))
        # Otherwise glibc keeps what each thread has once used, for that thread: of the largest picture, in every one.
        with suppress(AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 4 << 20)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Decode all pictures of all requests at once; a bad one spoils only the request that it came with.

        First it waits until the network has caught up: under overload most would be decoded in vain.

        It does not look for requests that were cancelled: Triton drops those while they are queued.

        Raises:
            TritonModelException: None could be decoded, and not because of the pictures. Triton counts a request that
                is answered with an error as a success, and only what is raised as a failure, which alerts go by.
        """
        files = [_files(request) for request in requests]
        self._flow.wait(sum(map(len, files)))
        jobs = [[self._threads.submit(self._decode, file) for file in some] for some in files]
        outcomes = [_outcome(job) for job in jobs]
        if failed := sum(
            len(job) for job, outcome in zip(jobs, outcomes, strict=True) if isinstance(outcome, _Failure)
        ):
            self._flow.drop(failed)
        faults = [outcome.message for outcome in outcomes if isinstance(outcome, _Failure) and not outcome.by_picture]
        if len(faults) == len(requests):
            raise pb_utils.TritonModelException(faults[0])
        return [_answer(outcome) for outcome in outcomes]

    def finalize(self) -> None:
        """Stop the threads."""
        self._threads.shutdown()
        self._flow.close()

    def _decode(self, file: bytes) -> Picture:
        with self._pixels.taken(pixels(file)):
            return preprocess(file)


class Flow:
    """Keeps this process from decoding much more than the network takes.

    Args:
        decoder: Name of this model.
        most: Pictures that may wait for the network before more are decoded.
    """

    def __init__(self, decoder: str, most: int) -> None:
        self._decoder, self._most = decoder, most
        self._backlog: Backlog | None = None
        self._look_at = 0.0

    def wait(self, pictures: int) -> None:
        """Return as soon as so many may be decoded: at once where no network counts."""
        if (backlog := self._opened()) is not None:
            while not backlog.add(pictures, self._most):
                time.sleep(LOOK_S)

    def drop(self, pictures: int) -> None:
        """Wait no more for so many, which could not be decoded."""
        if self._backlog is not None:
            self._backlog.drop(pictures)

    def _opened(self) -> Backlog | None:
        """The count, once the network has begun it: it may be loaded later than this model."""
        if self._backlog is None and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + 1
            with suppress(OSError):
                self._backlog = Backlog(self._decoder, create=False, say=pb_utils.Logger.log_warn)
        return self._backlog

    def close(self) -> None:
        """Let go of the count."""
        if self._backlog is not None:
            self._backlog.close()


class Pixels:
    """A weighted semaphore, first come, first served: the pixels that are decoded at once, which bounds the memory."""

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


def _files(request: Any) -> list[bytes]:
    files: list[bytes] = list(pb_utils.get_input_tensor_by_name(request, ENCODED_NAME).as_numpy().reshape(-1))
    return files


class _Failure(NamedTuple):
    """Why a request has no pictures.

    Attributes:
        message: What its caller is told.
        by_picture: A picture is the cause, and not this program.
    """

    message: str
    by_picture: bool


def _outcome(job: Sequence[Future[Picture]]) -> Picture | _Failure:
    """The pictures of one request as a batch."""
    pictures = []
    for position, future in enumerate(job):
        try:
            pictures.append(future.result())
        except Exception as error:
            where = f"image {position} of {len(job)}: " if len(job) > 1 else ""
            if isinstance(error, InvalidImage):
                return _Failure(where + error.reason, by_picture=True)
            return _Failure(f"{where}{type(error).__name__}: {error}", by_picture=False)
    return np.stack(pictures) if len(pictures) > 1 else pictures[0][None]


def _answer(outcome: Picture | _Failure) -> Any:
    if isinstance(outcome, _Failure):
        code = pb_utils.TritonError.INVALID_ARG if outcome.by_picture else pb_utils.TritonError.INTERNAL
        return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(outcome.message, code))
    return pb_utils.InferenceResponse([pb_utils.Tensor(INPUT_NAME, outcome)])
