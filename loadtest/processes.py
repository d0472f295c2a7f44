"""Callers in a process of their own: one Python process has one lock, which must not be the bench's own as well."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from types import TracebackType

from .callers import Outcome, run
from .ways import Load

_PR_SET_PDEATHSIG = 1


def end_with(parent: int) -> None:
    """Have this process told to end when its parent dies: callers without a bench would go on, or wait for ever."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it died before we could ask
        os._exit(1)


class CallersProcess:
    """One process that runs loads, one after the other, kept between them."""

    def __init__(self) -> None:
        # Not forked: gRPC and OpenVINO have threads in this process, which a fork would leave behind half dead.
        self._pool = ProcessPoolExecutor(
            1, mp_context=multiprocessing.get_context("spawn"), initializer=end_with, initargs=(os.getpid(),)
        )

    def __enter__(self) -> CallersProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def run(self, load: Load) -> Outcome:
        """Run a load there, and wait for what comes of it."""
        return self._pool.submit(run, load).result()
