from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.figures import Latency, Spread, difference, mean_batch, median, percentile

numbers = st.lists(st.floats(0, 1e6), min_size=1, max_size=300)


@given(numbers, st.floats(0, 100))
def test_a_percentile_is_the_smallest_sample_that_so_many_do_not_exceed(samples: list[float], percent: float) -> None:
    found = percentile(samples, percent)
    assert found in samples
    not_above = sum(sample <= found for sample in samples)
    assert not_above >= math.floor(percent / 100 * len(samples))
    below = sum(sample < found for sample in samples)
    assert below <= percent / 100 * len(samples)


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 1), (1, 1), (50, 50), (50.1, 51), (95, 95), (99, 99), (99.9, 100), (100, 100)]
)
def test_percentiles_of_one_to_a_hundred(percent: float, expected: int) -> None:
    assert percentile(list(range(100, 0, -1)), percent) == expected


def test_a_rank_is_not_pushed_up_by_rounding() -> None:
    assert 99.9 / 100 * 1000 > 999  # what a computer makes of it
    assert percentile(list(range(1, 1001)), 99.9) == 999


@pytest.mark.parametrize(("samples", "percent"), [([], 50), ([1.0], -1), ([1.0], 101)])
def test_no_samples_and_impossible_percentages_are_refused(samples: list[float], percent: float) -> None:
    with pytest.raises(ValueError, match=r"samples|percent"):
        percentile(samples, percent)


def test_latency_turns_seconds_into_milliseconds_in_order() -> None:
    latency = Latency.of_seconds([0.003, 0.001, 0.002, 0.010])
    assert (latency.count, latency.median, latency.worst) == (4, 2.0, 10.0)
    assert latency.low <= latency.median <= latency.high <= latency.p90 <= latency.p95 <= latency.p99 <= latency.worst


def test_a_spread_is_written_with_its_quartiles() -> None:
    assert f"{Spread.of([1, 2, 3, 4]):.1f}" == "2.0 (1.0 to 3.0)"


def test_the_median_is_a_sample() -> None:
    assert median([4, 1, 3, 2]) == 2


def test_executions_between_two_readings_of_the_counters() -> None:
    assert difference({8: 3, 1: 12, 2: 5}, {1: 10, 2: 5}) == {1: 2, 8: 3}


def test_the_mean_batch_weighs_each_size_by_its_executions() -> None:
    assert mean_batch({1: 2, 8: 3}) == pytest.approx(26 / 5)
    assert mean_batch({}) == 0
