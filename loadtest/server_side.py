"""What the server says about itself: batch sizes that it executed, and the memory of its processes."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from tritonclient.grpc import InferenceServerClient

from .connection import Connection

TRITON = "tritonserver"

_STUB = "triton_python_backend_stub"


class Counters:
    """Triton's own counters of the executed batches."""

    def __init__(self, url: str) -> None:
        connection = Connection(url)
        self._client = InferenceServerClient(
            connection.target, creds=connection.credentials, channel_args=connection.channel_options
        )
        self._headers = connection.headers

    def executed(self, model: str) -> dict[int, int]:
        """Number of executions by batch size since the server was started."""
        statistics = self._client.get_inference_statistics(model, headers=self._headers)
        return {
            int(batch.batch_size): int(batch.compute_infer.count)
            for stats in statistics.model_stats
            for batch in stats.batch_stats
        }

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def memory_mb(pid: int) -> float:
    """Resident memory of a process and of those it started, in MB; shared pages count for each."""
    pages = 0
    for process in family(pid):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            pages += int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu_by_model(pid: int) -> dict[str, float]:
    """Processor time that tritonserver and its models' processes have taken so far, in seconds.

    Args:
        pid: Process id of tritonserver.

    Returns:
        By the name of the model; that of tritonserver itself by `TRITON`.
    """
    seconds: dict[str, float] = {TRITON: 0.0}
    for process in family(pid):
        with contextlib.suppress(OSError):
            # The name, in brackets, may itself hold blanks.
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            command = Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace").split("\0")
            # STUB MODEL/VERSION/FILE …
            name = Path(command[1]).parts[-3] if Path(command[0]).name == _STUB else TRITON
            taken = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            seconds[name] = seconds.get(name, 0.0) + taken
    return seconds


def family(pid: int) -> list[int]:
    """A process and all that it and those have started and that still run."""
    found = [pid]
    for process in found:  # grows meanwhile
        for tasks in Path(f"/proc/{process}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += [int(child) for child in tasks.read_text().split()]
    return found
