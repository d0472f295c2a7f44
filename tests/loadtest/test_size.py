from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from loadtest import size as sizing
from loadtest.machine import this_machine
from loadtest.size import PAGE, RECORDED, busiest, capacity, page, per_million, per_million_at_best, recorded, size


def report(**p95: float) -> dict[str, Any]:
    points = {
        share: {"sent_per_second": 100 * float(share), "latency_ms": {"p95": ms}, "failures": {}}
        for share, ms in (p95 or {"0.5": 20, "0.8": 60, "0.95": 150, "1.2": 90}).items()
    }
    return {"capacity": 100.0, "open": points, "memory_mb": 800.0, "machine": vars(this_machine()) | {"cores": 2}}


def test_the_highest_rate_that_kept_the_limit_counts() -> None:
    assert capacity(report(), 60) == (80.0, 60)
    assert capacity(report(), 59) == (50.0, 20)


def test_a_rate_above_the_capacity_never_counts() -> None:
    """For a few seconds it may look well: the queue has not grown long yet."""
    assert capacity(report(), 1000) == (95.0, 150)


def test_a_rate_is_what_was_sent_and_not_what_was_meant_to_be() -> None:
    measured = report()
    measured["open"]["0.8"]["sent_per_second"] = 73.0
    assert capacity(measured, 60) == (73.0, 60)


def test_a_rate_at_which_somebody_was_refused_does_not_count() -> None:
    measured = report()
    measured["open"]["0.95"]["failures"] = {"Overloaded": 1}
    assert capacity(measured, 1000) == (80.0, 60)


def test_a_limit_that_was_never_kept_is_refused_with_what_was_seen() -> None:
    with pytest.raises(ValueError, match=r"at 50 requests a second 95 % took up to 20 ms"):
        capacity(report(), 10)


@given(st.floats(0.1, 1e5), st.integers(0, 5))
def test_the_load_is_carried_with_those_to_spare_gone_and_no_server_is_too_many(load: float, spare: int) -> None:
    needed = size(report(), load, 60, spare)
    left = needed.servers - spare
    assert left * needed.capacity >= load * (1 - 1e-9)
    assert (left - 1) * needed.capacity < load
    assert needed.cores == 2 * needed.servers


