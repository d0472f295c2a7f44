"""The drift of answers: counted by the server, compared with the release, told by the command."""

from __future__ import annotations

import json
import socket
import threading
import time
import types
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from typer.testing import CliRunner

from densescan import drift
from server import EmbeddedTriton
from server.drift import Comparison, DriftError, app, from_answers, from_metrics, picture, record

from . import fake_pb_utils, tiny
from .conftest import arguments, eventually
from .fake_pb_utils import Request
from .released import LABELS, release, with_reference

counts = hnp.arrays(np.float64, (3, 5), elements=st.integers(0, 10_000).map(float))


@given(counts, counts)
def test_the_index_is_never_negative_and_the_same_both_ways(one: drift.Counts, other: drift.Counts) -> None:
    assert drift.stability_index(one, other) >= 0
    assert drift.stability_index(one, other) == pytest.approx(drift.stability_index(other, one), abs=1e-12)
    assert drift.stability_index(one, one) == 0


def test_the_index_has_the_value_that_its_definition_gives() -> None:
    """Large counts, so that the half that is added to each does not matter: shares .5/.5 against .8/.2."""
    index = drift.stability_index(np.array([[5e8, 5e8]]), np.array([[8e8, 2e8]]))
    assert index == pytest.approx(-0.3 * np.log(0.5 / 0.8) + 0.3 * np.log(0.5 / 0.2), rel=1e-6)


def test_chance_alone_is_no_shift_from_the_fewest_answers_that_count() -> None:
    random = np.random.default_rng(3)
    shares = random.dirichlet(np.full(20, 0.5))
    released = random.multinomial(700, shares).reshape(4, 5).astype(float)
    indices = [
        drift.stability_index(random.multinomial(drift.ENOUGH, shares).reshape(4, 5).astype(float), released)
        for _ in range(500)
    ]
    assert np.mean(indices) == pytest.approx(19 * (1 / drift.ENOUGH + 1 / 700), rel=0.35)
    assert np.quantile(indices, 0.999) < drift.LARGE


def test_every_answer_is_counted_once_in_the_bin_of_its_most_probable_label() -> None:
    probabilities = np.array([[0.6, 0.4], [0.59, 0.41], [0.02, 0.98], [1.0, 0.0], [0.03, 0.97]])
    assert drift.count(probabilities).tolist() == [[1, 1, 0, 0, 1], [0, 0, 0, 0, 2]]
    card = drift.reference(probabilities, ["n", "p"])
    assert card == {"edges": list(drift.EDGES), "answers": {"n": [1, 1, 0, 0, 1], "p": [0, 0, 0, 0, 2]}}
    assert json.loads(json.dumps(card)) == card


@pytest.mark.parametrize(
    ("index", "answers", "word"),
    [(0.09, 300, "no shift"), (0.1, 300, "noticeable shift"), (0.25, 300, "large shift"), (9, 299, "too few answers")],
)
def test_an_index_is_told_in_a_word(index: float, answers: float, word: str) -> None:
    assert drift.verdict(index, answers) == word


def like_the_release(count: int, seed: int) -> np.ndarray:
    """Pictures each of one colour, of all colours there are."""
    colours = np.random.default_rng(seed).integers(0, 256, (count, 1, 1, 3), dtype=np.uint8)
    return np.broadcast_to(colours, (count, tiny.SIDE, tiny.SIDE, 3)).copy()


def shifted(count: int, seed: int) -> np.ndarray:
    """The same from a device that shows everything darker."""
    return like_the_release(count, seed) // 4


def when_counted(answers: int, metrics: Callable[[], str] = fake_pb_utils.metrics) -> Comparison:
    """What the metrics show when so many answers are counted; no more may be."""
    seen: list[Comparison] = []

    def counted() -> bool:
        seen[:] = from_metrics(metrics())
        return seen[0].seen.sum() >= answers

    assert eventually(counted)
    assert seen[0].seen.sum() == answers
    return seen[0]


