from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from densescan.tasks import MRI, TASKS, XRAY
from loadtest import bench, document, latency, measuring, peers, size, tables
from loadtest import running as running_module
from loadtest.server_side import TRITON, Counters, cpu_by_model, memory_mb
from server import EmbeddedTriton
from tests.server.conftest import eventually

from ..conftest import ROOT

# On a busy machine even a tiny network's answer can take a second.
PLAN = measuring.Plan(seconds=1.5, warm_up_s=0.1, rounds=2, turns=10, open_s=0.4, pictures=0)


@pytest.fixture(scope="module")
def report(repository_of_tiny_networks: Path) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "CALLERS", (1, 4))
        patch.setattr(measuring, "BATCH_SIZES", (1, 4))
        measured = measuring.measure(repository_of_tiny_networks, PLAN, lambda what: None)
    return json.loads(json.dumps(measured))  # as it is read from a file


def test_a_peer_that_fails_costs_nothing_of_what_was_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def measure(name: str, *_: Any) -> dict[str, Any]:
        if name == "flask":
            raise RuntimeError("it did not answer (refused); its log ends with\nImportError")
        return {"how": name, "rounds": []}

    monkeypatch.setattr(peers, "measure", measure)
    bench_ = measuring.Bench(None, None, None, {XRAY.name: ()}, PLAN, lambda what: None)  # type: ignore[arg-type]
    monkeypatch.setattr(bench_, "target", lambda way: way)
    results, failed = measuring.measure_peers(bench_, ["flask", "litserve"], tmp_path, [])
    assert list(results) == ["litserve"]
    assert failed == {"peer flask": "it did not answer (refused)"}


def test_a_repository_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    ran = CliRunner().invoke(_app(), ["--model-repository", str(tmp_path / "missing")])
    assert ran.exit_code == 2, ran.output
    assert isinstance(ran.exception, SystemExit)


def test_a_slow_network_is_pressed_for_longer() -> None:
    plan = measuring.Plan(seconds=3.0, open_s=8.0, pictures=200)
    assert plan.at(1000) == plan
    slow = plan.at(20)
    assert (slow.seconds, slow.open_s) == (10.0, pytest.approx(8 * 10 / 3))
    assert measuring.Plan.quick().at(1) == measuring.Plan.quick()


@pytest.mark.triton
class TestOneRun:
    def test_measures_every_way_in_every_round(self, report: dict[str, Any]) -> None:
        assert [sorted(turn) for turn in report["rounds"]] == [
            ["both_tasks", "encoded", "raw", "raw_ms", "ready", "sdk_array", "sdk_file"]
        ] * 2
        assert all(turn[way]["per_second"] > 0 for turn in report["rounds"] for way in turn if "raw" not in way)

    def test_tells_whose_processor_time_a_picture_takes(self, report: dict[str, Any]) -> None:
        heads = list(tables.ways(report).heads)
        cells = {cell[0]: dict(zip(heads, cell, strict=True)) for cell in tables.ways(report).cells}
        raw, ready, encoded = (cells[tables.WAYS[way]] for way in ("raw", "ready", "encoded"))
        assert (raw["client"], raw["Triton"], raw["decoder"], ready["decoder"]) == ("", "", "", "")
        assert all(float(encoded[part]) > 0 for part in ("client", "Triton", "decoder", "network"))
        assert float(ready["processor ms a picture, together"]) > float(ready["network"])

    def test_claims_are_ratios_within_a_round(self, report: dict[str, Any]) -> None:
        ratios = [turn["sdk_file"]["per_second"] / turn["sdk_array"]["per_second"] for turn in report["rounds"]]
        assert report["claims"]["file_over_array"]["median"] == pytest.approx(sorted(ratios)[0])
        assert set(report["claims"]) == set(tables.CLAIMS)

    def test_sees_the_batches_that_were_executed(self, report: dict[str, Any]) -> None:
        executed = report["closed"]["4"]["executed"]
        assert sum(int(size) * count for size, count in executed.items()) > 0
        assert all(1 <= int(size) <= 4 for size in executed)

    def test_answers_or_refuses_everything_under_overload(self, report: dict[str, Any]) -> None:
        for phases in report["overload"].values():
            flood = phases["flood"]
            assert tables.unanswered(flood) == 0
            assert set(flood["failures"]) <= {"Overloaded"}

    def test_sends_at_the_rates_that_it_says(self, report: dict[str, Any]) -> None:
        for share, point in report["open"].items():
            wanted = float(share) * report["capacity"]
            assert point["sent_per_second"] == pytest.approx(wanted, abs=0.5 / PLAN.open_s + 1e-6)

    def test_says_what_it_could_not_measure(self, report: dict[str, Any]) -> None:
        assert report["skipped"] == {"gradcam": f"{XRAY.gradcam} is not in the repository"}
        assert report["gradcam"] == []
        assert report["claims"]["explain_over_classify_8"] is None

    def test_is_written_as_a_document_of_tables(self, report: dict[str, Any], tmp_path: Path) -> None:
        text = document.markdown(report)
        assert text.count("\n## ") == len(list(tables.all_rows(report))) + 1
        assert "amx" in text or "avx" in text or "asimd" in text or "no vector instructions" in text
        assert os.uname().nodename not in text
        widths = {line.count(" | ") for block in text.split("\n\n") for line in block.splitlines() if "---:" in line}
        assert widths
        document.draw(report, tmp_path / "plot.svg")
        assert (tmp_path / "plot.svg").read_text().startswith("<?xml")

    def test_is_read_again_and_shown(self, report: dict[str, Any], tmp_path: Path) -> None:
        path = tmp_path / "bench.json"
        path.write_text(json.dumps(report))
        app = _app()
        shown = CliRunner().invoke(app, ["--read", str(path)])
        assert shown.exit_code == 0, shown.output

    def test_one_that_lacks_the_rates_is_refused_in_a_line(self, report: dict[str, Any], tmp_path: Path) -> None:
        path = tmp_path / "bench.json"
        older = json.loads(json.dumps(report))
        for point in older["open"].values():
            del point["sent_per_second"]
        path.write_text(json.dumps(older))
        ran = CliRunner().invoke(_app(), ["--read", str(path)])
        assert (ran.exit_code, isinstance(ran.exception, SystemExit)) == (2, True)

    def test_every_table_has_a_cell_for_every_head(self, report: dict[str, Any]) -> None:
        console = Console(record=True, width=200, file=io.StringIO())
        for rows in tables.all_rows(report):
            assert rows.cells
            assert {len(cells) for cells in rows.cells} == {len(rows.heads)}, rows.title
        for table in tables.all_tables(report):
            console.print(table)


