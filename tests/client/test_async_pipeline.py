from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import pytest

from densescan._async_pipeline import run_many
from densescan._pipeline import AHEAD


@pytest.mark.parametrize("ordered", [True, False])
def test_no_more_than_in_flight_run_at_once(ordered: bool) -> None:
    running = most = 0

    async def work(item: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001 * (item % 5))
        running -= 1
        return item

    async def main() -> list[Any]:
        return [outcome async for outcome in run_many(work, range(40), 3, ordered=ordered)]

    assert sorted(asyncio.run(main())) == list(range(40))
    assert most == 3


@pytest.mark.parametrize("ordered", [True, False])
def test_leaving_early_cancels_what_runs(ordered: bool) -> None:
    cancelled: list[int] = []

    async def work(item: int) -> int:
        try:
            await asyncio.sleep(0 if item == 0 else 30)
        except asyncio.CancelledError:
            cancelled.append(item)
            raise
        return item

    async def main() -> None:
        outcomes = run_many(work, list(range(100)), 4, ordered=ordered)
        async for outcome in outcomes:
            assert outcome == 0
            break
        await outcomes.aclose()  # type: ignore[attr-defined]

    asyncio.run(asyncio.wait_for(main(), 10))
    assert 1 <= len(cancelled) <= 4


async def identity(item: int) -> int:
    return item


def broken_off() -> Iterator[int]:
    yield from range(5)
    raise OSError("the list of files broke off")


async def broken_off_async() -> AsyncIterator[int]:
    for item in range(5):
        yield item
    raise OSError("the list of files broke off")


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("items", [broken_off, broken_off_async])
def test_an_error_of_the_items_themselves_is_raised_behind_the_results_of_those_before(
    items: Callable[[], Any], ordered: bool
) -> None:
    got: list[Any] = []

    async def work(item: int) -> int:
        await asyncio.sleep(0.02)
        return item

    async def main() -> None:
        async for outcome in run_many(work, items(), 8, ordered=ordered):
            got.append(outcome)

    with pytest.raises(OSError, match="broke off"):
        asyncio.run(main())
    assert sorted(got) == list(range(5))


@pytest.mark.parametrize("ordered", [True, False])
def test_a_result_does_not_wait_for_an_item_that_comes_late(ordered: bool) -> None:
    """Here, for one that comes only after the result of the one before."""
    handed_out: list[int] = []

    async def main() -> None:
        given = asyncio.Event()

        async def items() -> AsyncIterator[int]:
            for item in range(3):
                yield item
                await asyncio.wait_for(given.wait(), 5)
                given.clear()

        async for outcome in run_many(identity, items(), 8, ordered=ordered):
            handed_out.append(outcome)
            given.set()

    asyncio.run(main())
    assert handed_out == [0, 1, 2]


@pytest.mark.parametrize("ordered", [True, False])
def test_endless_items_are_taken_only_as_far_as_needed(ordered: bool) -> None:
    taken = 0

    async def items() -> AsyncIterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    async def main() -> None:
        outcomes = run_many(identity, items(), 3, ordered=ordered)
        async for _ in outcomes:
            await asyncio.sleep(0.05)
            break
        await outcomes.aclose()  # type: ignore[attr-defined]

    asyncio.run(main())
    assert taken == (AHEAD if ordered else 1) * 3


def test_a_plain_iterator_is_advanced_beside_the_loop_and_a_list_is_not() -> None:
    """It may decode, as `frames` does."""
    threads: set[int] = set()
    beats = 0

    def items() -> Iterator[int]:
        for item in range(3):
            threads.add(threading.get_ident())
            enough, end = beats + 3, time.monotonic() + 10
            while beats < enough:
                assert time.monotonic() < end, "the loop stands still meanwhile"
                time.sleep(0.001)
            yield item

    async def main() -> None:
        async def beat() -> None:
            nonlocal beats
            while True:
                beats += 1
                await asyncio.sleep(0.001)

        beating = asyncio.ensure_future(beat())
        assert [outcome async for outcome in run_many(identity, items(), 2)] == [0, 1, 2]
        assert [outcome async for outcome in run_many(identity, [0, 1, 2], 2)] == [0, 1, 2]
        beating.cancel()

    asyncio.run(main())
    assert threading.get_ident() not in threads


def test_an_iterator_that_waits_holds_no_thread_in_which_others_decode() -> None:
    given = threading.Event()
    begun = threading.Semaphore(0)

    def waiting() -> Iterator[int]:
        begun.release()
        given.wait(30)
        yield 1

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        streams = [asyncio.ensure_future(anext(aiter(run_many(identity, waiting(), 2)))) for _ in range(3)]
        try:
            for _ in streams:
                assert await loop.run_in_executor(None, begun.acquire, True, 10)
            assert await asyncio.wait_for(asyncio.to_thread(lambda: "decoded"), 10) == "decoded"
        finally:
            given.set()
        assert await asyncio.gather(*streams) == [1, 1, 1]

    asyncio.run(main())


@pytest.mark.parametrize("waits_for", ["an item", "room"])
def test_leaving_early_ends_an_asynchronous_generator(waits_for: str) -> None:
    ended = False

    async def items() -> AsyncIterator[int]:
        nonlocal ended
        try:
            for item in range(100):
                yield item
                if waits_for == "an item":
                    await asyncio.Event().wait()
        finally:
            ended = True

    async def main() -> None:
        held = items()  # or its end would be that of the last reference
        outcomes = run_many(identity, held, 2)
        async for _ in outcomes:
            await asyncio.sleep(0.05)
            break
        await outcomes.aclose()  # type: ignore[attr-defined]
        assert ended

    asyncio.run(main())


def test_the_thread_of_an_iterator_ends_with_its_stream() -> None:
    def items() -> Iterator[int]:
        yield from range(100)

    async def main() -> None:
        before = threading.active_count()
        outcomes = run_many(identity, items(), 2)
        async for _ in outcomes:
            break
        await outcomes.aclose()  # type: ignore[attr-defined]
        for _ in range(1000):
            if threading.active_count() <= before:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(threading.enumerate())

    asyncio.run(main())


def test_an_iterator_may_set_a_context_variable_in_one_step_and_reset_it_in_another() -> None:
    """As a tracer does that opens a span around all of them."""
    span: ContextVar[str] = ContextVar("span", default="none")

    def items() -> Iterator[int]:
        token = span.set("open")
        yield from range(3)
        span.reset(token)

    async def work(item: int) -> int:
        return item

    async def main() -> list[Any]:
        return [outcome async for outcome in run_many(work, items(), 2)]

    assert asyncio.run(main()) == [0, 1, 2]
