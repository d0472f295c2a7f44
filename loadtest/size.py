"""How many servers a load needs, from a benchmark's JSON.

python -m loadtest.size --per-second 500 --p95-ms 100                from runs/bench.json
python -m loadtest.size --per-second 500 --p95-ms 100 --spare 2      with two servers that may fail

A server is what the benchmark ran on. Its capacity for a limit of latency is the highest rate, among those that were
sent by the clock and answered in full, at which the limit was kept: between the rates that were measured nothing is
guessed. Callers elsewhere leave the server the processor time that the benchmark's own callers took from it, so that
the answer is on the safe side.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from .console import err, out, run
from .machine import Machine


@dataclass(frozen=True)
class Size:
    """What a load needs.

    Attributes:
        servers: Servers, those to spare included.
        per_server: Requests a second that one of them is given when all are up.
        capacity: Requests a second at which one was seen to keep the limit.
        p95_ms: 95th percentile of the latency that was seen there, in milliseconds.
        cores: Cores of all servers together.
        memory_mb: Memory of one server, in MB.
    """

    servers: int
    per_server: float
    capacity: float
    p95_ms: float
    cores: int
    memory_mb: float


def capacity(report: Mapping[str, Any], p95_ms: float) -> tuple[float, float]:
    """The highest rate at which a limit was kept, and the 95th percentile there.

    Raises:
        ValueError: It was kept at none of the measured rates; the message says what was seen at the lowest.
    """
    kept = []
    for share, point in report["open"].items():
        ms = point["latency_ms"]
        if ms and not point["failures"] and ms["p95"] <= p95_ms:
            kept.append((float(share) * report["capacity"], ms["p95"]))
    # Above the rate of the closed loop the queue only grows: what was kept there was kept for want of time.
    kept = [(rate, seen) for rate, seen in kept if rate <= report["capacity"]]
    if not kept:
        share = min(report["open"], key=float)
        seen = (report["open"][share]["latency_ms"] or {}).get("p95", math.inf)
        raise ValueError(
            f"{p95_ms:g} ms were not kept at any measured rate: at {float(share) * report['capacity']:.0f} requests "
            f"a second 95 % took up to {seen:.0f} ms; allow more, or take a faster machine"
        )
    return max(kept)


def size(report: Mapping[str, Any], per_second: float, p95_ms: float, spare: int = 0) -> Size:
    """The servers for a load, so many that it is carried even with `spare` of them gone.

    Raises:
        ValueError: The limit cannot be kept, or the load is not positive.
    """
    if not 0 < per_second < math.inf:
        raise ValueError(f"the load is {per_second}; expected a positive number of requests a second")
    rate, seen = capacity(report, p95_ms)
    servers = math.ceil(per_second / rate) + spare
    cores = servers * report["machine"]["cores"]
    return Size(servers, per_second / servers, rate, seen, cores, report["memory_mb"])


def main(
    per_second: Annotated[float, typer.Option(help="Requests a second at the busiest time.")],
    p95_ms: Annotated[float, typer.Option(min=0.1, help="What 95 % of the requests may take, in milliseconds.")] = 200,
    spare: Annotated[int, typer.Option(min=0, help="Servers that may be gone at the busiest time.")] = 1,
    bench: Annotated[Path, typer.Option(metavar="FILE", help="JSON of `python -m loadtest.bench`.")] = Path(
        "runs/bench.json"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say how many servers like the one that was measured a load needs."""
    try:
        report = json.loads(bench.read_text(encoding="utf-8"))
        needed = size(report, per_second, p95_ms, spare)
    except (OSError, ValueError, KeyError) as error:
        err.print(f"{bench}: {error}", style="red", markup=False)
        raise typer.Exit(2) from error
    if as_json:
        out.print_json(json.dumps(asdict(needed)))
        return
    out.print(f"measured on: {Machine(**report['machine']).describe()}", style="dim", markup=False)
    cores = report["machine"]["cores"]
    out.print(
        f"{needed.servers} servers ({spare} to spare) of {cores} cores and {needed.memory_mb:.0f} MB each: "
        f"{needed.per_server:.0f} requests a second for each, which kept {needed.capacity:.0f} with 95 % within "
        f"{needed.p95_ms:.0f} ms.",
        markup=False,
    )


if __name__ == "__main__":
    run(main, "python -m loadtest.size")
