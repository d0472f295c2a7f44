from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image
from tritonclient.grpc import InferResult, service_pb2

from densescan import _protocol
from densescan._options import Options
from densescan._protocol import Job
from densescan.errors import InferenceFailed, InvalidImage
from densescan.preprocessing import preprocess
from densescan.tasks import MRI, XRAY

from .fake_server import answer, config


def parsed(job: Job, response: Any, operating_point: float | None = None) -> Any:
    image = _protocol.LoadedImage("a.png", np.zeros((224, 224, 3), np.uint8))
    return _protocol.parse_classification(
        job, image, InferResult(response), operating_point=operating_point, elapsed_ms=3.0
    )


def test_a_request_carries_one_picture_as_raw_bytes(film: Image.Image) -> None:
    image = _protocol.load(film, Options.of())
    arguments = _protocol.infer_arguments(Job.of("mri", None, "3"), image)
    (tensor,), (output,) = arguments["inputs"], arguments["outputs"]
    assert (arguments["model_name"], arguments["model_version"]) == ("mri_densenet121", "3")
    assert (tensor.name(), tensor.datatype(), list(tensor.shape())) == ("image", "UINT8", [1, 224, 224, 3])
    assert tensor._get_content() == image.pixels.tobytes()
    assert output.name() == "probabilities"


def test_a_ready_array_goes_out_as_it_is_within_the_limits(film: Image.Image) -> None:
    ready = preprocess(film)
    loaded = _protocol.load(ready, Options.of())
    assert loaded == _protocol.LoadedImage("<array>", ready)
    assert loaded.pixels is ready
    arguments = _protocol.infer_arguments(Job.of("xray", None, ""), loaded)
    before = ready.tobytes()
    ready[:] = 0
    assert arguments["inputs"][0]._get_content() == before
    with pytest.raises(InvalidImage, match="over the limit"):
        _protocol.load(preprocess(film), Options.of(max_pixels=224 * 224 - 1))
    with pytest.raises(InvalidImage, match="same level"):
        _protocol.load(np.full_like(ready, 9), Options.of())


def test_an_answer_becomes_a_classification() -> None:
    result = parsed(Job.of("xray", None, ""), answer([0.25, 0.75], version="7"), operating_point=0.5)
    assert (result.task, result.label, result.confidence) == ("xray", "PNEUMONIA", 0.75)
    assert result.probabilities == {"NORMAL": 0.25, "PNEUMONIA": 0.75}
    assert (result.threshold, result.model, result.model_version) == (0.5, "xray_densenet121", "7")
    assert (result.source, result.elapsed_ms) == ("a.png", 3.0)


def test_the_callers_threshold_comes_before_the_models() -> None:
    job = Job.of("xray", 0.8, "")
    assert not job.needs_operating_point
    result = parsed(job, answer([0.25, 0.75]), operating_point=0.5)
    assert (result.label, result.confidence, result.threshold) == ("NORMAL", 0.25, 0.8)


def test_a_threshold_of_zero_counts_as_one() -> None:
    assert parsed(Job.of("xray", 0.0, ""), answer([1.0, 0.0]), operating_point=0.5).label == "PNEUMONIA"


def test_a_task_without_a_positive_label_needs_no_operating_point() -> None:
    job = Job.of("mri", None, "")
    assert not job.needs_operating_point
    result = parsed(job, answer([0.1, 0.2, 0.6, 0.1]))
    assert (result.label, result.threshold) == ("notumor", None)


def test_rounding_of_small_networks_is_clipped_to_probabilities() -> None:
    result = parsed(Job.of("xray", 0.5, ""), answer([-0.0005, 1.0005]))
    assert result.probabilities == {"NORMAL": 0.0, "PNEUMONIA": 1.0}


def unnamed() -> Any:
    return answer([0.5, 0.5], name="logits")


def short() -> Any:
    response = answer([0.5, 0.5])
    response.raw_output_contents[0] = response.raw_output_contents[0][:4]
    return response


