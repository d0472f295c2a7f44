"""Become another program that is told to stop when the process that started it dies.

Run as ``python -I _exec_with_parent.py PARENT_PID PROGRAM [ARGUMENT ...]``. The wish is kept across exec, and
asking for it here rather than between fork and exec keeps the starting process free to have threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    parent, program = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it died before we could ask
        sys.exit(1)
    os.execvp(program[0], program)
