"""Work on many items at once and hand the results out in order, holding only a few."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from .errors import ClientClosed, DensescanError

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_in_order(
    work: Callable[[Item], Result], items: Iterable[Item], in_flight: int
) -> Iterator[Result | DensescanError]:
    """Yield ``work(item)`` for each item in order, with at most `in_flight` items taken ahead.

    A `DensescanError` that `work` raises is yielded in the item's place; any other error, and
    `ClientClosed`, which every later item would meet as well, is raised.

    Raises:
        ValueError: `in_flight` is below 1; at the call, not at the first item.
    """
    if in_flight < 1:
        raise ValueError(f"in_flight is {in_flight}; expected 1 or more")
    return _run(work, items, in_flight)


def _run(work: Callable[[Item], Result], items: Iterable[Item], in_flight: int) -> Iterator[Result | DensescanError]:
    waiting: deque[Future[Result | DensescanError]] = deque()
    pool = ThreadPoolExecutor(in_flight, thread_name_prefix="densescan")
    try:
        for item in items:
            waiting.append(pool.submit(_outcome, work, item))
            if len(waiting) == in_flight:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # The caller may stop early: what has not begun is dropped, what has ends by its deadline.
        pool.shutdown(wait=False, cancel_futures=True)


def _outcome(work: Callable[[Item], Result], item: Item) -> Result | DensescanError:
    try:
        return work(item)
    except ClientClosed:
        raise
    except DensescanError as error:
        return error
