"""One process and its group, from several threads: the one that waits, the one that signals, the one that stops."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from server.process import ServerProcess

from .conftest import eventually, processes_mentioning

CHILD = "import time; time.sleep(77.25)"
"""Told apart by its number."""


def start(code: str) -> ServerProcess:
    """A server that starts a child in its own group, says so, and goes on with `code`."""
    program = f"import os, signal, subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {CHILD!r}])\n"
    process = ServerProcess([sys.executable, "-c", f"{program}print('ready', flush=True)\n{code}"], os.environ)
    assert eventually(lambda: "ready" in process.tail)
    return process


def test_every_thread_gets_the_same_code_and_the_group_ends() -> None:
    for _ in range(5):
        process = start("time.sleep(0.2); sys.exit(3)")
        together = threading.Barrier(8)

        def wait(number: int, process: ServerProcess = process, together: threading.Barrier = together) -> int | None:
            together.wait()
            return process.wait() if number % 2 else process.wait(20)

        with ThreadPoolExecutor(8) as threads:
            assert set(threads.map(wait, range(8))) == {3}
        assert eventually(lambda: not processes_mentioning(CHILD))


def test_a_signal_to_one_that_has_just_ended_leaves_nobody_of_its_group() -> None:
    """Popen's own way would take its exit code, and nobody would end the group."""
    process = start("time.sleep(0.2)")
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert eventually(lambda: not processes_mentioning(CHILD))


@pytest.mark.parametrize("code", ["time.sleep(60)", "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"])
def test_one_that_does_not_heed_is_ended_by_force_with_its_group(code: str) -> None:
    process = start(code)
    assert process.stop(1.0) in (-signal.SIGTERM, -signal.SIGKILL)
    assert eventually(lambda: not processes_mentioning(CHILD))


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), SystemExit(1)], ids=["full disk", "broken pipe"])
def test_a_log_that_cannot_be_shown_is_read_to_its_end(error: BaseException) -> None:
    """Else a server whose log nobody reads would stop at its next lines, or be ended by them."""

    def cannot(_: str) -> None:
        raise error

    code = "import time\nfor number in range(5): print(number, flush=True); time.sleep(0.05)\nraise SystemExit(7)"
    process = ServerProcess([sys.executable, "-c", code], os.environ, on_line=cannot)
    assert process.wait(20) == 7
    assert process.tail == ("0", "1", "2", "3", "4")
