"""`_pipeline` for tasks of an event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import TypeVar

from ._pipeline import AHEAD, spoils_only
from .errors import DensescanError

Item = TypeVar("Item")
Result = TypeVar("Result")


async def run_many(
    work: Callable[[Item], Awaitable[Result]],
    items: Iterable[Item] | AsyncIterable[Item],
    in_flight: int,
    *,
    ordered: bool = True,
) -> AsyncIterator[Result | DensescanError]:
    """Yield ``await work(item)`` for each item, as `densescan._pipeline.run_many` does; leaving early cancels."""
    running: deque[asyncio.Task[Result | DensescanError]] = deque()
    places = asyncio.Semaphore(in_flight)
    ahead = (AHEAD if ordered else 1) * in_flight
    try:
        async for item in _each(items):
            running.append(asyncio.ensure_future(_outcome(work, item, places)))
            while running and ((ordered and running[0].done()) or len(running) == ahead):
                yield await _next(running, ordered)
        while running:
            yield await _next(running, ordered)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _next(running: deque[asyncio.Task[Result]], ordered: bool) -> Result:
    """The outcome of the first task, or of the first that is done; it is taken out."""
    if ordered:
        done = running[0]
    else:
        finished, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        done = next(task for task in running if task in finished)
    try:
        return await done
    finally:
        if done.done():
            running.remove(done)


async def _each(items: Iterable[Item] | AsyncIterable[Item]) -> AsyncIterator[Item]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


async def _outcome(
    work: Callable[[Item], Awaitable[Result]], item: Item, places: asyncio.Semaphore
) -> Result | DensescanError:
    async with places:
        try:
            return await work(item)
        except DensescanError as error:
            return spoils_only(error, item)
