from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from densescan.tasks import XRAY
from loadtest import sweep
from loadtest.callers import Outcome
from loadtest.machine import this_machine
from loadtest.sweep import SETTINGS, SHIPPED, Point, Setting
from server.repository import RepositoryModel, config_path, read_config, read_repository

from ..conftest import MODEL_REPOSITORY


def config() -> object:
    return read_config(config_path(MODEL_REPOSITORY / XRAY.classifier, "cpu"))


def test_the_shipped_setting_changes_nothing() -> None:
    changed = config()
    SETTINGS[SHIPPED].apply(changed)
    assert changed == config()


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != SHIPPED])
def test_every_other_setting_changes_something(name: str) -> None:
    changed = config()
    SETTINGS[name].apply(changed)
    assert changed != config()


def test_a_setting_reaches_every_value_that_it_names() -> None:
    changed = config()
    Setting(3, True, 1, 2, 700, True, "THROUGHPUT", 4, (2, 4), (1, 2)).apply(changed)
    (group,) = changed.instance_group
    (cores,) = group.rate_limiter.resources
    assert (group.count, cores.name, cores.count, getattr(cores, "global")) == (3, "cores", 1, True)
    assert (changed.dynamic_batching.max_queue_delay_microseconds, changed.max_batch_size) == (700, 4)
    untouched = {"FLOW_FROM": "", "operating_point": ""}
    assert {key: changed.parameters[key].string_value for key in changed.parameters} | untouched == {
        "INFERENCE_NUM_THREADS": "1",
        "SHARED_NUM_THREADS": "2",
        "FIXED_BATCH_SIZES": "1,2",
        "PERFORMANCE_HINT": "THROUGHPUT",
        "NUM_STREAMS": "1",
        "ENABLE_CPU_PINNING": "YES",
        **untouched,
    }
    assert max(warmup.batch_size for warmup in changed.model_warmup) == 4
    assert list(changed.dynamic_batching.preferred_batch_size) == [2, 4]


def test_what_a_setting_makes_smaller_stays_where_it_is_small_already() -> None:
    changed = config()
    Setting(largest=8, one_at_a_time=False).apply(changed)
    sizes = [warmup.batch_size for warmup in config().model_warmup]
    assert [warmup.batch_size for warmup in changed.model_warmup] == [min(size, 8) for size in sizes]
    assert min(sizes) < 8 < max(sizes)
    assert not changed.instance_group[0].HasField("rate_limiter")


def test_a_variant_has_a_config_of_its_own_and_the_rest_by_links(tmp_path: Path) -> None:
    model = RepositoryModel(MODEL_REPOSITORY / XRAY.classifier, config())
    folder = sweep.variant(model, Setting(instances=7), tmp_path / "repository") / model.name
    assert [path.name for path in (folder / "configs").iterdir()] == ["cpu.pbtxt"]
    assert not (folder / "configs").is_symlink()
    assert read_config(folder / "configs/cpu.pbtxt").instance_group[0].count == 7
    assert (folder / "config.pbtxt").is_symlink()
    assert model.config == config()


class Server:
    """In place of the counters, of the callers' process, and of what they found."""

    def __init__(self, *latencies_s: float) -> None:
        self.counts = [{1: 5, 8: 1}, {1: 7, 8: 3}]
        self.outcome = Outcome(seconds=2.0, latencies_s=list(latencies_s), in_time=len(latencies_s))

    def executed(self, model: str) -> dict[int, int]:
        assert model == XRAY.classifier
        return self.counts.pop(0)

    def close(self) -> None:
        pass

    def run(self, load: object) -> Outcome:
        return self.outcome


def test_a_point_is_of_its_own_load_in_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    target = sweep.Target("ready", XRAY.name, "127.0.0.1:1", ())
    for latencies, expected in (
        ([0.001 * number for number in range(1, 101)], Point(50.0, 50.0, 99.0, 4.5)),
        ([], Point(0.0, float("inf"), float("inf"), 4.5)),
    ):
        server = Server(*latencies)
        monkeypatch.setattr(sweep, "Counters", lambda url, server=server: server)
        point = sweep.measure(server, target, 4, 2.0)  # type: ignore[arg-type]
        assert astuple(point) == pytest.approx(astuple(expected))


def test_a_setting_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    app = typer.Typer()
    app.command()(sweep.main)
    ran = CliRunner().invoke(app, ["--only", "as shipped", "--only", "as it was"], env={"COLUMNS": "1000"})
    assert ran.exit_code == 2
    assert "as it was: choose among as shipped, " in ran.output


def test_one_caller_is_not_called_several() -> None:
    assert [sweep._callers(number) for number in (1, 2)] == ["1 caller", "2 callers"]


def test_the_table_and_the_plot_have_every_setting(tmp_path: Path) -> None:
    points = {
        name: {callers: [Point(100 + turn, 10, 20, 2) for turn in range(3)] for callers in sweep.CALLERS}
        for name in ("a", "b")
    }
    rows = sweep.rows(points)
    assert [cells[0] for cells in rows.cells] == ["a", "b"]
    assert rows.cells[0][1] == "101 (100 to 102); 10.0, 20 ms; 2.0"
    sweep.draw(points, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"


def test_the_document_has_the_table_and_says_what_a_setting_is() -> None:
    points = {
        name: {callers: [Point(100, 10, 20, 2)] for callers in sweep.CALLERS} for name in (SHIPPED, "any batch size")
    }
    text = sweep.markdown(points, XRAY, this_machine(), "python -m loadtest.sweep --rounds 1")
    assert "| as shipped | 100" in text
    assert f"\n- *any batch size*: {sweep.WHY['any batch size']}\n" in text
    assert "configs/cpu.pbtxt" in text
    assert "`python -m loadtest.sweep --rounds 1`" in text


def test_only_settings_that_there_are_are_described() -> None:
    assert sweep.WHY.keys() <= SETTINGS.keys()


@pytest.mark.triton
def test_a_setting_is_served_and_measured(repository_of_tiny_networks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "CALLERS", (1, 2))
    seconds = 3.0  # on a busy machine even a tiny network's answer can take one
    points = sweep.sweep(XRAY, repository_of_tiny_networks, ["one instance"], 1, seconds, lambda what: None)
    assert set(points) == {"one instance"}
    assert all(point.per_second > 0 for rounds in points["one instance"].values() for point in rounds)
    (model,) = read_repository(repository_of_tiny_networks, "cpu", [XRAY.classifier])
    assert model.config.instance_group[0].count == 2  # the repository itself is as it was
