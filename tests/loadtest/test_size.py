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
from loadtest.size import capacity, size


def report(**p95: float) -> dict[str, Any]:
    points = {
        share: {"latency_ms": {"p95": ms}, "failures": {}}
        for share, ms in (p95 or {"0.5": 20, "0.8": 60, "0.95": 150, "1.2": 90}).items()
    }
    return {"capacity": 100.0, "open": points, "memory_mb": 800.0, "machine": vars(this_machine()) | {"cores": 2}}


def test_the_highest_rate_that_kept_the_limit_counts() -> None:
    assert capacity(report(), 60) == (80.0, 60)
    assert capacity(report(), 59) == (50.0, 20)


def test_a_rate_above_the_capacity_never_counts() -> None:
    """For a few seconds it may look well: the queue has not grown long yet."""
    assert capacity(report(), 1000) == (95.0, 150)


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
