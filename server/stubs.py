"""Are the models' Python processes alive? Triton does not tell.

A model of a Python-based backend runs in a process of its own. When that dies, Triton answers every request to the
model with an error from then on. Triton 2.51 goes on to call itself and the model ready, and leaves a zombie. Since
26.07 a readiness check notices, reaps the zombie, and calls the server not ready for ever, but alive. So whoever runs
tritonserver looks for the dead, ends it, and starts it again. The standard library is all that this needs: the
container runs it as it is.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from pathlib import Path
from types import FrameType

log = logging.getLogger("densescan")

EVERY_S = 1.0
"""How often to look."""

GONE_LOOKS = 10
"""At so many looks in a row a process must be missing, where none goes but by dying: a server that ends by itself ends
its models' processes before."""

_NAME = "triton_python_backend_stub"[:15]
"""What the kernel keeps of the name of a model's process."""

_GRACE_S = 5.0


class ModelDied(RuntimeError):
    """The process of a model has died, and its server was ended for that."""


class StubWatch:
    """Looks for the dead among the models' processes of one tritonserver.

    Args:
        server_pid: Process id of tritonserver.
        none_unloads: No model is ever unloaded, so that a process that is gone has died as well.
    """

    def __init__(self, server_pid: int, *, none_unloads: bool = False) -> None:
        self._pid = server_pid
        self._none_unloads = none_unloads
        self._zombies: set[int] = set()
        self._started = False
        self._alive: set[int] = set()
        self._missing: dict[int, int] = {}

    def dead(self) -> list[int]:
        """Process ids of those that were zombies at the look before as well, or have been gone for long.

        A model that is unloaded ends its process too, and Triton takes note of that at once.
        """
        before = self._zombies
        alive, self._zombies = children(self._pid)
        found = before & self._zombies
        if self._none_unloads:
            if not self._started:  # a model that fails to load ends its process, and the others load on, for minutes
                self._alive = set()
                self._started = listens(self._pid)
            self._alive |= alive
            gone = self._alive - alive - self._zombies
            self._missing = {pid: self._missing.get(pid, 0) + 1 for pid in gone}
            found |= {pid for pid, looks in self._missing.items() if looks >= GONE_LOOKS}
        return sorted(found)


def children(server_pid: int) -> tuple[set[int], set[int]]:
    """Process ids of a tritonserver's models that live, and of those that have died unnoticed by it."""
    alive, zombies = set(), set()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            text = (folder / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        # PID (NAME) STATE PARENT …, and a name may hold anything. That of a zombie may be of the shell that Triton
        # starts a model's process with: tritonserver has no other children.
        state, parent = text[text.rindex(")") + 1 :].split()[:2]
        if int(parent) != server_pid:
            continue
        if state == "Z":
            zombies.add(int(folder.name))
        elif text[text.index("(") + 1 : text.rindex(")")] == _NAME:
            alive.add(int(folder.name))
    return alive, zombies


def listens(pid: int) -> bool:
    """Whether a process listens for callers, as tritonserver does as soon as all of its models are loaded."""
    try:
        tables = [Path(f"/proc/{pid}/net/{name}").read_text(encoding="utf-8") for name in ("tcp", "tcp6")]
        rows = [line.split() for table in tables for line in table.splitlines()]
        sockets = {f"socket:[{row[9]}]" for row in rows if row[3] == "0A"}
        return any(os.readlink(file) in sockets for file in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


def run_watched(command: list[str]) -> int:
    """Run tritonserver, which unloads no model, in the foreground; pass signals on, end it when a model's process died.

    Returns:
        Its exit code, as a shell has it.

    Raises:
        ModelDied: It was ended here.
    """
    process = subprocess.Popen(command)
    told: list[int] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        told.append(number)
        process.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    watch = StubWatch(process.pid, none_unloads=True)
    while True:
        try:
            code = process.wait(EVERY_S)
            if told and code:  # what could not end in time says so as what could not start
                return 128 + told[0]
            return code if code >= 0 else 128 - code
        except subprocess.TimeoutExpired:
            pass
        # One that ends ends its models as well.
        if not told and (dead := watch.dead()):
            process.terminate()
            try:
                process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            raise ModelDied(f"the process of a model has died ({', '.join(map(str, dead))}): the server was ended")
