"""What makes a load test fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Limits:
    """The most that a run may show.

    Attributes:
        failure_ratio: Failed calls over all calls.
        p95_ms: 95th percentile of the latency of each kind of call, in milliseconds; None: any.
    """

    failure_ratio: float = 0.0
    p95_ms: float | None = None

    def broken(self, stats: Any) -> list[str]:
        """What is over a limit in Locust's statistics, in sentences; empty if all is well."""
        total = stats.total
        if total.num_requests == 0:
            return ["no call was made"]
        found = []
        if total.fail_ratio > self.failure_ratio:
            found.append(f"{total.fail_ratio:.2%} of the calls failed; at most {self.failure_ratio:.2%} may")
        for entry in stats.entries.values():
            p95 = entry.get_response_time_percentile(0.95)
            if self.p95_ms is not None and p95 is not None and p95 > self.p95_ms:
                found.append(f"{entry.name}: 95 % took up to {p95:.0f} ms; at most {self.p95_ms:.0f} ms may")
        return found
