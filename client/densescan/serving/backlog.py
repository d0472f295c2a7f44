"""How far a decoder may run ahead of its network: flow control between the two steps of an ensemble.

Triton has none. It gives the decoder whatever comes, and of a flood most of what was decoded is then refused by the
full queue of the network: a sixth of the machine's work was for nothing. So the processes of both models count, in one
small file in memory, the pictures that are decoded and that the network has not taken yet; above a limit the decoder
waits, its own queue fills, and what is too much is refused there, at once and undecoded.

The count is an estimate. Some of what was decoded never reaches the network (its caller has gone), and the network
takes pictures that came as arrays. Both mend themselves: a network that finds less than a full batch has emptied its
queue.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger("densescan")

MEMORY = Path("/dev/shm")

IN_MOTION_S = 3.0
"""So long after the network took its last batch the count still says something: longer than its largest batch takes,
which on two cores without instructions for int8, shared with others, is more than a second."""

_PAGE = struct.Struct("<qq")


@dataclass
class _Count:
    waiting: int = 0
    """Pictures, as far as is known."""
    taken_ns: int = 0
    """When the network took its last batch, by the machine's monotonic clock."""


class Backlog:
    """The count of one decoder in one server, shared by the processes of its models.

    It is no reason not to answer: what goes wrong with it is said, and from then on this process counts nothing.

    Args:
        decoder: Name of the decoding model.
        create: Whether to make the file where there is none, as the network does. Without a network that counts there
            is nothing for a decoder to wait for.
        server_pid: Process id of tritonserver, which is the parent of the models' processes.
        say: Told what went wrong.

    Raises:
        OSError: There is no file, or it cannot be made.
    """

    def __init__(
        self, decoder: str, *, create: bool, server_pid: int | None = None, say: Callable[[str], None] = log.warning
    ) -> None:
        path = backlog_file(decoder, os.getppid() if server_pid is None else server_pid)
        self._decoder, self._say = decoder, say
        self._file: int | None = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
        try:
            with self._count():  # has its page now, and not when memory may be full
                pass
        except OSError:
            self.close()
            raise

    def add(self, pictures: int, most: int) -> bool:
        """Count pictures that are about to be decoded, unless `most` or more wait for the network already.

        Returns:
            Whether they may be decoded.
        """
        with self._tolerant(), self._count() as count:
            if abs(time.monotonic_ns() - count.taken_ns) > IN_MOTION_S * 1e9:
                count.waiting = 0
            elif count.waiting >= most:
                return False
            count.waiting += pictures
        return True

    def drop(self, pictures: int) -> None:
        """Count pictures no more that could not be decoded: the network will not see them."""
        with self._tolerant(), self._count() as count:
            count.waiting = max(0, count.waiting - pictures)

    def take(self, pictures: int, *, full: bool) -> None:
        """Count pictures that the network has taken, whether or not they came through the decoder.

        Args:
            pictures: Their number.
            full: Whether that is the largest batch it takes; if not, it has left none.
        """
        with self._tolerant(), self._count() as count:
            count.waiting = max(0, count.waiting - pictures) if full else 0
            count.taken_ns = time.monotonic_ns()

    def close(self) -> None:
        """Let go of the file; it stays for the other processes."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @contextmanager
    def _tolerant(self) -> Iterator[None]:
        """What goes wrong ends the counting, and nothing else."""
        try:
            yield
        except OSError as error:
            self._say(f"the pictures of {self._decoder} are no longer counted: {error}")
            self.close()

    @contextmanager
    def _count(self) -> Iterator[_Count]:
        """What the file says, written back afterwards; no other process comes between."""
        if self._file is None:
            yield _Count()
            return
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            page = os.pread(self._file, _PAGE.size, 0)
            count = _Count(*_PAGE.unpack(page)) if len(page) == _PAGE.size else _Count()
            yield count
            os.pwrite(self._file, _PAGE.pack(count.waiting, count.taken_ns), 0)
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)


def backlog_file(decoder: str, server_pid: int) -> Path:
    """Where a server's processes count.

    Raises:
        OSError: There is no such process.
    """
    # Containers may share this memory and not the numbers of processes; no two began at one moment as well.
    stat = Path(f"/proc/{server_pid}/stat").read_text(encoding="utf-8", errors="replace")
    began = stat.rpartition(")")[2].split()[19]
    return MEMORY / f"{_prefix(server_pid)}{began}-{decoder}"


def remove_backlogs(server_pid: int) -> None:
    """Delete what the processes of a server have counted, now that it has ended."""
    for file in MEMORY.glob(f"{_prefix(server_pid)}*"):
        file.unlink(missing_ok=True)


def _prefix(server_pid: int) -> str:
    return f"densescan-{server_pid}-"
