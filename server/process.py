"""One tritonserver and the Python processes it starts: started, watched, and ended as one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_TAIL_LINES = 1000
GUARD = Path(__file__).with_name("_exec_with_parent.py")


class ServerProcess:
    """A running tritonserver, in a process group of its own, its log read line by line.

    Args:
        command: Program and arguments.
        environment: All of its environment variables.
        on_line: Called with each line of its log, in a thread of this object; an OSError of it costs that line alone.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], on_line: Callable[[str], None] | None = None
    ) -> None:
        self._on_line = on_line
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._ending = threading.Lock()
        self._popen = subprocess.Popen(
            [*_guard_prefix(), *command],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # A group of its own: Ctrl-C reaches the launcher alone, and the group can be ended as a whole.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name="triton-log", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Process id of tritonserver, which is its group's id as well."""
        return self._popen.pid

    @property
    def tail(self) -> tuple[str, ...]:
        """The last lines of the log."""
        return tuple(self._tail)

    def poll(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self._finish(os.WNOHANG)

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait until it has ended; None if it has not within `timeout_s`."""
        if timeout_s is None:
            return self._finish(0)
        deadline = time.monotonic() + timeout_s
        while (code := self.poll()) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send tritonserver a signal, if it still runs."""
        if self.poll() is None:
            # Not by Popen's own method: it would take the code of one that has just ended, and leave its group alive.
            with self._ending:
                if self._popen.returncode is None:
                    os.kill(self.pid, number)

    def stop(self, timeout_s: float) -> int:
        """Ask it to end, and end it by force after `timeout_s`."""
        self.send_signal(signal.SIGTERM)
        code = self.wait(timeout_s)
        if code is None:
            self.send_signal(signal.SIGKILL)
            code = self.wait()
        assert code is not None
        return code

    def _finish(self, options: int) -> int | None:
        """Once tritonserver has ended: end what is left of its group, then take its exit code."""
        if self._popen.returncode is None:
            # WNOWAIT: until the code is taken, the group's id cannot be given to anybody else.
            with contextlib.suppress(ChildProcessError):  # another thread is just taking it
                if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | options) is None:
                    return None
            with self._ending:
                if self._popen.returncode is None:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.killpg(self.pid, signal.SIGKILL)
                    self._popen.wait()
                    self._reader.join(timeout=5)
        return self._popen.returncode

    def _read(self) -> None:
        assert self._popen.stdout is not None
        with self._popen.stdout as lines:
            for line in lines:
                self._tail.append(line.rstrip())
                if self._on_line is not None:
                    # To read no more would stop the server at its next lines, or end it. SystemExit is rich's, for a
                    # pipe that nobody reads.
                    with contextlib.suppress(OSError, SystemExit):
                        self._on_line(line.rstrip())


def _guard_prefix() -> list[str]:
    # The kernel takes the end of the starting thread for the end of the parent: safe in the main thread only.
    if threading.current_thread() is not threading.main_thread():
        return []
    return [sys.executable, "-I", str(GUARD), str(os.getpid())]
