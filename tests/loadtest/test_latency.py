from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from densescan.phantoms import draw_phantom
from densescan.preprocessing import preprocess
from densescan.tasks import TASKS
from loadtest import latency
from loadtest.latency import ARRAY, FILE, RAW, in_turns, summarise
from loadtest.machine import lacks_int8, this_machine
from loadtest.pictures import pictures, write_phantoms
from loadtest.raw import RawNetwork, batches, properties


def test_every_kind_has_its_turn_in_every_round_and_calls_as_often() -> None:
    order: list[tuple[str, int]] = []
    kinds = {name: (lambda call, name=name: order.append((name, call))) for name in ("a", "b")}
    rounds = in_turns(kinds, 5, a_turn=2, warm_up=1)
    assert order[:2] == [("a", 0), ("b", 0)]  # warm-up, not counted
    assert order[2:] == [(name, call) for numbers in ([0, 1], [2, 3], [4]) for name in ("a", "b") for call in numbers]
    assert [[len(turn[name]) for name in kinds] for turn in rounds] == [[2, 2], [2, 2], [1, 1]]


def test_a_call_is_timed() -> None:
    start = time.perf_counter()
    (turn,) = in_turns({"a": lambda call: time.sleep(0.01)}, 1, warm_up=0)
    assert 0.01 <= turn["a"][0] <= time.perf_counter() - start


def test_a_ratio_is_taken_within_each_round() -> None:
    """Everything ten times slower in the second round: the ratio does not notice."""
    rounds = [{RAW: [0.010 * k], ARRAY: [0.011 * k], FILE: [0.012 * k]} for k in (1, 10, 1)]
    report = summarise("xray", this_machine(), rounds)
    assert report.over_raw[FILE].low == pytest.approx(1.2)
    assert report.over_raw[FILE].high == pytest.approx(1.2)
    assert report.over_raw[ARRAY].median == pytest.approx(1.1)
    assert report.extra_ms[ARRAY].median == pytest.approx(1.0)
    assert report.calls == 3


def test_the_table_names_every_kind() -> None:
    report = summarise("xray", this_machine(), [{RAW: [0.010], ARRAY: [0.011], FILE: [0.012]}])
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(latency.table(report))
    text = console.export_text()
    assert all(name in text for name in latency.NAMES.values())
    assert "1.20 (1.20 to 1.20)" in text


class Told:
    """A network and a client that only remember what they were given."""

    def __init__(self) -> None:
        self.given: list[Any] = []

    def __call__(self, batch: Any) -> None:
        self.given.append(batch.tolist())

    def classify(self, task: Any, image: Any) -> None:
        self.given.append(image)


def test_every_kind_goes_round_through_the_pictures_each_in_its_own_form() -> None:
    raw, client = Told(), Told()
    arrays = [np.array([number]) for number in range(2)]
    kinds = latency.kinds(TASKS["xray"], raw, client, ["a.jpg", "b.jpg"], arrays)  # type: ignore[arg-type]
    for kind in (RAW, ARRAY, FILE):
        for call in range(3):
            kinds[kind](call)
    assert raw.given == [[[0]], [[1]], [[0]]]
    assert client.given == [arrays[0], arrays[1], arrays[0], "a.jpg", "b.jpg", "a.jpg"]


@pytest.mark.parametrize(("at_most", "code"), [(1.1, 1), (1.3, 0), (None, 0)])
def test_more_than_it_may_take_is_a_failure_and_no_more(
    at_most: float | None, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = summarise("xray", this_machine(), [{RAW: [0.010], ARRAY: [0.011], FILE: [0.012]}])
    monkeypatch.setattr(latency, "measure", lambda *_: report)
    app = typer.Typer()
    app.command()(latency.main)
    ran = CliRunner().invoke(app, [] if at_most is None else ["--at-most", str(at_most)])
    assert ran.exit_code == code, ran.output


def test_drawn_pictures_are_jpeg_of_the_networks_size_and_differ(tmp_path: Path) -> None:
    paths = write_phantoms(TASKS["xray"], tmp_path, count=3)
    arrays = [preprocess(path) for path in paths]
    assert all(path.read_bytes()[:2] == b"\xff\xd8" for path in paths)
    assert len({array.tobytes() for array in arrays}) == 3
    drawn = np.asarray(draw_phantom("xray", size=224))[..., None]
    assert np.abs(arrays[0].astype(int) - drawn).mean() < 4


def test_own_pictures_are_used_as_they_are(tmp_path: Path) -> None:
    own = [tmp_path / "a.png"]
    assert pictures(TASKS["mri"], own, tmp_path) == own
    assert not list(tmp_path.iterdir())


def test_batches_go_round_through_the_pictures() -> None:
    made = batches([np.full((2, 2, 3), number, np.uint8) for number in range(3)], size=2, count=3)
    assert [batch[:, 0, 0, 0].tolist() for batch in made] == [[0, 1], [2, 0], [1, 2]]


@pytest.mark.parametrize(
    ("instructions", "lacks"),
    [(("avx2",), True), (("avx2", "avx512f"), True), (("avx2", "avx_vnni"), False), (("asimd",), False), ((), False)],
)
def test_a_processor_without_instructions_for_int8_is_known(instructions: tuple[str, ...], lacks: bool) -> None:
    assert lacks_int8(instructions) is lacks


def test_a_machine_is_described_by_its_shape_alone() -> None:
    machine = this_machine()
    assert machine.cores >= 1
    assert "openvino" in machine.versions
    assert str(machine.cores) in machine.describe()


@pytest.mark.parametrize("parameters", [{}, {"INFERENCE_NUM_THREADS": "1", "INFERENCE_PRECISION": "f32"}])
def test_raw_runs_with_the_settings_of_the_backend(parameters: dict[str, str], backend_module: Any) -> None:
    settings = backend_module.Settings(Path(), (), (), 16, parameters, False, 0)
    assert properties(parameters) == backend_module.properties(settings)


@pytest.mark.triton
def test_one_run_measures_raw_against_served(repository_of_tiny_networks: Path, tmp_path: Path, capsys: Any) -> None:
    latency.main([], "xray", 4, repository_of_tiny_networks, as_json=True, at_most=None)
    report = json.loads(capsys.readouterr().out)
    assert set(report["latency"]) == {RAW, ARRAY, FILE}
    assert all(kind["count"] == 4 for kind in report["latency"].values())
    assert report["over_raw"][FILE]["median"] > 0


@pytest.mark.triton
def test_the_summary_names_what_was_measured(repository_of_tiny_networks: Path, capsys: Any) -> None:
    latency.main([], "mri", 2, repository_of_tiny_networks, as_json=False, at_most=None)
    assert "From a brain MRI slice file to the result" in capsys.readouterr().out


@pytest.mark.triton
def test_raw_and_served_run_the_same_network(repository_of_tiny_networks: Path) -> None:
    raw = RawNetwork(TASKS["mri"], repository_of_tiny_networks)
    batch = batches([preprocess(draw_phantom("mri", seed=seed)) for seed in range(2)], 2, 1)[0]
    answer = raw(batch)
    assert answer.shape == (2, 4)
    np.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-5)
