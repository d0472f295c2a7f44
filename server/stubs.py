"""Are the models' Python processes alive? Triton does not tell.

A model of a Python-based backend runs in a process of its own. When that dies, Triton answers every request to the
model with an error from then on, and goes on to call itself and the model ready. So whoever runs tritonserver looks
for the dead, ends it, and starts it again. The standard library is all that this needs: the container runs it as it is.
"""

from __future__ import annotations

import logging
import signal
import subprocess
from pathlib import Path
from types import FrameType

log = logging.getLogger("densescan")

EVERY_S = 1.0
"""How often to look."""

_GRACE_S = 5.0


class StubWatch:
    """Looks for the dead among the models' processes of one tritonserver.

    Args:
        server_pid: Process id of tritonserver.
    """

    def __init__(self, server_pid: int) -> None:
        self._pid = server_pid
        self._suspects: set[int] = set()

    def dead(self) -> list[int]:
        """Process ids of those that were dead at the look before as well.

        A model that is unloaded ends its process too, and Triton takes note of that at once.
        """
        before, self._suspects = self._suspects, dead_children(self._pid)
        return sorted(before & self._suspects)


def dead_children(server_pid: int) -> set[int]:
    """Process ids of the models' processes that have died and that their tritonserver has taken no note of."""
    dead = set()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            text = (folder / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        # PID (NAME) STATE PARENT …, and a name may hold anything. It may be that of the shell that Triton starts a
        # model's process with: tritonserver has no other children.
        state, parent = text[text.rindex(")") + 1 :].split()[:2]
        if state == "Z" and int(parent) == server_pid:
            dead.add(int(folder.name))
    return dead


def run_watched(command: list[str]) -> int:
    """Run tritonserver in the foreground, pass signals on to it, and end it when a model's process has died.

    Returns:
        The exit code for the shell: tritonserver's own, or 1 when it was ended here.
    """
    process = subprocess.Popen(command)
    told: list[int] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        told.append(number)
        process.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    watch = StubWatch(process.pid)
    while True:
        try:
            code = process.wait(EVERY_S)
            return code if code >= 0 else 128 - code
        except subprocess.TimeoutExpired:
            pass
        # One that ends ends its models as well.
        if not told and (dead := watch.dead()):
            log.error("the process of a model has died (%s): ending the server", ", ".join(map(str, dead)))
            process.terminate()
            try:
                process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            return 1
