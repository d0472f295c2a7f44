"""The regions that a server's models keep in /dev/shm: named so that those of a dead server are known, and deleted.

A server that is killed together with all that could tidy up, as a container that needs too much memory is, leaves its
regions behind: tens of MB, which in Kubernetes outlive the container and after some such ends leave no room to start.
So each server has a sign beside its regions, locked for as long as it lives. Who starts a server deletes the regions
beside every sign that nobody has locked. The kernel takes the lock from whoever dies, and a lock is seen where the
numbers of processes are not, between containers.

The standard library is all that this module needs: the container runs it as it is.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from contextlib import suppress
from pathlib import Path

MEMORY = Path("/dev/shm")

_SIGN = "in_use"
_NAME = "densescan_????????????_"


class Regions:
    """The regions of one server, which is about to start; those of dead ones are deleted.

    Attributes:
        prefix: What the names of its regions begin with.

    Raises:
        OSError: There is no room, or no such memory at all.
    """

    def __init__(self) -> None:
        remove_left_behind()
        while True:
            self.prefix = f"densescan_{uuid.uuid4().hex[:12]}_"
            path = MEMORY / f"{self.prefix}{_SIGN}"
            # Not inherited by what is started: the lock is this process's, which starts the server and waits for it.
            self._sign: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._sign, fcntl.LOCK_EX)
            if os.fstat(self._sign).st_nlink:
                return
            # Somebody who starts as well saw it before it was locked, and took it for a dead one's.
            os.close(self._sign)

    @property
    def option(self) -> str:
        """What tritonserver is started with."""
        return f"--backend-config=python,shm-region-prefix-name={self.prefix}"

    def clear(self) -> None:
        """Delete the regions, which are there only if the server has crashed; it may start again."""
        for region in MEMORY.glob(f"{self.prefix}*"):
            if not region.name.endswith(_SIGN):
                region.unlink(missing_ok=True)

    def close(self) -> None:
        """Delete them and their sign: the server has ended. May be called twice."""
        if self._sign is not None:
            self.clear()
            (MEMORY / f"{self.prefix}{_SIGN}").unlink(missing_ok=True)
            os.close(self._sign)
            self._sign = None


def remove_left_behind() -> int:
    """Delete the regions of servers that were killed.

    Returns:
        How many files it deleted, signs not counted.
    """
    count = 0
    for sign in MEMORY.glob(f"{_NAME}{_SIGN}"):
        with suppress(OSError):  # another user's, or it has just gone
            file = os.open(sign, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for region in MEMORY.glob(sign.name.removesuffix(_SIGN) + "*"):
                    if region != sign:
                        region.unlink(missing_ok=True)
                        count += 1
                sign.unlink(missing_ok=True)
            finally:
                os.close(file)
    return count