@pytest.mark.parametrize(
    ("response", "what"),
    [
        (answer([0.1, 0.2, 0.7]), r"float32 \[1, 3\]; expected float32 \[1, 2\]"),
        (answer([0.5, 0.5], dtype=np.float64), "float64"),
        (answer([float("nan"), 0.5]), "no probabilities"),
        (answer([float("inf"), 0.5]), "no probabilities"),
        (answer([2.5, -1.5]), "no probabilities"),
        (answer([0.2, 0.2]), "no probabilities"),
        (unnamed(), "no output named 'probabilities'"),
        (short(), "damaged"),
        (service_pb2.ModelInferResponse(), "no output named"),
    ],
)
def test_an_answer_that_is_no_probabilities_is_refused(response: Any, what: str) -> None:
    with pytest.raises(InferenceFailed, match=what):
        parsed(Job.of("xray", 0.5, ""), response)


def test_the_operating_point_is_read_from_the_config() -> None:
    assert _protocol.parse_operating_point(XRAY.classifier, config(operating_point="0.3125")) == 0.3125


def test_a_config_without_an_operating_point_means_one_half_and_is_left_alone() -> None:
    response = config(other="1")
    assert _protocol.parse_operating_point(XRAY.classifier, response) == 0.5
    assert list(response.config.parameters) == ["other"]


@pytest.mark.parametrize("text", ["", "half", "1.5", "-0.1", "nan"])
def test_a_wrong_operating_point_is_never_replaced_in_silence(text: str) -> None:
    with pytest.raises(InferenceFailed, match="operating_point"):
        _protocol.parse_operating_point(XRAY.classifier, config(operating_point=text))


def test_a_job_checks_its_arguments() -> None:
    assert Job.of(MRI, None, "2").model == "mri_densenet121 version 2"
    with pytest.raises(ValueError, match="unknown task"):
        Job.of("ct", None, "")
    with pytest.raises(ValueError, match="threshold"):
        Job.of("xray", 2.0, "")


def test_status_lists_models_in_order_with_what_is_wrong() -> None:
    index = service_pb2.RepositoryIndexResponse()
    index.models.add(name="b", version="10", state="READY")
    index.models.add(name="b", version="9", state="UNLOADING", reason="unloaded")
    index.models.add(name="a", state="UNAVAILABLE", reason="no such file")
    metadata = service_pb2.ServerMetadataResponse(name="triton", version="2.99.0")
    status = _protocol.parse_status("here:1", live=True, ready=False, metadata=metadata, index=index)
    assert [(m.name, m.version, m.ready, m.reason) for m in status.models] == [
        ("a", "", False, "no such file"),
        ("b", "9", False, "unloaded"),
        ("b", "10", True, ""),
    ]
    assert (status.url, status.name, status.version, status.live, status.ready) == (
        "here:1",
        "triton",
        "2.99.0",
        True,
        False,
    )


@pytest.mark.parametrize("values", [[0.5, 0.52], [0.5, 0.48], [-0.02, 1.02], [1.02, -0.02]])
def test_more_than_rounding_is_no_probability(values: list[float]) -> None:
    with pytest.raises(InferenceFailed, match="no probabilities"):
        parsed(Job.of("xray", 0.5, ""), answer(values))


@pytest.mark.parametrize(
    ("task", "modality", "warned"),
    [("xray", "", False), ("xray", "DX", False), ("mri", "MR", False), ("mri", "DX", True)],
)
def test_only_a_modality_that_the_file_names_and_the_task_lacks_is_warned_of(
    task: str, modality: str, warned: bool
) -> None:
    image = _protocol.LoadedImage("a.png", np.zeros((224, 224, 3), np.uint8), modality, ("of the file",))
    warnings = image.warnings_for(Job.of(task, None, "").task)
    assert warnings[-1] == "of the file"
    assert [modality in warning for warning in warnings[:-1]] == [True] * warned
