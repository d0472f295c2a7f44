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
from loadtest.callers import Outcome
from loadtest.machine import this_machine
from loadtest.server_side import TRITON, Counters, cpu_by_model, memory_mb
from loadtest.ways import Load
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


POINT: dict[str, Any] = {
    **{"per_second": 50.0, "client_ms_per_call": 1.0, "sent": 10, "sent_per_second": 10.0, "mean_batch": 1.5},
    **{"latency_ms": {"count": 9, "median": 4.0, "p95": 5.0, "p99": 6.0}, "refusal_ms": None, "failures": {}},
    **{"executed": {"1": 2}, "processor_ms": {}},
}


def shortest(**changes: Any) -> dict[str, Any]:
    """The report of the least that there is to tell."""
    parts = {"closed": {"1": POINT}, "rounds": [{"ready": POINT}], "open": {"0.5": POINT}, "capacity": 50.0}
    return {"machine": vars(this_machine()), "pictures": "drawn", "skipped": {}, **parts, **changes}


@pytest.mark.parametrize(("instructions", "said"), [(["avx2"], True), (["avx_vnni"], False)])
def test_the_document_says_so_where_the_processor_is_not_made_for_int8(instructions: list[str], said: bool) -> None:
    machine = {**vars(this_machine()), "instructions": instructions}
    assert ("none of the instructions" in document.markdown(shortest(machine=machine))) == said


def test_the_document_tells_what_was_not_measured_and_how_peers_had_their_turn_where_that_is_so() -> None:
    plain = document.markdown(shortest())
    assert "Not measured" not in plain
    assert "LitServe looks for work" not in plain
    assert "--peers" not in plain
    peers_ = {"flask": {"how": "it", "rounds": [{"1": {"peer": POINT}}]}}
    more = document.markdown(shortest(skipped={"gradcam": "it is not there"}, peers=peers_))
    assert "## Not measured\n\n- gradcam: it is not there\n" in more
    assert "LitServe looks for work" in more
    assert "--peers all" in more


def test_numbers_stand_at_the_right_of_their_column_and_a_bar_does_not_end_a_cell() -> None:
    text = document.section(tables.Rows("A title", ("what", "measured"), (("a | b", "1.0"),)))
    assert text.splitlines()[2:] == ["| what | measured |", "| --- | ---: |", "| a \\| b | 1.0 |"]


def test_a_plot_says_nothing_of_when_it_was_drawn_and_nothing_else_is_left(tmp_path: Path) -> None:
    document.draw(shortest(), tmp_path / "plot.svg")
    assert "dc:date" not in (tmp_path / "plot.svg").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["plot.svg"]


def test_a_flood_is_told_by_what_got_an_answer_and_by_the_throughput_before() -> None:
    failures = {"Overloaded": 60, "Unanswered": 10}
    flood = {**POINT, "sent": 100, "per_second": 40.0, "failures": failures}
    flood |= {"latency_ms": {"count": 30, "p99": 250.0}, "refusal_ms": {"median": 2.0, "p99": 4.0}}
    phases = {"before": POINT, "flood": flood, "after": {**POINT, "per_second": 45.0}}
    (rows,) = tables.overload({"overload": {"ready": phases}})
    assert [cells[1] for cells in rows.cells] == [
        *("100, 90", "60 Overloaded, 10 Unanswered", "250", "2, 4"),
        *("0.80", "0.90"),
    ]


def test_by_the_clock_every_refusal_counts_and_where_none_was_answered_there_is_no_latency() -> None:
    refused = {**POINT, "failures": {"Overloaded": 6, "DeadlineExceeded": 1}, "latency_ms": None}
    (cells,) = tables.open_loop(shortest(open={"1.2": refused})).cells
    assert (cells[0], cells[-1]) == ("120%", "7")
    assert cells[4:7] == ("-", "-", "-")


def test_batches_are_told_by_the_pictures_that_went_through_them_the_most_first() -> None:
    assert tables._sizes({"8": 3, "1": 6, "4": 1, "2": 1, "3": 1}) == "8 (62%), 1 (15%), 4 (10%), 3 (8%)"


def test_of_the_parts_of_a_picture_what_takes_next_to_nothing_is_left_out() -> None:
    assert tables._medians([{"client": 0.3, "Triton": 0.004, "network": 2.0}]) == ["0.30", "", "", "2.00", "2.30"]


def test_the_rounds_of_a_way_run_from_the_slowest_to_the_fastest() -> None:
    turns = [{"ready": {**POINT, "per_second": rate}} for rate in (30.0, 10.0, 20.0)]
    (cells,) = tables.ways(shortest(rounds=turns)).cells
    assert cells[1:3] == ("20.0", "10.0 to 30.0")


def test_a_server_elsewhere_that_lacks_what_is_measured_is_told_before_anything_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(running_module, "ready_models", lambda url: {MRI.classifier, "another"})
    with pytest.raises(ValueError, match=f"does not serve {XRAY.classifier}"):
        running_module.measure_running("gpu:8001", "a GPU", PLAN, pytest.fail)


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


class Recorder:
    """In place of a `Bench`: remembers its loads, and answers each with fifty a second."""

    def __init__(self) -> None:
        self.loads: list[tuple[str, float | None]] = []

    def say(self, what: str) -> None:
        pass

    def target(self, way: str) -> str:
        return way

    def load(self, targets: list[str], rate: float | None = None) -> dict[str, Any]:
        self.loads.append((targets[0], rate))
        return POINT


