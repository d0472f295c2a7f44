"""Arithmetic of measurements. No I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


def percentile(samples: Sequence[float], percent: float) -> float:
    """The smallest sample that `percent` of all samples do not exceed: one that occurred, never a mean of two.

    Raises:
        ValueError: There are no samples, or `percent` is not within 0 and 100.
    """
    if not samples:
        raise ValueError("there are no samples")
    if not 0 <= percent <= 100:
        raise ValueError(f"percent is {percent}; expected 0 to 100")
    # Rounded, because 99.9 / 100 * 1000 is 999.0000000000001.
    rank = math.ceil(round(percent / 100 * len(samples), 9))
    return sorted(samples)[max(rank, 1) - 1]


def median(samples: Sequence[float]) -> float:
    """The middle sample, the lower one of two."""
    return percentile(samples, 50)


@dataclass(frozen=True)
class Spread:
    """A quantity that was measured several times: its median and the middle half of the samples."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        """The median and the quartiles of `samples`."""
        return cls(median(samples), percentile(samples, 25), percentile(samples, 75))

    def __format__(self, spec: str) -> str:
        return f"{self.median:{spec}} ({self.low:{spec}} to {self.high:{spec}})"


@dataclass(frozen=True)
class Latency:
    """Durations of many calls, in milliseconds."""

    count: int
    median: float
    p90: float
    p95: float
    p99: float
    worst: float
    low: float
    high: float

    @classmethod
    def of_seconds(cls, samples: Sequence[float]) -> Latency:
        """From durations in seconds; `low` and `high` are the quartiles."""
        ms = sorted(1000 * sample for sample in samples)
        marks = {name: percentile(ms, at) for name, at in (("p90", 90), ("p95", 95), ("p99", 99))}
        return cls(len(ms), median(ms), **marks, worst=ms[-1], low=percentile(ms, 25), high=percentile(ms, 75))


def mean_batch(executed: Mapping[int, int]) -> float:
    """Mean size of the executed batches, from a number of executions for each size; 0 without any."""
    executions = sum(executed.values())
    return sum(size * count for size, count in executed.items()) / executions if executions else 0.0


def difference(after: Mapping[int, int], before: Mapping[int, int]) -> dict[int, int]:
    """Executions of each batch size between two readings of Triton's counters, ascending by size."""
    counts = {size: count - before.get(size, 0) for size, count in after.items()}
    return {size: count for size, count in sorted(counts.items()) if count}
