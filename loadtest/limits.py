"""What makes a load test fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .figures import percentile


@dataclass(frozen=True)
class Limits:
    """The most that a run may show.

    Attributes:
        failure_ratio: Failed calls over all calls.
        p95_ms: 95th percentile of the latency of each kind of call that was answered, in milliseconds; None: any.
    """

    failure_ratio: float = 0.0
    p95_ms: float | None = None

    def broken(self, stats: Any, answered_ms: Mapping[str, Counter[int]]) -> list[str]:
        """What is over a limit, in sentences; empty if all is well.

        Args:
            stats: Locust's statistics. Their times are also those of failed calls, of which the quick ones, such as
                refusals, would hide slow answers.
            answered_ms: By kind of call, how many answers took so many milliseconds.
        """
        total = stats.total
        if total.num_requests == 0:
            return ["no call was made"]
        found = []
        if total.fail_ratio > self.failure_ratio:
            found.append(f"{total.fail_ratio:.2%} of the calls failed; at most {self.failure_ratio:.2%} may")
        if self.p95_ms is None:
            return found
        for name, times in answered_ms.items():
            p95 = percentile(list(times.elements()), 95)
            if p95 > self.p95_ms:
                found.append(f"{name}: 95 % took up to {p95:.0f} ms; at most {self.p95_ms:.0f} ms may")
        return found