@pytest.mark.triton
def test_a_server_tells_its_batches_and_its_cost(tiny_triton: Any) -> None:
    counters = Counters(tiny_triton.grpc_url)
    assert counters.executed(XRAY.classifier)  # the warm-up
    assert memory_mb(tiny_triton.pid) > memory_mb(os.getpid()) / 10
    spent = cpu_by_model(tiny_triton.pid)
    assert set(spent) == {TRITON, *(model for task in TASKS.values() for model in (task.decoder, task.classifier))}
    assert spent[XRAY.classifier] > 0
    counters.close()


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    bench.write_aside(path, "1")
    bench.write_aside(path, "2")
    assert path.read_text() == "2"
    assert [found.name for found in path.parent.iterdir()] == ["a.json"]


def test_a_repository_without_the_network_is_refused_with_a_reason(tmp_path: Path) -> None:
    ran = CliRunner().invoke(_app(), ["--model-repository", str(tmp_path), "-o", str(tmp_path / "bench.json")])
    assert ran.exit_code == 2


def _app(main: Any = bench.main) -> Any:
    app = typer.Typer()
    app.command()(main)
    return app


def test_the_cost_of_a_heatmap_is_taken_within_a_round() -> None:
    """A machine half as fast in the second round changes nothing."""

    def point(rate: float) -> dict[str, Any]:
        return {"per_second": rate, "latency_ms": {"median": 1000 / rate}, "mean_batch": 2.0}

    rounds = [
        {callers: {"ready": point(k * 100.0), "gradcam": point(k * 80.0)} for callers in ("1", "8")} for k in (1, 0.5)
    ]
    one = {"extra_ms": {latency.ARRAY: None}, "over_raw": {latency.FILE: None}}
    claims = measuring.claims({"rounds": [], "one_caller": one, "gradcam": rounds})
    assert claims["explain_over_classify_1"]["median"] == claims["explain_over_classify_8"]["high"] == 1.25
    cells = tables.gradcam({"gradcam": rounds}).cells
    assert [cell[:2] for cell in cells] == [
        ("1", "decision"),
        ("1", "decision and heatmap"),
        ("8", "decision"),
        ("8", "decision and heatmap"),
    ]