def test_requests_by_the_clock_come_at_shares_of_the_capacity() -> None:
    recorder = Recorder()
    points = measuring.open_loop(recorder, 200.0)  # type: ignore[arg-type]
    assert list(points) == ["0.5", "0.8", "0.95", "1.2"]
    assert [rate for _, rate in recorder.loads] == [100.0, 160.0, 190.0, 240.0]


def test_a_flood_is_three_times_what_was_answered_before_it_and_of_what_is_served() -> None:
    recorder = Recorder()
    results = measuring.overload(recorder, [XRAY.classifier])  # type: ignore[arg-type]
    assert list(results) == ["ready", "sdk_array"]
    assert recorder.loads == [(way, rate) for way in results for rate in (None, 150.0, None)]


class Asked:
    """In place of the callers' process, and of the server's counters."""

    def __init__(self, outcomes: list[Outcome], counts: dict[str, list[dict[int, int]]]) -> None:
        self.outcomes, self.counts = outcomes, counts
        self.loads: list[Load] = []

    def run(self, load: Load) -> Outcome:
        self.loads.append(load)
        return self.outcomes.pop(0)

    def executed(self, model: str) -> dict[int, int]:
        return self.counts[model].pop(0)


def test_a_load_tells_what_the_server_did_meanwhile_and_nothing_from_before(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(
        [Outcome(seconds=2.0, latencies_s=[0.1] * 8, in_time=8, sent=10)],
        {XRAY.classifier: [{4: 1, 1: 2}, {4: 2, 1: 2}], MRI.classifier: [{}, {2: 2}]},
    )
    spent = [{TRITON: 1.0, XRAY.classifier: 5.0}, {TRITON: 1.5, XRAY.classifier: 6.0, MRI.classifier: 0.25}]
    monkeypatch.setattr(measuring, "cpu_by_model", lambda pid: spent.pop(0))
    files: dict[str, tuple[str, ...]] = {XRAY.name: (), MRI.name: ()}
    bench_ = measuring.Bench("gpu:8001", asked, asked, files, PLAN, pytest.fail, pid=7)  # type: ignore[arg-type]
    point = bench_.load([bench_.target("ready"), bench_.target("ready", MRI.name)], 16)
    assert (point["executed"], point["mean_batch"]) == ({4: 1}, 4.0)
    # Of 4 pictures of the one task and 4 of the other.
    assert point["processor_ms"] == {TRITON: 62.5, XRAY.classifier: 125.0, MRI.classifier: 31.25}
    assert (point["per_second"], point["sent_per_second"]) == (4.0, 5.0)
    assert [(load.callers, load.seconds, load.rate) for load in asked.loads] == [(16, PLAN.seconds, None)]


def test_a_load_without_an_answer_is_run_again_for_longer_and_then_given_up() -> None:
    nothing, something = (Outcome(seconds=1.5, in_time=number) for number in (0, 3))
    for outcomes, tried in (([nothing, something], [1, 2]), ([nothing] * 3, [1, 2, 8])):
        asked = Asked([*outcomes], {XRAY.gradcam: [{}] * 6})
        bench_ = measuring.Bench("gpu:8001", asked, asked, {XRAY.name: ()}, PLAN, pytest.fail)  # type: ignore[arg-type]
        point = bench_.load([bench_.target("gradcam")])
        assert [load.seconds / PLAN.seconds for load in asked.loads] == tried
        assert point["processor_ms"] == {}


def test_pictures_are_drawn_for_the_tasks_that_are_served_and_what_is_not_is_said(tmp_path: Path) -> None:
    assert list(measuring.drawn_files([XRAY.classifier, MRI.decoder], tmp_path)) == [XRAY.name]
    assert measuring.skipped([XRAY.classifier, XRAY.ensemble]) == {
        "both tasks at once": f"{MRI.classifier} is not in the repository",
        "gradcam": f"{XRAY.gradcam} is not in the repository",
    }


def test_a_ratio_is_over_the_rounds_in_which_both_were_answered() -> None:
    def turn(raw: float, ready: float) -> dict[str, Any]:
        return {"raw": raw, "ready": {**POINT, "per_second": ready}, "both_tasks": {**POINT, "per_second": 6.0}}

    one = {"extra_ms": {latency.ARRAY: None}, "over_raw": {latency.FILE: None}}
    rounds = [turn(10.0, 9.0), turn(10.0, 0.0)]
    nothing = {callers: {way: {**POINT, "per_second": 0.0} for way in ("ready", "gradcam")} for callers in ("1", "8")}
    claims = measuring.claims({"rounds": rounds, "one_caller": one, "gradcam": [nothing]})
    assert claims["served_over_raw"] == {"median": 0.0, "low": 0.0, "high": 0.9}
    assert claims["both_over_one"]["median"] == pytest.approx(6 / 9)
    assert claims["encoded_over_file"] is None
    assert claims["explain_over_classify_1"] is None


def test_a_heatmap_that_nobody_waited_long_enough_for_has_no_latency() -> None:
    late = {"per_second": 0.0, "latency_ms": None, "mean_batch": 0.0}
    (_, cells) = tables.gradcam({"gradcam": [{"1": {"ready": POINT, "gradcam": late}}]}).cells
    assert cells[3] == "inf (inf to inf)"
