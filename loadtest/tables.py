"""The figures of a benchmark as rows: one form for the terminal and for the document."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from densescan.tasks import TASKS

from . import latency
from .figures import Spread, median
from .server_side import TRITON

CLAIMS = {
    "one_caller_file_over_raw": ("One caller, JPEG file through the SDK / network in process", "at most 1.5"),
    "one_caller_extra_ms": ("One caller, ready array through the SDK − network in process, ms", "at most 2.5"),
    "served_over_raw": ("Served to 16 callers, arrays ready / network in process at its best batch", "at least 0.95"),
    "file_over_array": ("SDK, 16 callers: from JPEG files / from arrays", "at least 0.93"),
    "encoded_over_file": ("16 callers: encoded bytes, decoded by the server / SDK from files", "at least 0.9"),
    "both_over_one": ("Both tasks at once, 16 callers / one task alone", "at least 0.93"),
    "explain_over_classify_1": ("One caller: time with a heatmap / without", "at most 1.15"),
    "explain_over_classify_8": ("8 callers: time with heatmaps / without", "at most 1.15"),
}
WAYS = {
    "raw": "network in process, best batch",
    "ready": "gRPC, requests ready",
    "sdk_array": "SDK, from array",
    "sdk_file": "SDK, from JPEG file",
    "encoded": "encoded bytes to the ensemble, no SDK",
    "both_tasks": "gRPC, both tasks at once",
}
_NETWORK = "network"
_PARTS = ("client", "Triton", "decoder", _NETWORK)
"""Whose processor time is told apart; a network's is that of its model's process, Python and all."""


@dataclass(frozen=True)
class Rows:
    """A table without a form: its title, its heads and its cells."""

    title: str
    heads: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]


def all_tables(report: Mapping[str, Any]) -> Iterator[Table]:
    """Every part of the report, for the terminal."""
    return map(table, all_rows(report))


def table(rows: Rows) -> Table:
    """Rows for the terminal."""
    drawn = Table(title=rows.title, title_justify="left", box=None, padding=(0, 2, 0, 0), header_style="dim")
    for number, head in enumerate(rows.heads):
        drawn.add_column(head, justify="right" if number else "left")
    for cells in rows.cells:
        drawn.add_row(*cells)
    return drawn


def all_rows(report: Mapping[str, Any]) -> Iterator[Rows]:
    """Every part of the report that was measured."""
    if "raw" in report:  # not of a server elsewhere
        yield claims(report)
        yield one_caller(report)
        yield raw(report)
    yield closed(report)
    yield ways(report)
    yield open_loop(report)
    yield from overload(report)
    if report.get("gradcam"):
        yield gradcam(report)
    if report.get("peers"):
        yield peers(report)


def claims(report: Mapping[str, Any]) -> Rows:
    """The ratios that matter, with what they are meant to reach."""
    cells = []
    for name, (what, wanted) in CLAIMS.items():
        spread = report["claims"].get(name)
        measured = spread_text(spread) if spread else "not measured"
        cells.append((what, measured, wanted))
    return Rows("Served against the network alone: median (middle half)", ("", "measured", "meant to be"), tuple(cells))


def one_caller(report: Mapping[str, Any]) -> Rows:
    """Latency of one caller."""
    cells = []
    for kind, ms in report["one_caller"]["latency"].items():
        cells.append((latency.NAMES[kind], *(f"{ms[mark]:.2f}" for mark in ("median", "p95", "p99", "worst"))))
    return Rows("One caller, milliseconds", ("", "median", "p95", "p99", "worst"), tuple(cells))


def raw(report: Mapping[str, Any]) -> Rows:
    """Throughput of the network in process by batch size."""
    cells = tuple((size, f"{rate:.1f}") for size, rate in report["raw"].items())
    return Rows("Network in process, by batch size", ("batch", "pictures/s"), cells)


def closed(report: Mapping[str, Any]) -> Rows:
    """By number of callers that wait for their answers."""
    cells = tuple((callers, *_load_cells(point)) for callers, point in report["closed"].items())
    return Rows("Callers that wait for their answer, requests ready", ("callers", *_LOAD_HEADS), cells)


def ways(report: Mapping[str, Any]) -> Rows:
    """The ways to ask at 16 callers, and what each costs the client."""
    cells = []
    rounds = report["rounds"]
    for way, name in WAYS.items():
        points = [turn[way] for turn in rounds if way in turn]
        if not points:
            continue
        rates = sorted(point if way == "raw" else point["per_second"] for point in points)
        costs = [{_NETWORK: turn.get("raw_ms", 0.0)} for turn in rounds] if way == "raw" else map(_costs, points)
        parts = _medians(list(costs))
        cells.append((name, f"{median(rates):.1f}", f"{rates[0]:.1f} to {rates[-1]:.1f}", *parts))
    heads = ["16 callers", "pictures/s", "over the rounds", *_PARTS, "processor ms a picture, together"]
    if not any(_NETWORK in _costs(turn["ready"]) for turn in rounds):  # a server elsewhere: only the client's is known
        heads[3:], cells = ["client's processor ms a picture"], [cell[:4] for cell in cells]
    return Rows(f"Ways to ask, median of {len(rounds)} rounds in which each has its turn", tuple(heads), tuple(cells))


def _costs(point: Mapping[str, Any]) -> dict[str, float]:
    """Processor time of a picture by `_PARTS`, in milliseconds."""
    costs = {"client": point["client_ms_per_call"]}
    parts = {TRITON: "Triton", **{task.decoder: "decoder" for task in TASKS.values()}}
    for model, spent in point.get("processor_ms", {}).items():
        part = parts.get(model, _NETWORK)
        costs[part] = costs.get(part, 0.0) + spent
    return costs


def _medians(costs: Sequence[Mapping[str, float]]) -> list[str]:
    """Of each part and of all together; nothing where less than a hundredth of a millisecond was spent."""
    parts = [median([cost.get(part, 0.0) for cost in costs]) for part in _PARTS]
    together = median([sum(cost.values()) if _NETWORK in cost else 0.0 for cost in costs])
    return [f"{spent:.2f}" if spent >= 0.005 else "" for spent in (*parts, together)]


def open_loop(report: Mapping[str, Any]) -> Rows:
    """Requests by the clock."""
    cells = []
    for share, point in report["open"].items():
        refused = sum(point["failures"].values())
        sent = (str(point["sent"]), f"{point['sent_per_second']:.1f}")
        cells.append((f"{float(share):.0%}", *sent, *_load_cells(point), str(refused)))
    title = f"Requests by the clock, shares of {report['capacity']:.0f} a second; latency from the intended send time"
    return Rows(title, ("of capacity", "sent", "a second", *_LOAD_HEADS, "refused"), tuple(cells))


def overload(report: Mapping[str, Any]) -> Iterator[Rows]:
    """Three times the capacity, for each way that was flooded."""
    names = {
        "ready": "arrays",
        "encoded_ready": "encoded bytes to the ensemble",
        "sdk_array": "SDK, which holds back most of what would be refused",
    }
    for way, phases in report.get("overload", {}).items():
        flood = phases["flood"]
        accepted, refused = flood["latency_ms"], flood["refusal_ms"]
        before = phases["before"]["per_second"]
        kinds = ", ".join(f"{count} {name}" for name, count in sorted(flood["failures"].items())) or "none"
        answered = sum(flood["failures"].values()) + (accepted or {}).get("count", 0)
        cells = (
            ("sent, and answered one way or the other", f"{flood['sent']}, {answered - unanswered(flood)}"),
            ("failures", kinds),
            ("accepted, 99th percentile, ms", f"{accepted['p99']:.0f}" if accepted else "-"),
            ("refused, median and 99th percentile, ms", _pair(refused)),
            ("throughput over that of 16 callers before", f"{flood['per_second'] / before:.2f}"),
            ("throughput of 16 callers after over before", f"{phases['after']['per_second'] / before:.2f}"),
        )
        yield Rows(f"Three times the capacity, {names[way]}", ("", "measured"), cells)


def gradcam(report: Mapping[str, Any]) -> Rows:
    """The decision alone, and with its heatmap."""
    cells = []
    for callers in report["gradcam"][0]:
        for way, name in (("ready", "decision"), ("gradcam", "decision and heatmap")):
            points = [turn[callers][way] for turn in report["gradcam"]]
            rate = Spread.of([point["per_second"] for point in points])
            ms = [point["latency_ms"]["median"] for point in points if point["latency_ms"]]
            batch = Spread.of([point["mean_batch"] for point in points])
            cells.append((callers, name, f"{rate:.1f}", f"{Spread.of(ms or [math.inf]):.1f}", f"{batch.median:.1f}"))
    heads = ("callers", "what", "pictures/s", "median ms", "mean batch")
    return Rows("Decision alone, and with its heatmap", heads, tuple(cells))


OWN = {"sdk": "densescan, SDK from the file", "bytes": "densescan, the file's bytes to the ensemble"}


def peers(report: Mapping[str, Any]) -> Rows:
    """Other servers in turns with densescan, from a 224x224 JPEG to the probabilities."""
    cells = []
    for name, peer in report["peers"].items():
        for callers in peer["rounds"][0]:
            turns = [turn[callers] for turn in peer["rounds"]]
            rates = {who: Spread.of([turn[who]["per_second"] for turn in turns]) for who in turns[0]}
            failed = sum(sum(turn["peer"]["failures"].values()) for turn in turns)
            cells.append((f"{name}: {peer['how']}", callers, f"{rates['peer']:.1f}", "", str(failed)))
            for who, what in OWN.items():
                if who in rates:
                    pairs = [(turn[who]["per_second"], turn["peer"]["per_second"]) for turn in turns]
                    times = Spread.of([own / other for own, other in pairs if other] or [math.inf])
                    failed = sum(sum(turn[who]["failures"].values()) for turn in turns)
                    cells.append((what, callers, f"{rates[who]:.1f}", f"{times:.2f}", str(failed)))
    heads = ("each from a 224x224 JPEG", "callers", "pictures/s", "times as many", "failed")
    return Rows("Other ways to serve, in turns with densescan", heads, tuple(cells))


def unanswered(point: Mapping[str, Any]) -> int:
    """Requests that got neither an answer nor a refusal."""
    return int(point["failures"].get("Unanswered", 0))


def spread_text(spread: Mapping[str, float]) -> str:
    """A median with its middle half."""
    return f"{spread['median']:.2f} ({spread['low']:.2f} to {spread['high']:.2f})"


_LOAD_HEADS = ("pictures/s", "median ms", "p95 ms", "p99 ms", "mean batch", "executed batches")


def _load_cells(point: Mapping[str, Any]) -> tuple[str, ...]:
    ms = point["latency_ms"]
    marks = [f"{ms[mark]:.1f}" if ms else "-" for mark in ("median", "p95", "p99")]
    return (f"{point['per_second']:.1f}", *marks, f"{point['mean_batch']:.1f}", _sizes(point["executed"]))


def _sizes(executed: Mapping[Any, int], most: int = 4) -> str:
    """The sizes that most pictures went through, such as ``8 (60 %), 7 (30 %)``."""
    pictures = {int(size): int(size) * count for size, count in executed.items()}
    total = sum(pictures.values())
    ranked = sorted(pictures, key=lambda size: -pictures[size])[:most]
    return ", ".join(f"{size} ({pictures[size] / total:.0%})" for size in ranked)


def _pair(refused: Mapping[str, float] | None) -> str:
    return f"{refused['median']:.0f}, {refused['p99']:.0f}" if refused else "none was refused"
