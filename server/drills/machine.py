"""Faults of what a server stands on: its shared memory is full, its clock jumps, its callers do not read."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from .callers import Callers, wait_until
from .faults import WARM, Outcome, outcome_of, supervised
from .rollouts import PATIENCE_S
from .slow_reader import GREETING, SlowReader
from .subject import Subject

SHM_MB = 64
"""The server's own /dev/shm in the drill: as much as Docker gives to a container that asks for nothing."""

FULL_S = 3.0
"""How long it stays full."""

JUMP_S = 86_400
"""How far the clock jumps: a day."""

_LIBFAKETIME = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib64/faketime/libfaketimeMT.so.1")


class CannotBeHeld(RuntimeError):
    """This machine lacks what a drill needs; the message says what."""


def shared_memory_full(subject: Subject) -> Outcome:
    """Every page of the server's /dev/shm taken away, and given back three seconds later."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        raise CannotBeHeld("a /dev/shm of the server's own needs root and the program unshare")
    mount = f'mount -t tmpfs -o size={SHM_MB}m tmpfs /dev/shm && exec "$@"'
    # In a mount namespace of its own, so that no other program's shared memory is touched.
    prefix = ("unshare", "--mount", "--propagation", "private", "sh", "-c", mount, "sh")
    with supervised(subject, prefix=prefix) as triton, Callers(subject, [triton.grpc_url]) as callers:
        callers.wait_for(WARM)
        before, began = triton.pid, time.monotonic()
        with filled(Path("/proc", str(before), "root", "dev/shm")):
            while time.monotonic() < began + FULL_S:
                time.sleep(0.1)
        callers.wait_for(WARM)
        note = "the server was started again" if triton.pid != before else "the server did not end"
    return outcome_of(
        "/dev/shm full", f"its last free page taken for {FULL_S:g} s, of {SHM_MB} MB", callers.tally, note=note
    )


def clock_jumps(subject: Subject) -> Outcome:
    """The server's clock jumps a day ahead, and a day back."""
    library = next((path for pattern in _LIBFAKETIME for path in Path("/").glob(pattern[1:])), None)
    if library is None:
        raise CannotBeHeld("a clock that jumps needs the Debian package faketime: apt-get install faketime")
    with tempfile.TemporaryDirectory(prefix="densescan-drill-") as name:
        offset = Path(name, "offset")
        offset.write_text("+0\n")
        settings = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(offset),
            "FAKETIME_NO_CACHE": "1",
            # As where somebody sets the clock: the one that only runs on is left alone.
            "DONT_FAKE_MONOTONIC": "1",
        }
        prefix = ("env", *(f"{key}={value}" for key, value in settings.items()))
        with (
            supervised(subject, prefix=prefix) as triton,
            Callers(subject, [triton.grpc_url], timeout_s=PATIENCE_S) as callers,
        ):
            callers.wait_for(WARM)
            for jump in (JUMP_S, 0):
                aside = offset.with_name("next")
                aside.write_text(f"+{jump}\n")
                os.replace(aside, offset)
                time.sleep(1)
                callers.wait_for(WARM)
    return outcome_of(
        "clock jumps", "the server's clock a day ahead, and a day back again", callers.tally, no_failure=True
    )


def slow_readers(subject: Subject) -> Outcome:
    """Callers who send and send, and do not read what they are answered."""
    with (
        supervised(subject) as triton,
        Callers(subject, [triton.grpc_url], timeout_s=PATIENCE_S) as callers,
        SlowReader(triton.grpc_url, subject, bytes_per_s=0) as never,
        SlowReader(triton.grpc_url, subject, bytes_per_s=200) as slowly,
    ):
        callers.wait_for(WARM)
        for reader in (never, slowly):
            reader.send(500)
        wait_until(
            lambda: min(never.bytes_read, slowly.bytes_read) >= GREETING,
            "no answers came to those who do not read them",
            PATIENCE_S,
        )
        callers.wait_for(4 * WARM)
    note = f"read {slowly.bytes_read + never.bytes_read} bytes of the answers to 1,000 requests"
    return outcome_of(
        "slow readers",
        "a caller who never reads its 500 answers, and one who reads 200 bytes a second",
        callers.tally,
        no_failure=True,
        note=note,
    )


@contextlib.contextmanager
def filled(folder: Path) -> Iterator[None]:
    """A file system without a free byte, while inside."""
    ballast = folder / "densescan-drill-ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                _write_until_full(partial(file.write, bytes(size)))
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            ballast.unlink()


def _write_until_full(write: Callable[[], int | None]) -> None:
    while True:
        try:
            write()
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return


MACHINE = (shared_memory_full, clock_jumps, slow_readers)
