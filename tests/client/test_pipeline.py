from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar

import pytest

from densescan._pipeline import AHEAD, run_many
from densescan.errors import ClientClosed, InvalidImage, Overloaded


def test_results_come_in_order_even_when_the_first_is_the_slowest() -> None:
    def work(item: int) -> int:
        time.sleep(0.02 if item == 0 else 0)
        return item * 10

    assert list(run_many(work, range(20), 4)) == [item * 10 for item in range(20)]


def test_an_error_takes_the_place_of_its_own_item_only() -> None:
    def work(item: int) -> int:
        if item == 1:
            raise InvalidImage("b.png", "is empty")
        return item

    first, second, third = run_many(work, range(3), 2)
    assert (first, third) == (0, 2)
    assert isinstance(second, InvalidImage)


def test_endless_items_are_taken_only_as_far_as_needed() -> None:
    hold = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            hold.wait(5)
        return item

    taken = itertools.count()
    results = run_many(work, taken, 3)
    threading.Timer(0.2, hold.set).start()
    assert next(results) == 0
    assert next(taken) == AHEAD * 3
    results.close()  # type: ignore[attr-defined]


def test_a_slow_item_does_not_stop_the_others() -> None:
    hold, others = threading.Event(), threading.Barrier(AHEAD * 2, timeout=5)

    def work(item: int) -> int:
        if item == 0:
            hold.wait(5)
        elif item < AHEAD * 2:
            threading.Thread(target=others.wait, daemon=True).start()
        return item

    def release() -> None:
        others.wait()  # until all that may be taken ahead have been worked on
        hold.set()

    threading.Thread(target=release, daemon=True).start()
    assert list(run_many(work, range(20), 2)) == list(range(20))


def test_the_first_result_does_not_wait_for_items_that_come_late() -> None:
    def items() -> Iterator[int]:
        yield 0
        yield 1
        time.sleep(0.05)
        yield 2
        raise OSError("no more")

    results = run_many(lambda item: item, items(), 4)
    assert next(results) == 0


def test_no_more_than_in_flight_run_at_once() -> None:
    lock, running, most = threading.Lock(), 0, 0

    def work(item: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.005)
        with lock:
            running -= 1
        return item

    assert len(list(run_many(work, range(20), 3))) == 20
    assert most == 3


def test_as_completed_the_slowest_comes_last() -> None:
    def work(item: int) -> int:
        time.sleep(0.1 if item == 0 else 0)
        return item

    done = list(run_many(work, range(8), 3, ordered=False))
    assert sorted(done) == list(range(8))
    assert done.index(0) > 2


def test_as_completed_takes_no_more_than_in_flight_ahead_and_names_the_item_that_failed() -> None:
    def work(item: int) -> int:
        if item == 1:
            raise Overloaded("full")
        return item

    taken = itertools.count()
    results = run_many(work, taken, 3, ordered=False)
    outcomes = [next(results) for _ in range(6)]
    assert next(taken) <= 6 + 3
    (error,) = (outcome for outcome in outcomes if isinstance(outcome, Overloaded))
    assert error.source == "<int>"
    results.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("error", [ClientClosed("closed"), TypeError("a bug"), MemoryError()])
def test_what_is_not_one_items_fault_is_raised(error: Exception) -> None:
    def work(item: int) -> int:
        raise error

    for ordered in (True, False):
        with pytest.raises(type(error)):
            list(run_many(work, range(3), 2, ordered=ordered))


@pytest.mark.parametrize("ordered", [True, False])
def test_context_variables_of_the_caller_are_those_of_the_work(ordered: bool) -> None:
    """A trace or a token lives in one."""
    variable: ContextVar[str] = ContextVar("variable", default="nobody's")
    variable.set("the caller's")
    outcomes = run_many(lambda item: variable.get(), range(4), 2, ordered=ordered)
    assert list(outcomes) == ["the caller's"] * 4


def test_stopping_early_drops_what_has_not_begun() -> None:
    begun: list[int] = []
    hold = threading.Event()

    def work(item: int) -> int:
        begun.append(item)
        if item:
            hold.wait(5)
        return item

    results = run_many(work, range(100), 2)
    next(results)
    results.close()  # type: ignore[attr-defined]
    hold.set()
    time.sleep(0.05)
    assert len(begun) <= 4


@pytest.mark.parametrize("ordered", [True, False])
def test_an_error_of_the_items_themselves_is_raised_behind_the_results_of_those_before(ordered: bool) -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise OSError("the list of files broke off")

    def work(item: int) -> int:
        time.sleep(0.02)
        return item

    outcomes = run_many(work, items(), 8, ordered=ordered)
    assert sorted(itertools.islice(outcomes, 5)) == list(range(5))
    with pytest.raises(OSError, match="broke off"):
        next(outcomes)


@pytest.mark.parametrize("ordered", [True, False])
def test_leaving_early_leaves_the_items_to_their_owner(ordered: bool) -> None:
    items = (number for number in range(100))
    outcomes = run_many(lambda item: item, items, 2, ordered=ordered)
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    assert next(items) <= AHEAD * 2


def test_as_completed_a_result_waits_for_no_more_than_the_next_item() -> None:
    done = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        assert done.wait(5)
        time.sleep(0.05)  # until it is handed over
        yield 1
        raise AssertionError("nobody has asked for a third")

    def work(item: int) -> int:
        if item == 0:
            done.set()
        else:
            time.sleep(0.5)
        return item

    assert next(run_many(work, items(), 4, ordered=False)) == 0


@pytest.mark.parametrize("in_flight", [0, -1])
def test_a_wrong_in_flight_is_refused_at_the_call(in_flight: int) -> None:
    with pytest.raises(ValueError, match="in_flight"):
        run_many(lambda item: item, [1], in_flight)


def test_nothing_in_nothing_out() -> None:
    empty: list[int] = []
    assert list(run_many(lambda item: item, empty, 4)) == []
