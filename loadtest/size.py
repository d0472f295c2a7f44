"""How many servers a load needs and what a million pictures cost, from a benchmark.

python -m loadtest.size --per-day 20000                          studies a day, by the recorded benchmark
python -m loadtest.size --per-day 200 --pictures 120             MRI series of 120 slices
python -m loadtest.size --per-second 500 --p95-ms 100 --spare 2  requests a second, two servers may fail
python -m loadtest.size --per-day 20000 --price 0.10             and what a million pictures cost
python -m loadtest.size --bench runs/bench.json --per-day 20000  by a benchmark of your own machine, or of a GPU's
python -m loadtest.size --write-docs                             docs/SIZING.md, from docs/BENCHMARKS.md

A server is what the benchmark ran on. Its capacity for a limit of latency is the highest rate, among those that were
sent by the clock and answered in full, at which the limit was kept: between the rates that were measured nothing is
guessed. Callers elsewhere leave the server the processor time that the benchmark's own callers took from it, so that
the answer is on the safe side.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from .bench import DOCS, write_aside
from .console import err, out, run
from .machine import Machine, lacks_int8

RECORDED = DOCS / "BENCHMARKS.md"
PAGE = DOCS / "SIZING.md"

HOURS, PEAK = 10.0, 3.0
"""Where nothing else is known: a day's pictures come within ten hours, the busiest moment has three times the mean."""

_LOADS = (10_000, 100_000, 1_000_000, 10_000_000)
_EXAMPLE = 2_000_000

_CLOCK = re.compile(r"^## Requests by the clock, shares of (\d+) a second.*\n(?:(?!## ).*\n)+", re.MULTILINE)
_MACHINE = re.compile(r"^Machine: ((\d+) cores, .*?)\. Client, server", re.MULTILINE)


@dataclass(frozen=True)
class Size:
    """What a load needs.

    Attributes:
        servers: Servers, those to spare included.
        per_server: Requests a second that one of them is given when all are up.
        capacity: Requests a second at which one was seen to keep the limit.
        p95_ms: 95th percentile of the latency that was seen there, in milliseconds.
        cores: Cores of all servers together; None where the server that was measured runs elsewhere.
        memory_mb: Memory of one server, in MB; None where the benchmark did not say.
    """

    servers: int
    per_server: float
    capacity: float
    p95_ms: float
    cores: int | None
    memory_mb: float | None


