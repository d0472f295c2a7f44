"""Arguments that every client takes: the address, time limits, threshold, version. No I/O."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Mapping
from typing import Final, NamedTuple

from .tasks import Task

URL_VARIABLE: Final = "DENSESCAN_URL"
DEFAULT_URL: Final = "localhost:8001"
DEFAULT_TIMEOUT_S: Final = 10.0

CHANNEL_OPTIONS: Final[list[tuple[str, int]]] = [
    # A request is 150 kB and an answer below 1 kB: nothing near these limits is ours.
    ("grpc.max_send_message_length", 16 * 2**20),
    ("grpc.max_receive_message_length", 16 * 2**20),
    # A ping without an answer for so long: the peer has vanished without closing.
    ("grpc.keepalive_timeout_ms", 10_000),
    # gRPC would wait up to 2 minutes before it looks again for a server that was restarted.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.min_reconnect_backoff_ms", 5_000),  # in spite of its name, the limit of one attempt to connect
]


_HAS_PORT: Final = re.compile(r"^unix(-abstract)?:|:\d+$")  # a socket file needs none

_NO_TCP: Final = re.compile(r"^(unix|unix-abstract|vsock):")
_LAST_PORT: Final = 65_535

_LONGEST_S: Final = 1e9  # some decades; above that gRPC takes a time limit for one that is over


def resolve_url(url: str | None) -> str:
    """The gRPC address to call, or several with commas between: `url`, else DENSESCAN_URL, else ``localhost:8001``.

    Raises:
        ValueError: It is a web address, which is Triton's HTTP port and not the gRPC one; or it has no port.
    """
    address = (url or os.environ.get(URL_VARIABLE, "")).strip() or DEFAULT_URL
    for part in map(str.strip, address.split(",")):
        if part.startswith(("http://", "https://", "grpc://", "grpcs://")):
            raise ValueError(f"address {part!r}: give host:port of the gRPC endpoint, such as {DEFAULT_URL}")
        if part and not _HAS_PORT.search(part):  # gRPC would take 443
            example = part.rstrip(":/") + ("" if _HAS_PORT.search(part.rstrip("/")) else ":8001")
            raise ValueError(f"address {part!r} does not end with a port: Triton's gRPC port is usually {example}")
        if part and not _NO_TCP.match(part) and int(part.rpartition(":")[2]) > _LAST_PORT:
            raise ValueError(f"address {part!r}: ports go up to {_LAST_PORT}; Triton's gRPC port is usually 8001")
    return address


def check_timeout(timeout_s: float) -> float:
    """`timeout_s` if it is a positive, finite number of seconds, else ValueError."""
    if not (math.isfinite(timeout_s) and timeout_s > 0):
        raise ValueError(f"timeout_s is {timeout_s}; expected a positive number of seconds")
    return float(timeout_s)


def check_threshold(task: Task, threshold: float | None) -> float | None:
    """`threshold` if it fits the task, else ValueError."""
    if threshold is None:
        return None
    if task.positive is None:
        raise ValueError(f"a {task.title} is labelled by the most probable of {len(task.labels)}: it has no threshold")
    if not 0.0 <= threshold <= 1.0:
        raise ValueError(f"threshold is {threshold}; expected a probability, 0 to 1")
    return float(threshold)


def check_version(model_version: str) -> str:
    """`model_version` if it is empty (the newest) or a whole number, else ValueError."""
    if not isinstance(model_version, str) or (model_version and not model_version.isdecimal()):
        raise ValueError(f"model_version is {model_version!r}; expected a whole number as text, such as '2'")
    return model_version


class Terms(NamedTuple):
    """What the caller says of one call, besides what is asked.

    Attributes:
        timeout_s: Longest to wait, in seconds.
        metadata: What goes along with each of its requests, besides the client's own.
    """

    timeout_s: float
    metadata: Mapping[str, str]


class Deadline:
    """A time limit that the requests of one call share.

    Attributes:
        timeout_s: The whole limit, in seconds.
        metadata: What goes along with each of them.
    """

    __slots__ = ("_end", "metadata", "timeout_s")

    def __init__(self, timeout_s: float, metadata: Mapping[str, str] | None = None) -> None:
        self.timeout_s = timeout_s
        self.metadata = metadata or {}
        self._end = time.monotonic() + timeout_s

    def remaining_s(self) -> float:
        """Seconds left; never zero, because gRPC takes that for a mistake in some versions."""
        return min(max(self._end - time.monotonic(), 0.001), _LONGEST_S)
