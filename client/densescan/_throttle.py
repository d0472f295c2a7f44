"""Hold back requests that a full queue would refuse anyway. No I/O: both clients ask before they do any work.

Refusing a request costs the server almost as much as accepting it, so that under overload refusals take cores from
requests that could be answered. Hence a token bucket for each model: every `Overloaded` takes a token, answers and time
bring them back, and while it is empty most requests fail here, unsent. Enough are still sent to keep the server's queue
full, and to notice at once when there is room in it. (Other clients do it by chance, from the share that was lately
refused: Beyer et al., Site Reliability Engineering, 2016, chapter 21. That is as good while it lasts, and slow to end.)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from .errors import Overloaded

BUDGET: Final = 10.0
"""Requests that may be refused before any is held back: a short burst is none of our business."""

EARNED: Final = 0.1
"""Of a request, that an answer earns: one is refused for every ten that are answered."""

EARNED_OF_SEVERAL: Final = 1.0
"""The same where several servers take turns: one that is full for good must not slow down what the others can do."""

IN_A_ROW: Final = 9
"""Requests that are held back before one is sent anyhow: what answers at one address may be several servers, too."""

TRICKLE: Final = 4.0
"""Requests a second that are earned by waiting: there may be no answer to come."""


class Throttle:
    """What the requests of one client to each model may yet cost. Safe to use from many threads.

    Args:
        url: Address of the server, or of several.
        clock: Seconds.
    """

    def __init__(self, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._earned = EARNED_OF_SEVERAL if "," in url or url.startswith("dns:") else EARNED
        self._clock = clock
        self._lock = threading.Lock()
        self._budgets: dict[str, _Budget] = {}

    @contextmanager
    def admitted(self, model: str, *, in_turn: bool = False) -> Iterator[None]:
        """Around all the work for one request to a model.

        Args:
            model: Its name.
            in_turn: The request has waited until `pause_s` was 0, and is not held back, whatever others spent since.

        Raises:
            Overloaded: The request is held back; nothing was sent.
        """
        with self._lock:
            budget = self._budget(model)
            held_back = budget.pause_s > 0 and not in_turn and budget.held_back < IN_A_ROW
            budget.held_back = budget.held_back + 1 if held_back else 0
        if held_back:
            raise _held_back(self._url, model)
        # What fails otherwise is neither paid for nor rewarded.
        try:
            yield
        except Overloaded:
            with self._lock:
                budget.left = max(0.0, budget.left - 1)
            raise
        else:
            with self._lock:
                budget.left = min(BUDGET, budget.left + self._earned)

    def pause_s(self, model: str) -> float:
        """Seconds until waiting alone earns a request to a model; 0: none is held back now."""
        with self._lock:
            return self._budget(model).pause_s

    def _budget(self, model: str) -> _Budget:
        """A model's budget as it stands now; the lock is held."""
        now = self._clock()
        budget = self._budgets.setdefault(model, _Budget(now))
        budget.wait_until(now)
        return budget


class _Budget:
    """How many requests may yet be refused, `BUDGET` at most, and how many in a row were held back."""

    __slots__ = ("_at", "held_back", "left")

    def __init__(self, now: float) -> None:
        self.left, self.held_back = BUDGET, 0
        self._at = now

    def wait_until(self, now: float) -> None:
        self.left = min(BUDGET, self.left + TRICKLE * max(0.0, now - self._at))
        self._at = now

    @property
    def pause_s(self) -> float:
        """Seconds until waiting alone earns a whole request."""
        return max(0.0, 1 - self.left) / TRICKLE


def _held_back(url: str, model: str) -> Overloaded:
    error = Overloaded(
        f"{url} has refused what this client has just asked of {model}, because its queue is full; this request was "
        "held back, and not sent. Try again after a pause, or send fewer at once."
    )
    error.transient = True
    return error