@pytest.fixture(scope="module")
def running(tiny_triton: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The JSON of a benchmark of a server that runs already."""
    path = tmp_path_factory.mktemp("running") / "gpu.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running_module, "CALLERS", (1, 4))
        patch.setattr(measuring.Plan, "quick", lambda: PLAN)
        words = ["--quick", "--url", tiny_triton.grpc_url, "--about", "1 tiny GPU", "--output", str(path)]
        ran = CliRunner().invoke(_app(), words)
    assert ran.exit_code == 0, ran.output
    return path


@pytest.mark.triton
class TestAServerThatRunsAlready:
    def test_is_measured_as_its_callers_see_it(self, running: Path) -> None:
        report = json.loads(running.read_text())
        assert list(report["closed"]) == ["1", "4"]
        assert report["capacity"] == max(point["per_second"] for point in report["closed"].values())
        assert [sorted(turn) for turn in report["rounds"]] == [
            ["both_tasks", "encoded", "ready", "sdk_array", "sdk_file"]
        ] * 2
        assert report["callers_busy"] > 0
        assert "raw" not in report

    def test_is_shown_as_tables_and_drawn(self, running: Path, tmp_path: Path) -> None:
        shown = CliRunner().invoke(_app(), ["--read", str(running), "--plot", str(tmp_path / "plot.svg")])
        assert shown.exit_code == 0, shown.output
        assert "Ways to ask" in shown.output
        assert "network in process" not in shown.output
        ways = tables.ways(json.loads(running.read_text()))
        assert ways.heads[3:] == ("client's processor ms a picture",)
        assert all(float(cell[3]) > 0 for cell in ways.cells)
        assert (tmp_path / "plot.svg").is_file()

    def test_is_sized_by_its_own_name_and_not_by_the_callers_cores(self, running: Path) -> None:
        report = json.loads(running.read_text())
        slowest = max(point["latency_ms"]["p95"] for point in report["open"].values() if point["latency_ms"])
        words = ["--bench", str(running), "--per-second", "1", "--p95-ms", str(slowest + 1), "--json"]
        app = _app(size.main)
        ran = CliRunner().invoke(app, words)
        assert ran.exit_code == 0, ran.output
        assert (json.loads(ran.stdout)["servers"], json.loads(ran.stdout)["cores"]) == (2, None)
        ran = CliRunner().invoke(app, words[:-1])
        assert "measured on: 1 tiny GPU" in ran.output
        assert "cores" not in ran.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--url", "localhost:1", "--write-docs"], "--url goes with neither"),
        (["--url", "localhost:1", "--peers", "all"], "--url goes with neither"),
        (["--url", "localhost:1"], "no server available at localhost:1"),
    ],
)
def test_what_cannot_be_measured_by_an_address_is_told(words: list[str], told: str, tmp_path: Path) -> None:
    ran = CliRunner().invoke(_app(), [*words, "--output", str(tmp_path / "bench.json")])
    assert ran.exit_code == 2
    assert told in " ".join(ran.output.replace("│", " ").split())
    assert not (tmp_path / "bench.json").exists()


@pytest.mark.triton
def test_a_server_without_the_classifier_is_told(repository_of_tiny_networks: Path, tmp_path: Path) -> None:
    with EmbeddedTriton(repository_of_tiny_networks, models=[MRI.classifier]) as triton:
        ran = CliRunner().invoke(_app(), ["--url", triton.grpc_url, "--output", str(tmp_path / "bench.json")])
    assert ran.exit_code == 2
    assert f"does not serve {XRAY.classifier}" in " ".join(ran.output.split())


@pytest.mark.parametrize(("cores", "busy"), [(0.5, 0.5), (1.0, 1.0)])
def test_callers_that_may_be_the_limit_are_told_by_their_processor_time(cores: float, busy: float) -> None:
    # Half of the calls were refused, which takes the callers' time as well.
    most = {"per_second": 1000.0, "sent_per_second": 2000.0, "client_ms_per_call": cores / 2}
    one = {"per_second": 100.0, "sent_per_second": 100.0, "client_ms_per_call": 9.0}
    report = {"closed": {"1": one, "64": most}}
    assert running_module.callers_busy(report) == pytest.approx(busy)


@pytest.mark.triton
def test_a_run_of_a_server_elsewhere_does_not_become_this_machines_page(
    running: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "DOCS", tmp_path / "docs")
    ran = CliRunner().invoke(_app(), ["--read", str(running), "--write-docs"])
    assert ran.exit_code == 2
    assert "of a server elsewhere" in " ".join(ran.output.replace("│", " ").split())
    assert not (tmp_path / "docs").exists()


@pytest.mark.parametrize("text", ["{}", "[]", '{"open": {"0.5": 3}}'])
def test_a_file_that_is_no_benchmark_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "other.json").write_text(text)
    ran = CliRunner().invoke(_app(), ["--read", str(tmp_path / "other.json")])
    assert ran.exit_code == 2
    assert "is no benchmark" in " ".join(ran.output.split())


def test_callers_end_with_the_bench_that_was_killed() -> None:
    program = """
import os, signal
from loadtest.processes import CallersProcess
if __name__ == "__main__":
    with CallersProcess() as callers:
        print(callers._pool.submit(os.getpid).result(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""
    with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
        file.write(program)
        file.flush()
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        ran = subprocess.run([sys.executable, file.name], env=environment, capture_output=True, text=True, timeout=60)
    callers = int(ran.stdout)
    assert eventually(lambda: not Path(f"/proc/{callers}").exists())
