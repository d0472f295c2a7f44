"""`_pipeline` for tasks of an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from contextvars import copy_context
from typing import Any, Final, TypeVar

from ._pipeline import AHEAD, spoils_only
from .errors import DensescanError

Item = TypeVar("Item")
Result = TypeVar("Result")

_END: Final[Any] = object()


async def run_many(
    work: Callable[[Item], Awaitable[Result]],
    items: Iterable[Item] | AsyncIterable[Item],
    in_flight: int,
    *,
    ordered: bool = True,
) -> AsyncIterator[Result | DensescanError]:
    """Yield ``await work(item)`` for each item, as `densescan._pipeline.run_many` does; leaving early cancels.

    Items are taken while results are awaited, so that a result does not wait for an item that comes late.
    """
    places = asyncio.Semaphore(in_flight)
    ahead = asyncio.Semaphore((AHEAD if ordered else 1) * in_flight)
    running: set[asyncio.Task[Result | DensescanError]] = set()
    # Those to be handed out next, and None for the end of the items.
    due: asyncio.Queue[asyncio.Task[Result | DensescanError] | None] = asyncio.Queue()

    async def start_each() -> None:
        await ahead.acquire()
        async with aclosing(_each(items)) as each:
            async for item in each:
                task = asyncio.ensure_future(_outcome(work, item, places))
                running.add(task)
                if ordered:
                    due.put_nowait(task)
                else:
                    task.add_done_callback(due.put_nowait)
                await ahead.acquire()

    starting = asyncio.ensure_future(start_each())
    starting.add_done_callback(lambda _: due.put_nowait(None))
    try:
        while running or not starting.done():
            task = await due.get()
            if task is not None:
                yield await task
                running.remove(task)
                ahead.release()
        await starting  # raises what taking an item has raised
    finally:
        for unfinished in (starting, *running):
            unfinished.cancel()
        await asyncio.gather(starting, *running, return_exceptions=True)


async def _each(items: Iterable[Item] | AsyncIterable[Item]) -> AsyncGenerator[Item, None]:
    if isinstance(items, AsyncIterable):
        try:
            async for item in items:
                yield item
        finally:  # cancelled while it is asked for an item it would end; so it always does
            if isinstance(items, AsyncGenerator):
                await items.aclose()
    elif isinstance(items, (list, tuple)):
        for item in items:
            yield item
    else:  # the next of `frames` is decoded when it is taken: in a thread, so that the loop stays free
        iterator, loop = iter(items), asyncio.get_running_loop()
        context = copy_context()  # one for all steps: what a generator sets in one of them it resets in another
        # Of its own: an iterator that waits for its next item must not hold a thread that others decode in.
        thread = ThreadPoolExecutor(1, thread_name_prefix="densescan")
        try:
            while (item := await loop.run_in_executor(thread, lambda: context.run(next, iterator, _END))) is not _END:
                yield item
        finally:
            thread.shutdown(wait=False)


async def _outcome(
    work: Callable[[Item], Awaitable[Result]], item: Item, places: asyncio.Semaphore
) -> Result | DensescanError:
    async with places:
        try:
            return await work(item)
        except DensescanError as error:
            return spoils_only(error, item)