class TestCounting:
    """The backends' own counting, without a server."""

    @pytest.fixture
    def module(self, import_backend: Callable[[str], types.ModuleType]) -> types.ModuleType:
        return import_backend("densescan_openvino")

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        root = tiny.write_repository(tmp_path / "counted", delay_us=0)
        return with_reference(root / "tiny/1", like_the_release(700, 1)).parent

    def backend(self, module: types.ModuleType, folder: Path, **changes: Any) -> Any:
        made = module.TritonPythonModel()
        made.initialize(arguments(folder, "cpu", **changes))
        return made

    def test_it_counts_as_the_card_was_counted(self, module: types.ModuleType, folder: Path) -> None:
        backend = self.backend(module, folder)
        pictures = like_the_release(40, 2)
        for start in range(0, 40, 4):
            backend.execute(
                [Request({"image": pictures[start : start + 1]}), Request({"image": pictures[start + 1 :][:3]})]
            )
        comparison = when_counted(40)
        expected = drift.count(tiny.expected_probabilities(pictures), comparison.edges)
        assert comparison.seen.tolist() == expected.tolist()
        assert comparison.released.sum() == 700

    def test_all_series_are_there_before_the_first_answer(self, module: types.ModuleType, folder: Path) -> None:
        backend = self.backend(module, folder)
        (comparison,) = from_metrics(fake_pb_utils.metrics())
        assert comparison.seen.shape == (3, 4)
        assert comparison.seen.sum() == 0
        backend.finalize()

    def test_warm_up_is_not_counted(self, module: types.ModuleType, folder: Path) -> None:
        backend = self.backend(module, folder, model_warmup=[{"batch_size": 2, "count": 2}, {"batch_size": 1}])
        for _ in range(4):
            backend.execute([Request({"image": tiny.pictures(3)})])
        when_counted(4 * 3 - 5)

    def test_requests_that_fail_are_not_counted(self, module: types.ModuleType, folder: Path) -> None:
        backend = self.backend(module, folder)
        backend.execute([Request({}), Request({"image": tiny.pictures(1)})])
        when_counted(1)

    @pytest.mark.parametrize("wrong", ["metrics are off", "counting fails", "the card is another network's"])
    def test_nothing_that_is_wrong_with_counting_fails_an_answer(
        self, module: types.ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
    ) -> None:
        if wrong == "metrics are off":
            monkeypatch.setattr(fake_pb_utils.MetricFamily, "Metric", fake_pb_utils.refuse)
        elif wrong == "counting fails":
            monkeypatch.setattr(fake_pb_utils.Metric, "increment", fake_pb_utils.refuse)
        else:
            card = folder / "1/model.json"
            card.write_text(card.read_text().replace('"a": ', '"z": [1, 2, 3, 4], "a": '))
        backend = self.backend(module, folder)
        for _ in range(2):
            (response,) = backend.execute([Request({"image": tiny.pictures(1)})])
            assert response["probabilities"].shape == (1, 3)
        assert eventually(lambda: bool(fake_pb_utils.Logger.warnings))
        for _ in range(2):
            backend.execute([Request({"image": tiny.pictures(1)})])
        time.sleep(0.3)  # longer than answers are gathered
        assert len(fake_pb_utils.Logger.warnings) == 1
        assert "counted" in fake_pb_utils.Logger.warnings[0]
        backend.finalize()

    def test_at_the_end_all_series_go_and_what_they_belong_to_last(
        self, module: types.ModuleType, folder: Path
    ) -> None:
        """The real ones crash a process that ends with one of them left."""
        before = set(threading.enumerate())
        backend = self.backend(module, folder)
        started = set(threading.enumerate()) - before
        assert [thread.name for thread in started] == ["answer counts"]
        assert fake_pb_utils.GONE == []
        backend.finalize()
        assert not started & set(threading.enumerate())
        assert fake_pb_utils.GONE == ["series"] * 24 + ["family"] * 2

    def test_a_version_without_counts_is_served_and_not_counted(self, module: types.ModuleType, folder: Path) -> None:
        release(folder / "1")
        self.backend(module, folder).execute([Request({"image": tiny.pictures(1)})])
        assert fake_pb_utils.metrics() == ""
        assert fake_pb_utils.Logger.warnings == []
        with pytest.raises(DriftError, match="counts no answers"):
            from_metrics('nv_inference_count{model="m",version="1"} 1\n' + fake_pb_utils.metrics())


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose `tiny` knows its release, with two processes and a warm-up."""
    root = tiny.write_repository(tmp_path_factory.mktemp("counted") / "models", delay_us=0)
    with_reference(root / "tiny/1", like_the_release(700, 1))
    config = root / "tiny/configs/cpu.pbtxt"
    warm = (
        'model_warmup [ { name: "w" batch_size: 4 count: 5 inputs { key: "image" value '
        f"{{ data_type: TYPE_UINT8 dims: [ {tiny.SIDE}, {tiny.SIDE}, 3 ] random_data: true }} }} }} ]"
    )
    config.write_text(config.read_text().replace("count: 1", "count: 2") + warm)
    return root


@pytest.fixture
def served(counted: Path) -> Iterator[EmbeddedTriton]:
    with EmbeddedTriton(counted, models=["tiny"]) as triton:
        yield triton


def ask(triton: EmbeddedTriton, pictures: np.ndarray) -> None:
    from tritonclient.grpc import InferenceServerClient, InferInput

    with InferenceServerClient(triton.grpc_url) as client:
        for start in range(0, len(pictures), tiny.MAX_BATCH_SIZE):
            some = pictures[start : start + tiny.MAX_BATCH_SIZE]
            image = InferInput("image", list(some.shape), "UINT8")
            image.set_data_from_numpy(some)
            client.infer("tiny", [image], client_timeout=30)


def exported(triton: EmbeddedTriton) -> str:
    with urllib.request.urlopen(triton.metrics_url, timeout=10) as reply:
        return str(reply.read().decode())


@pytest.mark.triton
@pytest.mark.slow
def test_a_real_server_tells_pictures_that_have_changed_from_those_of_the_release(served: EmbeddedTriton) -> None:
    ask(served, like_the_release(400, 2))
    before = when_counted(400, lambda: exported(served))  # of both processes, and none of the warm-up
    assert before.verdict == "no shift"
    ask(served, shifted(800, 3))
    after = when_counted(1200, lambda: exported(served))
    assert after.verdict == "large shift"
    ran = CliRunner().invoke(app, ["--metrics", served.metrics_url])
    assert ran.exit_code == 1
    assert "1200 answers" in ran.output
    assert "large shift" in ran.output


def test_callers_answers_are_compared_with_the_card(tmp_path: Path) -> None:
    """What there is for the GPU profile."""
    root = tiny.write_repository(tmp_path / "models")
    with_reference(root / "tiny/1", like_the_release(700, 1))
    for pictures, exit_code in ((like_the_release(400, 2), 0), (shifted(400, 2), 1)):
        lines = [
            json.dumps({"model": "tiny", "model_version": "1", "probabilities": dict(zip(LABELS, row, strict=True))})
            for row in tiny.expected_probabilities(pictures).astype(float).tolist()
        ]
        (tmp_path / "answers").write_text("\n".join([*lines, "", '{"source": "x", "error": {"message": "no"}}']))
        words = ["--answers", str(tmp_path / "answers"), "--model-repository", str(root)]
        ran = CliRunner().invoke(app, [*words, "--json"])
        assert ran.exit_code == exit_code, ran.output
        told = json.loads(ran.output)
        assert (told["model"], told["answers"], told["released_answers"]) == ("tiny", 400, 700)
        shown = CliRunner().invoke(app, words).output
        assert all(word in shown for word in ("▒", "█", told["verdict"], "under 0.6", "0.95 to 1"))


def test_what_was_seen_can_become_what_is_compared_with(tmp_path: Path) -> None:
    root = tiny.write_repository(tmp_path / "models")
    card = with_reference(root / "tiny/1", like_the_release(700, 1)) / "model.json"
    before = json.loads(card.read_text())
    lines = [
        json.dumps({"model": "tiny", "model_version": "1", "probabilities": dict(zip(LABELS, row, strict=True))})
        for row in tiny.expected_probabilities(shifted(400, 2)).astype(float).tolist()
    ]
    (comparison,) = from_answers(lines, root)
    assert record([comparison], root) == [card]
    (again,) = from_answers(lines, root)
    assert again.index == 0
    assert {**json.loads(card.read_text()), "drift": before["drift"]} == before
    assert [path.name for path in card.parent.iterdir() if path.name.startswith(".")] == []
    (few,) = from_answers(lines[:299], root)
    with pytest.raises(DriftError, match="300 are the least"):
        record([comparison, few], root)


def test_the_least_that_can_be_compared_with_is_enough(tmp_path: Path) -> None:
    root = tiny.write_repository(tmp_path / "models")
    card = with_reference(root / "tiny/1", like_the_release(700, 1)) / "model.json"
    answers = {"model": "tiny", "model_version": "1", "probabilities": {"a": 0.8, "b": 0.1, "c": 0.1}}
    (comparison,) = from_answers([json.dumps(answers)] * drift.ENOUGH, root)
    assert record([comparison], root) == [card]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("no JSON", "line 1 is not one"),
        ('{"model": "tiny"}', "line 1 is not one"),
        ('{"model": "tiny", "model_version": "1", "probabilities": [0.1, 0.9]}', "line 1 is not one"),
        ('{"model": "tiny", "model_version": "1", "probabilities": {"a": null}}', "line 1 is not one"),
        ("null", "line 1 is not one"),
        ("", "there is no answer"),
        ('{"model": "tiny", "model_version": "7", "probabilities": {}}', "pass the served repository"),
        ('{"model": "xray_gradcam", "model_version": "7", "probabilities": {}}', "xray_densenet121/7"),
        ('{"model": "tiny", "model_version": "1", "probabilities": {"a": 1}}', "lacks the label 'b'"),
        ('{"model": "tiny_pair", "model_version": "1", "probabilities": {"a": 1}}', "export the network anew"),
    ],
)
def test_what_cannot_be_compared_is_told(tmp_path: Path, line: str, told: str) -> None:
    root = tiny.write_repository(tmp_path / "models")
    with_reference(root / "tiny/1", like_the_release(10, 1))
    release(root / "tiny_pair/1")
    with pytest.raises(DriftError, match=told):
        from_answers([line], root)


def test_a_page_that_is_no_metrics_is_not_called_a_server_that_counts_nothing() -> None:
    with pytest.raises(DriftError, match="ends in /metrics"):
        from_metrics("")
    with pytest.raises(DriftError, match="counts no answers"):
        from_metrics('nv_inference_count{model="m",version="1"} 3\n')


@pytest.mark.parametrize("counts", [3, {"edges": [0, 0.6]}, {"answers": {"a": [1]}}])
def test_a_card_whose_counts_are_damaged_is_told(tmp_path: Path, counts: object) -> None:
    root = tiny.write_repository(tmp_path / "models")
    card = with_reference(root / "tiny/1", like_the_release(10, 1)) / "model.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "drift": counts}))
    with pytest.raises(DriftError, match="bring the released file back"):
        from_answers(['{"model": "tiny", "model_version": "1", "probabilities": {"a": 1}}'], root)


def test_counts_without_those_of_the_release_are_told() -> None:
    with pytest.raises(DriftError, match="m is counted without"):
        from_metrics('densescan_answers_total{model="m",version="1",label="a",confidence="0",process="1"} 3\n')


def test_what_several_processes_have_answered_is_added_up() -> None:
    series = 'densescan_{}{{model="m",version="1",label="{}",confidence="0",process="{}"}} {}\n'
    text = "".join(
        series.format(name, label, process, value)
        for process in (1, 2)
        for name, label, value in (
            ("answers_total", "a", 10 * process),
            ("answers_total", "b", process),
            ("release_answers", "a", 7),
            ("release_answers", "b", 3),
        )
    )
    (comparison,) = from_metrics(text)
    assert (comparison.seen.tolist(), comparison.released.tolist()) == ([[30.0], [3.0]], [[7.0], [3.0]])


def test_what_answers_without_http_is_told_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"\0\0\x18\4\0\0\0\0\0")  # as gRPC greets
                connection.recv(1000)

        thread = threading.Thread(target=answer)
        thread.start()
        ran = CliRunner().invoke(app, ["--metrics", f"http://127.0.0.1:{listener.getsockname()[1]}/metrics"])
        thread.join()
    assert ran.exit_code == 2, ran.exception


def test_a_server_that_is_not_there_is_told_in_one_line() -> None:
    ran = CliRunner().invoke(app, ["--metrics", "http://127.0.0.1:1/metrics"])
    assert ran.exit_code == 2
    assert "Traceback" not in ran.output


def test_a_picture_of_nothing_seen_yet_can_be_drawn() -> None:
    series = [f'{{model="m",version="1",label="a",confidence="{edge}",process="1"}}' for edge in (0, 0.6)]
    text = "".join(f"densescan_answers_total{at} 0\ndensescan_release_answers{at} 5\n" for at in series)
    (comparison,) = from_metrics(text)
    assert comparison.verdict == "too few answers"
    assert picture(comparison).row_count == 2
