"""A server that crashes is started again, at the same addresses, and not in a loop without end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from .errors import ServerStartError

log = logging.getLogger("densescan.server")


@dataclass(frozen=True)
class RestartPolicy:
    """When to start again.

    Attributes:
        restarts: How many in a row, before giving up; 0: none.
        first_wait_s: Before the first; each further one waits twice as long.
        longest_wait_s: Limit of that.
        steady_after_s: A server that ran that long is well: the next crash counts as the first.
    """

    restarts: int = 5
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    steady_after_s: float = 60.0

    def wait_s(self, attempt: int) -> float:
        """Seconds to wait before the given restart in a row, from 1."""
        return min(self.first_wait_s * 2.0 ** (attempt - 1), self.longest_wait_s)


class Restartable(Protocol):
    """What `keep_running` needs of a server."""

    def wait(self) -> int:
        """Wait until it has ended, and return its exit code; at once if it has."""
        ...

    def restart(self) -> None:
        """Start it again; ServerStartError if that fails."""
        ...


def keep_running(
    server: Restartable,
    policy: RestartPolicy,
    *,
    stopping: Callable[[], bool] = lambda: False,
    sleep: Callable[[float], object] = time.sleep,
    on_event: Callable[[str], None] = log.warning,
) -> int:
    """Stay until a running server ends for good.

    Args:
        server: A server that has been started.
        policy: When to start it again.
        stopping: Whether its end was asked for.
        sleep: Waits; what it raises ends this function.
        on_event: Told of crashes and restarts, in sentences for a person.

    Returns:
        The exit code of its last run.
    """
    attempt = 0
    while True:
        began = time.monotonic()
        code = server.wait()
        if code == 0 or stopping():
            return code
        if time.monotonic() - began >= policy.steady_after_s:
            attempt = 0
        while True:
            if attempt >= policy.restarts or stopping():
                return code
            attempt += 1
            wait_s = policy.wait_s(attempt)
            on_event(
                f"tritonserver ended with exit code {code}; start {attempt} of {policy.restarts} again in {wait_s:g} s"
            )
            sleep(wait_s)
            try:
                server.restart()
            except ServerStartError as error:
                if stopping():
                    return server.wait()  # it ended as it was told to, before it was seen to be ready
                on_event(f"it did not start again: {error.problem}")
                continue
            on_event("tritonserver serves again")
            break
