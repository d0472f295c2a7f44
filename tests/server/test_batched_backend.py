"""The contract of both backends, against tiny networks and without a server."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from server import EmbeddedTriton
from server.backend_directory import BACKENDS

from . import fake_pb_utils as pb_utils
from . import tiny
from .conftest import arguments, eventually
from .fake_pb_utils import Request


def count_runs(backend):
    """Sizes of the batches that a backend runs from now on."""
    sizes, run = [], backend._run

    def counted(batch):
        sizes.append(len(next(iter(batch.values()))))
        return run(batch)

    backend._run = counted
    return sizes


def test_one_request_is_answered_with_its_own_probabilities(initialized):
    images = tiny.pictures(1)
    (response,) = initialized().execute([Request({"image": images})])
    np.testing.assert_allclose(response["probabilities"], tiny.expected_probabilities(images), atol=1e-5)


def test_several_requests_are_one_inference_and_each_gets_its_own_rows(initialized):
    backend = initialized()
    sizes = count_runs(backend)
    requests = [Request({"image": tiny.pictures(count, seed=count)}) for count in (1, 2, 1)]
    responses = backend.execute(requests)
    assert sizes == [4]
    for request, response in zip(requests, responses, strict=True):
        expected = tiny.expected_probabilities(request.inputs["image"])
        np.testing.assert_allclose(response["probabilities"], expected, atol=1e-5)


def test_a_partial_batch_is_not_padded(initialized):
    backend = initialized()
    sizes = count_runs(backend)
    backend.execute([Request({"image": tiny.pictures(1)}) for _ in range(3)])
    assert sizes == [3]


def test_answers_of_one_batch_outlive_the_next(initialized):
    backend = initialized()
    first, second = tiny.pictures(2, seed=1), tiny.pictures(2, seed=2)
    (earlier,) = backend.execute([Request({"image": first})])
    kept = earlier["probabilities"].copy()
    backend.execute([Request({"image": second})])
    np.testing.assert_array_equal(earlier["probabilities"], kept)


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ({}, "input image is missing"),
        ({"image": tiny.pictures(1).astype(np.float32)}, "must be uint8, not float32"),
        ({"image": tiny.pictures(1)[:, :-1]}, "must have shape ['batch', 8, 8, 3], not [1, 7, 8, 3]"),
        ({"image": tiny.pictures(1)[0]}, "must have shape"),
        ({"image": tiny.pictures(1)[..., 0]}, "must have shape"),
        ({"image": tiny.pictures(1)[:0]}, "batch size 0 is not within 1 and 4"),
        ({"image": tiny.pictures(5)}, "batch size 5 is not within 1 and 4"),
    ],
)
def test_a_bad_request_is_told_why_and_its_batch_mates_are_answered(initialized, inputs, told):
    good = tiny.pictures(1)
    responses = initialized().execute([Request({"image": good}), Request(inputs), Request({"image": good})])
    assert told in responses[1].error.message()
    assert responses[1].error.code == pb_utils.TritonError.INVALID_ARG
    for response in (responses[0], responses[2]):
        np.testing.assert_allclose(response["probabilities"], tiny.expected_probabilities(good), atol=1e-5)


def test_a_request_that_breaks_the_inference_fails_alone(initialized):
    backend = initialized()
    run = backend._run

    def fragile(batch):
        if (batch["image"] == 0).all(axis=(1, 2, 3)).any():
            raise ValueError("a black picture")
        return run(batch)

    backend._run = fragile
    good, black = tiny.pictures(1), np.zeros((1, 8, 8, 3), np.uint8)
    responses = backend.execute([Request({"image": image}) for image in (good, black, good)])
    assert "a black picture" in responses[1].error.message()
    assert responses[1].error.code == pb_utils.TritonError.INTERNAL
    for response in (responses[0], responses[2]):
        np.testing.assert_allclose(response["probabilities"], tiny.expected_probabilities(good), atol=1e-5)
    assert "one by one" in pb_utils.Logger.warnings[0]


def test_a_single_request_that_breaks_the_inference_is_run_once(initialized):
    backend = initialized()
    calls = []

    def broken(batch):
        calls.append(batch)
        raise ValueError("no")

    backend._run = broken
    with pytest.raises(pb_utils.TritonModelException, match="inference failed: ValueError: no"):
        backend.execute([Request({"image": tiny.pictures(1)})])
    assert len(calls) == 1


def test_where_every_inference_fails_it_is_raised_and_so_counted_as_a_failure(initialized):
    backend = initialized()
    run = backend._run

    def broken(batch):
        raise ValueError("no memory")

    backend._run = broken
    with pytest.raises(pb_utils.TritonModelException, match="no memory"):
        backend.execute([Request({"image": tiny.pictures(1)}) for _ in range(3)])
    # A caller's own mistake stays its own, whatever else fails.
    mistaken, failed = backend.execute([Request({"image": image}) for image in (tiny.pictures(99), tiny.pictures(1))])
    assert mistaken.error.code == pb_utils.TritonError.INVALID_ARG
    assert failed.error.code == pb_utils.TritonError.INTERNAL
    backend._run = run
    (mistaken,) = backend.execute([Request({"image": tiny.pictures(99)})])
    assert mistaken.error.code == pb_utils.TritonError.INVALID_ARG


def test_beside_a_request_that_cannot_be_read_a_failed_inference_is_answered_and_not_raised(initialized):
    """What is raised would be told to all of them."""
    backend = initialized()

    def fail(batch):
        raise RuntimeError("no memory")

    backend._run = fail
    bad, good = backend.execute([Request({}), Request({"image": tiny.pictures(1)})])
    assert bad.error.code == pb_utils.TritonError.INVALID_ARG
    assert good.error.code == pb_utils.TritonError.INTERNAL
    assert "no memory" in good.error.message()


def test_an_output_with_too_few_rows_is_an_error_and_not_somebody_elses_answer(initialized):
    backend = initialized()
    backend._run = lambda batch: {"probabilities": np.zeros((1, 3), np.float32)}
    responses = backend.execute([Request({"image": tiny.pictures(2)}), Request({"image": tiny.pictures(1)})])
    assert "shape [1, 3] for a batch of 2" in responses[0].error.message()
    assert responses[1].error is None


def test_several_inputs_and_outputs_are_batched_by_name(initialized):
    rows = [3, 0, 4]
    requests = [
        Request({"image": tiny.pictures(1, seed=row), "class_index": np.array([[row]], np.int32)}) for row in rows
    ]
    for row, request, response in zip(rows, requests, initialized("tiny_pair").execute(requests), strict=True):
        np.testing.assert_array_equal(response["heatmap"], tiny.TABLE[[row]])
        expected = tiny.expected_probabilities(request.inputs["image"])
        np.testing.assert_allclose(response["probabilities"], expected, atol=1e-5)


def test_only_the_requested_outputs_are_sent(initialized):
    inputs = {"image": tiny.pictures(1), "class_index": np.zeros((1, 1), np.int32)}
    requests = [Request(inputs, outputs=["heatmap"]), Request(inputs, outputs=["probabilities"])]
    assert [response.names for response in initialized("tiny_pair").execute(requests)] == [
        ["heatmap"],
        ["probabilities"],
    ]


def test_inputs_of_one_request_must_agree_on_the_batch_size(initialized):
    request = Request({"image": tiny.pictures(2), "class_index": np.zeros((1, 1), np.int32)})
    (response,) = initialized("tiny_pair").execute([request])
    assert "different batch sizes: [1, 2]" in response.error.message()


def test_inputs_of_a_flexible_shape_are_batched_too(initialized):
    image = {"name": "image", "data_type": "TYPE_UINT8", "dims": [-1, 8, 3]}
    images = [tiny.pictures(1, seed=seed) for seed in range(2)]
    responses = initialized(input=[image]).execute([Request({"image": each}) for each in images])
    for each, response in zip(images, responses, strict=True):
        np.testing.assert_allclose(response["probabilities"], tiny.expected_probabilities(each), atol=1e-5)


def test_a_model_without_a_batch_dimension_runs_each_request_by_itself(initialized):
    changes = {
        "max_batch_size": 0,
        "input": [{"name": "image", "data_type": "TYPE_UINT8", "dims": [-1, 8, 8, 3]}],
        "output": [{"name": "probabilities", "data_type": "TYPE_FP32", "dims": [-1, 3]}],
    }
    backend = initialized(**changes)
    sizes = count_runs(backend)
    responses = backend.execute([Request({"image": tiny.pictures(count)}) for count in (2, 1)])
    assert sizes == [2, 1]
    assert [response["probabilities"].shape for response in responses] == [(2, 3), (1, 3)]


def test_missing_weights_are_named(initialized):
    with pytest.raises(pb_utils.TritonModelException, match=r"no weights at .*1/other\.bin"):
        initialized(default_model_filename="other.bin")


def test_a_config_that_names_an_output_the_file_lacks_is_refused(initialized):
    output = {"name": "logits", "data_type": "TYPE_FP32", "dims": [3]}
    with pytest.raises(pb_utils.TritonModelException, match=r"has no output '?logits"):
        initialized(output=[output])


def test_a_number_of_threads_that_is_none_is_refused(initialized):
    parameters = {key: {"string_value": "many"} for key in ("INFERENCE_NUM_THREADS", "intra_op_thread_count")}
    with pytest.raises(pb_utils.TritonModelException, match="must be a number of threads, not 'many'"):
        initialized(parameters=parameters)


def test_finalize_lets_go_of_the_network(initialized):
    backend = initialized()
    backend.finalize()
    assert not hasattr(backend, "_run")


class TestOpenVINO:
    @pytest.fixture
    def module(self, import_backend):
        return import_backend("densescan_openvino")

    def test_the_config_sets_threads_hint_and_streams(self, module, tiny_repository):
        settings = module.Settings.from_args(arguments(tiny_repository / "tiny", "cpu"), "model.xml")
        assert module.properties(settings) == {
            "INFERENCE_NUM_THREADS": "1",
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "ENABLE_CPU_PINNING": "NO",
            "INFERENCE_PRECISION_HINT": "f32",
        }

    def test_no_threads_in_the_config_means_every_core_of_the_process(self, module, tiny_repository, monkeypatch):
        monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2, 5, 7})
        monkeypatch.setattr("batched_backend._cgroup_quota", lambda: None)
        args = arguments(tiny_repository / "tiny", "cpu", parameters={})
        settings = module.Settings.from_args(args, "model.xml")
        assert module.properties(settings)["INFERENCE_NUM_THREADS"] == "5"

    def test_a_file_of_another_type_is_refused(self, module, tiny_repository):
        wrong = {"name": "image", "data_type": "TYPE_FP32", "dims": [8, 8, 3]}
        with pytest.raises(pb_utils.TritonModelException, match="the config says float32"):
            module.TritonPythonModel().initialize(arguments(tiny_repository / "tiny", "cpu", input=[wrong]))


class TestCores:
    @pytest.fixture
    def batched(self, import_backend):
        import_backend("densescan_openvino")
        import batched_backend

        return batched_backend

    @pytest.mark.parametrize(
        ("files", "quota"),
        [
            ({"cpu.max": "150000 100000\n"}, 1.5),
            ({"cpu.max": "max 100000\n"}, None),
            ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2.0),
            ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
            ({}, None),
        ],
    )
    def test_the_containers_quota_is_read(self, batched, tmp_path: Path, files, quota):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        assert batched._cgroup_quota(tmp_path) == quota

    @pytest.mark.parametrize(("quota", "cores"), [(None, 4), (1.5, 2), (0.2, 1), (8.0, 4)])
    def test_the_quota_cuts_the_affinity_down(self, batched, monkeypatch, quota, cores):
        monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2, 3})
        monkeypatch.setattr(batched, "_cgroup_quota", lambda: quota)
        assert batched.available_cores() == cores


FAILING = """
import sys
sys.path.insert(0, {backend!r})
from batched_backend import BatchedBackend

