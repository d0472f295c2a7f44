from __future__ import annotations

from pathlib import Path

import pytest

from densescan.tasks import XRAY
from loadtest import sweep
from loadtest.machine import this_machine
from loadtest.sweep import SETTINGS, SHIPPED, Point, Setting
from server.repository import config_path, read_config, read_repository

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
