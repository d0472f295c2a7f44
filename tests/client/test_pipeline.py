from __future__ import annotations

import io
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from densescan import _pipeline
from densescan._pipeline import AHEAD, run_many
from densescan.errors import ClientClosed, InvalidImage, Overloaded


def test_results_come_in_order_even_when_the_first_is_the_slowest() -> None:
    def work(item: int) -> int:
        time.sleep(0.02 if item == 0 else 0)
        return item * 10

    assert list(run_many(work, range(20), 4)) == [item * 10 for item in range(20)]


@pytest.mark.parametrize("items", ["films", Path("films"), b"\xff\xd8", bytearray(b"\xff\xd8"), io.BytesIO()])
def test_a_single_picture_is_not_taken_for_several(items: Any) -> None:
    with pytest.raises(TypeError, match="pass several in a list"):
        run_many(lambda item: item, items, 4)


def test_a_single_array_is_not_taken_for_its_rows() -> None:
    with pytest.raises(TypeError, match=r"\[n, height, width\]"):
        run_many(lambda item: item, np.zeros((64, 64), np.uint8), 4)


def test_a_dicom_dataset_is_not_taken_for_its_elements() -> None:
    dataset = pytest.importorskip("pydicom").Dataset()
    with pytest.raises(TypeError, match=r"densescan\.frames"):
        run_many(lambda item: item, dataset, 4)


def test_an_error_takes_the_place_of_its_own_item_only() -> None:
    def work(item: int) -> int:
        if item == 1:
            raise InvalidImage("b.png", "is empty")
        return item

    first, second, third = run_many(work, range(3), 2)
    assert (first, third) == (0, 2)
    assert isinstance(second, InvalidImage)


@pytest.mark.parametrize(("ordered", "ahead"), [(True, AHEAD * 3), (False, 3)])
def test_endless_items_are_taken_only_as_far_as_needed(ordered: bool, ahead: int) -> None:
    hold, taken = threading.Event(), 0

    def items() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            if taken == ahead:
                threading.Timer(0.2, hold.set).start()  # time to take too many
            yield taken - 1

    def work(item: int) -> int:
        hold.wait(10)
        return item

    results = run_many(work, items(), 3, ordered=ordered)
    assert next(results) in ([0] if ordered else [0, 1, 2])
    assert taken == ahead
    results.close()  # type: ignore[attr-defined]


def test_a_slow_item_does_not_stop_the_others() -> None:
    hold, others = threading.Event(), itertools.count(1)

    def work(item: int) -> int:
        if item == 0:
            assert hold.wait(10), "the others wait for it"
        elif next(others) == AHEAD * 2 - 1:  # all that may be taken ahead have been worked on
            hold.set()
        return item

    assert list(run_many(work, range(20), 2)) == list(range(20))


@pytest.mark.parametrize("ordered", [True, False])
def test_a_result_waits_for_no_more_than_the_next_item(ordered: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Future[Any]] = []
    submit: Callable[..., Any] = _pipeline._submit
    hold, taken = threading.Event(), 0

    def watched(*arguments: Any) -> Any:
        begun.append(submit(*arguments))
        return begun[-1]

    def items() -> Iterator[int]:
        nonlocal taken
        for item in range(3):
            taken += 1
            yield item
            wait(begun[:1], 10)  # until the first is done, which can then be handed out

    def work(item: int) -> int:
        if item > 0:
            hold.wait(10)
        return item

    monkeypatch.setattr(_pipeline, "_submit", watched)
    results = run_many(work, items(), 4, ordered=ordered)
    assert next(results) == 0
    assert taken <= 2
    hold.set()
    assert sorted(results) == [1, 2]


def test_no_more_than_in_flight_run_at_once() -> None:
    lock, running, most = threading.Lock(), 0, 0
    together = threading.Barrier(3, timeout=10)

    def work(item: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        if item < 3:
            together.wait()
        time.sleep(0.005)
        with lock:
            running -= 1
        return item

    assert len(list(run_many(work, range(20), 3))) == 20
    assert most == 3


def test_as_completed_the_slowest_comes_last() -> None:
    hold, others = threading.Event(), itertools.count(1)

    def work(item: int) -> int:
        if item == 0:
            hold.wait(10)
        elif next(others) == 7:
            hold.set()
        return item

    done = list(run_many(work, range(8), 3, ordered=False))
    assert sorted(done) == list(range(8))
    assert done.index(0) >= 5  # two of the others may still have been under way


def test_as_completed_takes_no_more_than_in_flight_ahead_and_names_the_item_that_failed() -> None:
    def work(item: int) -> int:
        if item == 1:
            raise Overloaded("full")
        return item

    taken = itertools.count()
    results = run_many(work, taken, 3, ordered=False)
    count, errors, end = 0, [], time.monotonic() + 10
    for count, outcome in enumerate(results, 1):
        if isinstance(outcome, Overloaded):
            errors.append(outcome)
        if (errors and count >= 6) or time.monotonic() > end:
            break
    assert next(taken) <= count + 3
    (error,) = errors
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


@pytest.mark.parametrize("in_flight", [0, -1])
def test_a_wrong_in_flight_is_refused_at_the_call(in_flight: int) -> None:
    with pytest.raises(ValueError, match="in_flight"):
        run_many(lambda item: item, [1], in_flight)


def test_nothing_in_nothing_out() -> None:
    empty: list[int] = []
    assert list(run_many(lambda item: item, empty, 4)) == []


@pytest.mark.parametrize("ordered", [True, False])
def test_an_error_that_names_its_source_already_keeps_that_name(ordered: bool) -> None:
    """The page of a file says more than the file."""

    def work(item: str) -> str:
        raise InvalidImage(f"{item}#3", "is empty")

    (error,) = run_many(work, ["scan.tif"], 2, ordered=ordered)
    assert isinstance(error, InvalidImage)
    assert error.source == "scan.tif#3"


@pytest.mark.parametrize("ordered", [True, False])
def test_leaving_early_waits_for_nothing_and_begins_nothing_more(ordered: bool) -> None:
    begun: list[int] = []
    several, hold = threading.Event(), threading.Event()

    def work(item: int) -> int:
        begun.append(item)
        if item == 0:
            assert several.wait(10)  # until all that may be taken ahead have been
        else:
            hold.wait(10)
        return item

    def items() -> Iterator[int]:
        for item in itertools.count():
            if item == (AHEAD * 2 - 1 if ordered else 1):
                several.set()
            yield item

    results = run_many(work, items(), 2, ordered=ordered)
    assert next(results) == 0
    start = time.monotonic()
    results.close()  # type: ignore[attr-defined]
    assert time.monotonic() - start < 5, "it waited for what is under way"
    hold.set()
    time.sleep(0.1)
    assert len(begun) <= 3, "what had not begun was not dropped"