class TritonPythonModel(BatchedBackend):
    default_filename = "model.py"

    def load(self, settings):
        def run(batch):
            raise RuntimeError("no memory")
        return run
"""

FAILING_CONFIG = """
backend: "python"
max_batch_size: 4
input [ { name: "image" data_type: TYPE_UINT8 dims: [ 4 ] } ]
output [ { name: "probabilities" data_type: TYPE_FP32 dims: [ 2 ] } ]
parameters { key: "range_of_image" value { string_value: "0:9" } }
"""


@pytest.mark.triton
def test_the_real_server_counts_failed_inferences_and_not_a_callers_mistakes(tmp_path):
    """As alerts go by it."""
    folder = tmp_path / "failing/1"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(FAILING.format(backend=str(BACKENDS / "densescan_openvino")))
    (tmp_path / "failing/config.pbtxt").write_text(FAILING_CONFIG)
    with EmbeddedTriton(tmp_path) as triton, InferenceServerClient(triton.grpc_url) as client:
        for level, status in ((1, "INTERNAL"), (1, "INTERNAL"), (99, "INVALID_ARGUMENT")):
            image = InferInput("image", [1, 4], "UINT8")
            image.set_data_from_numpy(np.full((1, 4), level, np.uint8))
            with pytest.raises(InferenceServerException, match=status):
                client.infer("failing", [image])

        def failures():
            metrics = urllib.request.urlopen(triton.metrics_url, timeout=10).read().decode()
            (count,) = re.findall(
                r'^nv_inference_request_failure\{.*reason="BACKEND".*\} (\d+)$', metrics, re.MULTILINE
            )
            return int(count)

        assert eventually(lambda: failures() == 2)
