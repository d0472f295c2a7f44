"""docs/BENCHMARKS.md and its plot, from a benchmark's report."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .machine import Machine, lacks_int8
from .tables import Rows, all_rows

PLOT = "benchmarks.svg"
COMMAND = "python -m loadtest.bench --write-docs"
_HELD = (
    " Another server is stopped while the served models have their turn: LitServe looks for work all the time, and "
    "would take a part of the machine from them."
)
_WITHOUT_INT8 = (
    "**This processor has none of the instructions that networks in int8 are made for** (VNNI, AMX). With them the "
    "network takes a fraction of this time, and what the client and Triton take weighs more: ratios to the network "
    "alone are lower there, and those to Keras, which computes in float32, higher."
)


def markdown(report: Mapping[str, Any]) -> str:
    """The whole document."""
    machine = Machine(**report["machine"])
    others = " with `--peers all`, which needs the extra `peers`" if report.get("peers") else ""
    versions = ", ".join(f"{name} {number}" for name, number in machine.versions.items())
    parts = [
        "# Benchmarks",
        f"Written by `{COMMAND}`{others}; run it to have the figures of your machine. Nothing here is typed by hand.",
        f"Machine: {machine.describe()}. Client, server and network share its cores. Versions: {versions}.",
        *([_WITHOUT_INT8] if lacks_int8(machine.instructions) else []),
        f"Pictures: {report['pictures']}. Network: DenseNet-121 in int8 (OpenVINO), the file that is served.",
        "What is compared takes turns, round by round, so that whatever else the machine does slows all of it alike; "
        "ratios are taken within a round. Percentiles are samples, never interpolated. Requests by the clock come at "
        "random (Poisson), and their latency counts from the time at which they were to be sent."
        + (_HELD if report.get("peers") else ""),
        f"![Throughput and latency]({PLOT})",
        *map(section, all_rows(report)),
    ]
    if report["skipped"]:
        parts.append("\n".join(["## Not measured", "", *(f"- {k}: {v}" for k, v in report["skipped"].items())]))
    return "\n\n".join(parts) + "\n"


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Throughput by callers against the network alone, and latency by load."""
    figure, (left, right) = pyplot().subplots(1, 2, figsize=(11, 4), layout="constrained")
    callers = [int(number) for number in report["closed"]]
    points = list(report["closed"].values())
    left.plot(callers, [point["per_second"] for point in points], marker="o", label="served, requests ready")
    if "raw" in report:
        best = max(report["raw"].values())
        left.axhline(best, color="grey", linestyle="--", label=f"network alone, best batch ({best:.0f}/s)")
    left.set(xscale="log", xlabel="callers that wait for their answer", ylabel="pictures a second", ylim=(0, None))
    left.set_xticks(callers, [str(number) for number in callers])
    left.minorticks_off()
    left.legend()
    shares = [100 * float(share) for share in report["open"]]
    for mark, style in (("median", "-"), ("p95", "--"), ("p99", ":")):
        latencies = [(point["latency_ms"] or {}).get(mark, float("nan")) for point in report["open"].values()]
        right.plot(shares, latencies, style, marker="o", label=mark, color="tab:blue")
    right.set(xlabel=f"load, % of {report['capacity']:.0f}/s", ylabel="ms from the intended send time", yscale="log")
    plain = importlib.import_module("matplotlib.ticker").LogFormatter  # 200 rather than 2 × 10²
    right.yaxis.set_major_formatter(plain(labelOnlyBase=False))
    right.yaxis.set_minor_formatter(plain(labelOnlyBase=False, minor_thresholds=(2, 0.5)))
    right.legend()
    save(figure, path)


def pyplot() -> Any:
    """Matplotlib's, without a window, so that the same figures give the same file."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "densescan"
    return importlib.import_module("matplotlib.pyplot")


def save(figure: Any, path: Path) -> None:
    """Write a figure so that a reader sees the old file or the new one, and close it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"new-{path.name}")
    figure.savefig(beside, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot().close(figure)
    beside.replace(path)


def section(rows: Rows) -> str:
    """Rows as a part of a document."""
    lines = [
        f"## {rows.title}",
        "",
        _line(rows.heads),
        _line(tuple("---:" if number else "---" for number in range(len(rows.heads)))),
        *map(_line, rows.cells),
    ]
    return "\n".join(lines)


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
