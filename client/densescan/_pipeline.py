"""Work on many items at once and hand the results out, holding only a few."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import Final, TypeVar

from .dicom import is_dataset
from .errors import ClientClosed, DensescanError
from .images import describe

AHEAD: Final = 3
"""How far items are taken ahead of the result that is handed out, as a multiple of `in_flight`, so that one slow item
does not leave the threads idle (head-of-line blocking). Only items and results are held, no decoded pictures."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_many(
    work: Callable[[Item], Result], items: Iterable[Item], in_flight: int, *, ordered: bool = True
) -> Iterator[Result | DensescanError]:
    """Yield ``work(item)`` for each item, with at most ``AHEAD * in_flight`` items taken ahead.

    A `DensescanError` that `work` raises is yielded in the item's place, with the item's name as
    its `source`; any other error, and `ClientClosed`, which every later item would meet as well, is
    raised. An error of `items` is raised after the results of those that came before it.

    Args:
        work: What to do with one item, in a thread.
        items: Taken as they are needed.
        in_flight: How many are worked on at once.
        ordered: Yield in the order of the items, and not each as soon as it is done and the next item there.

    Raises:
        TypeError: `items` is a single picture; at the call, not at the first item.
        ValueError: `in_flight` is below 1.
    """
    check_many(items, in_flight)
    return (_in_order if ordered else _as_completed)(work, items, in_flight)


def check_many(items: object, in_flight: int) -> None:
    """TypeError if `items` is a single picture, which may be iterable as well; ValueError if `in_flight` is below 1."""
    if isinstance(items, (str, bytes, bytearray, memoryview, os.PathLike)) or hasattr(items, "read"):
        raise TypeError(
            "images is one path or one file: pass several in a list, such as sorted(Path('films').glob('*.png'))"
        )
    if getattr(items, "ndim", None) == 2:
        raise TypeError("images is one picture: pass several in a list, or as an array [n, height, width]")
    if is_dataset(items):
        raise TypeError("images is one DICOM dataset: pass densescan.frames(dataset)")
    if in_flight < 1:
        raise ValueError(f"in_flight is {in_flight}; expected 1 or more")


def spoils_only(error: DensescanError, item: object) -> DensescanError:
    """The error of one item among many, named after it; raised if the others would meet it as well."""
    if isinstance(error, ClientClosed):
        raise error
    if error.source is None:
        error.source = describe(item)
    return error


def _in_order(
    work: Callable[[Item], Result], items: Iterable[Item], in_flight: int
) -> Iterator[Result | DensescanError]:
    waiting: deque[Future[Result | DensescanError]] = deque()
    errors: list[Exception] = []
    pool = ThreadPoolExecutor(in_flight, thread_name_prefix="densescan")
    try:
        for item in _until_an_error(items, errors):
            waiting.append(_submit(pool, work, item))
            while waiting and (waiting[0].done() or len(waiting) == AHEAD * in_flight):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        if errors:
            raise errors[0]
    finally:
        # The caller may stop early: what has not begun is dropped, what has ends by its deadline.
        pool.shutdown(wait=False, cancel_futures=True)


def _as_completed(
    work: Callable[[Item], Result], items: Iterable[Item], in_flight: int
) -> Iterator[Result | DensescanError]:
    running: set[Future[Result | DensescanError]] = set()
    errors: list[Exception] = []
    pool = ThreadPoolExecutor(in_flight, thread_name_prefix="densescan")
    try:
        for item in _until_an_error(items, errors):
            running.add(_submit(pool, work, item))
            longest = None if len(running) == in_flight else 0
            done, running = wait(running, longest, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
        if errors:
            raise errors[0]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _until_an_error(items: Iterable[Item], errors: list[Exception]) -> Iterator[Item]:
    """The items; what taking one raises is appended, to be raised once the results of the others are handed out."""
    try:
        # `yield from` would close a generator of the caller's together with this one.
        for item in items:  # noqa: UP028
            yield item
    except Exception as error:
        errors.append(error)


def _submit(pool: ThreadPoolExecutor, work: Callable[[Item], Result], item: Item) -> Future[Result | DensescanError]:
    """With the caller's context variables: a trace or a token that is kept in one goes along."""
    return pool.submit(copy_context().run, _outcome, work, item)


def _outcome(work: Callable[[Item], Result], item: Item) -> Result | DensescanError:
    try:
        return work(item)
    except DensescanError as error:
        return spoils_only(error, item)