def capacity(report: Mapping[str, Any], p95_ms: float) -> tuple[float, float]:
    """The highest rate at which a limit was kept, and the 95th percentile there.

    Raises:
        ValueError: It was kept at none of the measured rates; the message says what was seen at the lowest.
    """
    kept = []
    for point in report["open"].values():
        ms = point["latency_ms"]
        if ms and not point["failures"] and ms["p95"] <= p95_ms:
            kept.append((point["sent_per_second"], ms["p95"]))
    # Above the rate of the closed loop the queue only grows: what was kept there was kept for want of time.
    kept = [(rate, seen) for rate, seen in kept if rate <= report["capacity"]]
    if not kept:
        lowest = min(report["open"].values(), key=lambda point: point["sent_per_second"])
        seen = (lowest["latency_ms"] or {}).get("p95", math.inf)
        raise ValueError(
            f"{p95_ms:g} ms were not kept at any measured rate: at {lowest['sent_per_second']:.0f} requests "
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
    cores = None if "server" in report else servers * report["machine"]["cores"]
    return Size(servers, per_second / servers, rate, seen, cores, report.get("memory_mb"))


def busiest(studies: float, pictures: int = 1, hours: float = HOURS, peak: float = PEAK) -> float:
    """Requests a second at the busiest moment of a day.

    Args:
        studies: Studies a day.
        pictures: Pictures of a study.
        hours: Time within which they come.
        peak: Load of the busiest moment, in means of those hours.
    """
    return studies * pictures * peak / (hours * 3600)


def per_million(needed: Size, pictures_a_day: float, price: float) -> float:
    """What a million pictures cost with servers that run day and night, asked or not, at a price of an hour of one."""
    return needed.servers * 24 * price / pictures_a_day * 1e6


def per_million_at_best(rate: float, price: float) -> float:
    """The same with a server that is always as busy as it may be: what no clinic reaches, and a batch job does."""
    return price / (rate * 3600) * 1e6


def recorded(text: str) -> dict[str, Any]:
    """What sizing needs of a benchmark's document, as its JSON would say it, and ``about``, the machine in words.

    Raises:
        ValueError: The document has no requests by the clock, or no machine.
    """
    clock, machine = _CLOCK.search(text), _MACHINE.search(text)
    if clock is None or machine is None:
        raise ValueError("this is no document of `python -m loadtest.bench --write-docs`")
    points = {}
    for line in clock.group().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if share := re.fullmatch(r"(\d+)%", cells[0]):
            failures = {"refused": int(cells[-1])} if int(cells[-1]) else {}
            points[f"{int(share[1]) / 100:g}"] = {
                "sent_per_second": float(cells[2]),
                "latency_ms": {"p95": float(cells[5])},
                "failures": failures,
            }
    return {
        **{"capacity": float(clock[1]), "open": points},
        **{"machine": {"cores": int(machine[2])}, "about": machine[1]},
    }


def _without_int8(about: str) -> str:
    if not lacks_int8(re.findall(r"\w+", about)):
        return ""
    return (
        "\n**It has none of the instructions that networks in int8 are made for** (VNNI, AMX); a processor with them\n"
        "does several times as much: measure on the kind that you will use."
    )


def page(report: Mapping[str, Any]) -> str:
    """docs/SIZING.md."""
    rates = {f"{limit:g}": limit for limit in _limits(report)}
    points = [
        f"| {point['sent_per_second']:.1f} | {point['latency_ms']['p95']:.0f} ms | {kept} |"
        for share, point in report["open"].items()
        for kept in ["no: beyond what it can do" if float(share) > 1 else "no" if point["failures"] else "yes"]
    ]
    loads = [
        f"| {studies:,} | {busiest(studies):,.1f} | "
        + " | ".join(_servers(report, studies, limit) for limit in rates.values())
        + " |"
        for studies in _LOADS
    ]
    costs = [
        f"| {studies:,} | "
        + " | ".join(
            f"{per_million(size(report, busiest(studies), limit, 1), studies, 1.0):,.2f}" for limit in rates.values()
        )
        + " |"
        for studies in _LOADS
    ]
    limit = next(iter(rates.values()))
    best = " | ".join(f"{per_million_at_best(capacity(report, limit)[0], 1.0):.2f}" for limit in rates.values())
    heads = " | ".join(f"95 % within {name} ms" for name in rates)
    marks = "---:|" * len(rates)
    return f"""# How many servers, and what a picture costs

Written by `python -m loadtest.size --write-docs` from [BENCHMARKS.md](BENCHMARKS.md); nothing here is typed by hand.
For your own machine: `python -m loadtest.bench`, then `python -m loadtest.size --bench runs/bench.json --per-day …`.

A server here is the machine of the benchmark, with the CPU profile; the callers ran on it as well, so that a server
with callers elsewhere does a little better. It has {report["about"]}.{_without_int8(report["about"])}

## What one server keeps up with

| requests a second | 95 % answered within | counts |
|---:|---:|---|
{chr(10).join(points)}

Latency counts from the time at which a request was to be sent, so waiting is in it. Between these rates nothing is
guessed: a limit of latency gives the highest of them that kept it.

## Servers for a number of pictures a day

One more than the load needs, so that any of them may fail. The day's pictures come within {HOURS:g} hours, and the
busiest moment has {PEAK:g} times the mean (`--hours`, `--peak`). A chest film is one picture; an MRI study of 120
slices is 120 (`--pictures 120`). What a heatmap costs on top: *Decision alone, and with its heatmap* in the benchmark.

| pictures a day | a second, at the busiest | {heads} |
|---:|---:|{marks}
{chr(10).join(loads)}

## Cost of a million pictures

In units of what an hour of such a server costs: with a server at 0.10 an hour, a tenth of these. Servers run day and
night, asked or not, the spare one too; that, and not the network, is what few pictures cost.

| pictures a day | {heads} |
|---:|{marks}
{chr(10).join(costs)}
| always busy | {best} |

"Always busy" is a job that works through an archive, without a spare server.

## GPU

Not measured: no GPU was at hand, and nothing on this page holds for one. Measure yours where it serves, a server that
runs already, with callers on another machine; then ask for its number and its cost as above:

```sh
python -m loadtest.bench --url gpu-host:8001 --about "1 L4, 8 cores" --output runs/gpu.json
python -m loadtest.size --bench runs/gpu.json --per-day 2000000 --p95-ms 50 --price 0.80
```

For a server with certificates or a token set the [SDK's variables](sdk.md#options) (`DENSESCAN_CA_CERTIFICATE`,
`DENSESCAN_METADATA` …): the callers of `loadtest.bench` and of `python -m loadtest` take them, too.

## An example

`python -m loadtest.size --per-day {_EXAMPLE} --p95-ms {limit:g} --price 0.10`:
{_told(report, limit)}
"""


def main(
    per_second: Annotated[
        float | None, typer.Option(show_default="none", help="Requests a second at the busiest moment.")
    ] = None,
    per_day: Annotated[float | None, typer.Option(show_default="none", help="Studies a day, instead.")] = None,
    pictures: Annotated[int, typer.Option(min=1, help="Pictures of a study.")] = 1,
    hours: Annotated[float, typer.Option(min=0.1, max=24, help="Time within which a day's studies come.")] = HOURS,
    peak: Annotated[float, typer.Option(min=1, help="Load of the busiest moment, in means of those hours.")] = PEAK,
    p95_ms: Annotated[float, typer.Option(min=0.1, help="What 95 % of the requests may take, in milliseconds.")] = 200,
    spare: Annotated[int, typer.Option(min=0, help="Servers that may be gone at the busiest time.")] = 1,
    price: Annotated[float, typer.Option(min=0, help="Of an hour of one server, in any money; with --per-day.")] = 0,
    bench: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", show_default="docs/BENCHMARKS.md", help="JSON of `python -m loadtest.bench` instead."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    write_docs: Annotated[bool, typer.Option("--write-docs", help="Write docs/SIZING.md, and nothing else.")] = False,
) -> None:
    """Say how many servers like the one that was measured a load needs, and what its pictures cost."""
    source = bench or RECORDED
    if write_docs and bench is not None:
        raise typer.BadParameter("it is written from docs/BENCHMARKS.md, not from --bench", param_hint="--write-docs")
    if not write_docs and (per_second is None) == (per_day is None):
        raise typer.BadParameter("give one of --per-second and --per-day")
    try:
        text = source.read_text(encoding="utf-8")
        report = recorded(text) if bench is None else json.loads(text)
        if write_docs:
            write_aside(PAGE, page(report))
            err.print(f"wrote {DOCS.name}/{PAGE.name}", style="dim")
            return
        load = per_second if per_day is None else busiest(per_day, pictures, hours, peak)
        assert load is not None
        needed = size(report, load, p95_ms, spare)
    except (OSError, ValueError, KeyError) as error:
        told = f"it lacks {error}: written by an older version? measure again" if isinstance(error, KeyError) else error
        err.print(f"{source}: {told}", style="red", markup=False)
        raise typer.Exit(2) from error
    cost = per_million(needed, per_day * pictures, price) if per_day and price else None
    if as_json:
        out.print_json(json.dumps({**asdict(needed), "cost_per_million": cost}))
        return
    about = report.get("about") or report.get("server") or Machine(**report["machine"]).describe()
    out.print(f"measured on: {about}", style="dim", markup=False)
    out.print(sentence(needed, spare, cost), markup=False)


def sentence(needed: Size, spare: int, cost: float | None) -> str:
    """What a load needs, for a person."""
    memory = f" and {needed.memory_mb:.0f} MB" if needed.memory_mb else ""
    each = "" if needed.cores is None else f" of {needed.cores // needed.servers} cores{memory} each"
    told = (
        f"{needed.servers} servers ({spare} to spare){each}: "
        f"{needed.per_server:.1f} requests a second for each, which kept {needed.capacity:.0f} with 95 % within "
        f"{needed.p95_ms:.0f} ms."
    )
    return told if cost is None else f"{told} A million pictures cost {cost:,.2f}."


def _limits(report: Mapping[str, Any]) -> list[float]:
    """Round limits of latency, in ms, one for each rate that counts."""
    kept = [p for share, p in report["open"].items() if float(share) <= 1 and not p["failures"]]
    return sorted({math.ceil(point["latency_ms"]["p95"] / 25) * 25.0 for point in kept})


def _servers(report: Mapping[str, Any], studies: int, limit: float) -> str:
    return str(size(report, busiest(studies), limit, 1).servers)


def _told(report: Mapping[str, Any], limit: float) -> str:
    needed = size(report, busiest(_EXAMPLE), limit, 1)
    return sentence(needed, 1, per_million(needed, _EXAMPLE, 0.10))


if __name__ == "__main__":
    run(main, "python -m loadtest.size")
