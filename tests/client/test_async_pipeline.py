from __future__ import annotations

import asyncio
from typing import Any

import pytest

from densescan._async_pipeline import run_many


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
        outcomes = run_many(work, range(100), 4, ordered=ordered)
        async for outcome in outcomes:
            assert outcome == 0
            break
        await outcomes.aclose()  # type: ignore[attr-defined]

    asyncio.run(asyncio.wait_for(main(), 10))
    assert 1 <= len(cancelled) <= 4