@pytest.mark.parametrize("load", [0, -1, float("inf"), float("nan")])
def test_no_load_is_refused(load: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        size(report(), load, 60)


def test_the_page_is_that_of_the_recorded_benchmark() -> None:
    """If not: python -m loadtest.size --write-docs."""
    assert PAGE.read_text() == page(recorded(RECORDED.read_text()))


def test_what_is_recorded_is_read_as_the_benchmark_wrote_it() -> None:
    """By the benchmark's own document of figures that are known here."""
    from loadtest import document

    points = {"0.5": ({"Overloaded": 0}, 41.26), "0.95": ({"Overloaded": 3}, 122.4)}
    clock = "\n".join(
        f"| {float(share):.0%} | 9 | {186 * float(share):.1f} | 9.0 | 1.0 | {p95:.1f} | 2.0 | 1.0 | 1 (100%) "
        f"| {sum(failures.values())} |"
        for share, (failures, p95) in points.items()
    )
    head = "| of capacity | sent | a second |\n| --- |"
    machine = this_machine()
    text = (
        f"Machine: {machine.describe()}. Client, server and network share its cores. Versions: x.\n\n"
        f"## Requests by the clock, shares of 196 a second; latency\n\n{head}\n{clock}\n\n"
        "## Another\n\n| 80% | 9 | 9.0 | 1.0 | 7.0 | 2.0 | 1.0 | 1 | 0 |\n"
    )
    assert recorded(text) == {
        "capacity": 196.0,
        "open": {
            "0.5": {"sent_per_second": 93.0, "latency_ms": {"p95": 41.3}, "failures": {}},
            "0.95": {"sent_per_second": 176.7, "latency_ms": {"p95": 122.4}, "failures": {"refused": 3}},
        },
        "machine": {"cores": machine.cores},
        "about": machine.describe(),
    }
    assert document.COMMAND in RECORDED.read_text()
    with pytest.raises(ValueError, match="no document of"):
        recorded("# Benchmarks\n")


@pytest.mark.parametrize(("instructions", "warned"), [("avx2", True), ("avx2, avx512f, avx512_vnni", False)])
def test_the_page_warns_of_a_processor_that_int8_has_no_instructions_on(instructions: str, warned: bool) -> None:
    measured = {**recorded(RECORDED.read_text()), "about": f"2 cores, a processor ({instructions}), load 0.1"}
    assert ("VNNI" in page(measured)) is warned


def test_every_rate_of_the_recorded_benchmark_is_found() -> None:
    text = RECORDED.read_text()
    assert set(recorded(text)["open"]) == {"0.5", "0.8", "0.95", "1.2"}


def test_a_day_becomes_its_busiest_moment() -> None:
    assert busiest(36_000, hours=10, peak=3) == 3
    assert busiest(300, pictures=120, hours=10, peak=1) == 1


def test_a_price_becomes_the_cost_of_a_million_pictures() -> None:
    needed = size(report(), 79, 60, 1)
    assert needed.servers == 2
    assert per_million(needed, 480_000, 0.5) == pytest.approx(2 * 24 * 0.5 / 0.48)
    assert per_million_at_best(1000 / 3.6, 0.5) == pytest.approx(0.5)


@given(st.floats(1, 1e6), st.integers(0, 3))
def test_a_million_pictures_never_cost_less_than_on_servers_that_are_always_busy(a_day: float, spare: int) -> None:
    needed = size(report(), busiest(a_day, hours=24, peak=1), 60, spare)
    assert per_million(needed, a_day, 1.0) >= per_million_at_best(needed.capacity, 1.0) * (1 - 1e-9)


def test_the_command_says_servers_and_cost_for_a_day(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(sizing.main)
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(report()))
    words = ["--per-day", "36000", "--p95-ms", "60", "--spare", "0", "--bench", str(path)]
    ran = CliRunner().invoke(app, [*words, "--price", "0.5", "--json"])
    told = json.loads(ran.output)
    assert (told["servers"], told["capacity"]) == (1, 80)
    assert told["cost_per_million"] == pytest.approx(24 * 0.5 / 0.036)
    assert CliRunner().invoke(app, ["--bench", str(path)]).exit_code == 2
    assert CliRunner().invoke(app, [*words, "--per-second", "3"]).exit_code == 2


def test_the_page_is_written_from_the_recorded_benchmark_alone(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(sizing.main)
    ran = CliRunner().invoke(app, ["--write-docs", "--bench", str(tmp_path / "bench.json")])
    assert ran.exit_code == 2
    assert "docs/BENCHMARKS.md" in ran.output


def test_the_command_reads_a_benchmark(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(sizing.main)
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(report()))
    ran = CliRunner().invoke(app, ["--per-second", "200", "--p95-ms", "60", "--bench", str(path), "--json"])
    assert ran.exit_code == 0, ran.output
    for wrong in (
        ["--per-second", "200", "--p95-ms", "1", "--bench", str(path)],
        ["--per-second", "1", "--bench", "no"],
    ):
        assert CliRunner().invoke(app, wrong).exit_code == 2


def test_a_lowest_rate_at_which_nobody_was_answered_is_said_and_the_order_of_the_rates_does_not_matter() -> None:
    measured = report()
    measured["open"] = dict(reversed(measured["open"].items()))
    assert capacity(measured, 1000) == (95.0, 150)
    measured["open"]["0.5"]["latency_ms"] = None
    with pytest.raises(ValueError, match="at 50 requests a second 95 % took up to inf ms"):
        capacity(measured, 10)
