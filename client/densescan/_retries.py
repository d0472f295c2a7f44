"""When a failed request is sent again, and after which pause. No I/O: both clients ask, and wait themselves."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Final

from ._settings import Deadline
from .errors import DensescanError, Overloaded

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 2.0

# A token bucket: ten retries at once, or as many as a single request may have, and later one for every ten answers,
# so that retries cannot multiply the load of a server that is failing.
_BUDGET: Final = 10.0
_EARNED: Final = 0.1


class Retries:
    """The policy of one client, and what it has left to spend. Safe to use from many threads.

    Args:
        most: How often one request is sent again.
        overloaded: Send again what a full queue refused, too.
        jitter: Draws a number between 0 and 1.
    """

    def __init__(self, most: int, *, overloaded: bool = False, jitter: Callable[[], float] = random.random) -> None:
        self._most = most
        self._overloaded = overloaded
        self._jitter = jitter
        self._lock = threading.Lock()
        self._whole = max(_BUDGET, float(most))
        self._budget = self._whole

    def begin(self, deadline: Deadline) -> Attempts:
        """The attempts of one request, all within its deadline."""
        return Attempts(self, deadline)

    def succeeded(self) -> None:
        """Note an answer, which earns a part of a later retry."""
        with self._lock:
            self._budget = min(self._budget + _EARNED, self._whole)

    def _allows(self, error: DensescanError) -> bool:
        return error.transient and (self._overloaded or not isinstance(error, Overloaded))

    def _spend(self) -> bool:
        with self._lock:
            if self._budget < 1:
                return False
            self._budget -= 1
            return True


class Attempts:
    """Of one request, how often it has failed."""

    def __init__(self, retries: Retries, deadline: Deadline) -> None:
        self._retries = retries
        self._deadline = deadline
        self._failed = 0

    def pause_s(self, error: DensescanError) -> float | None:
        """Seconds to wait before sending again; None to give up and raise the error."""
        if self._failed >= self._retries._most or not self._retries._allows(error):
            return None
        longest: float = min(_FIRST_PAUSE_S * 2**self._failed, _LONGEST_PAUSE_S)
        # Between half and whole: callers that failed together do not come back together.
        pause = longest * (0.5 + 0.5 * self._retries._jitter())
        if pause >= self._deadline.remaining_s() or not self._retries._spend():
            return None
        self._failed += 1
        return pause
