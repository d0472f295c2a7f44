"""Explaining against the real tritonserver, with the repository that ships."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from PIL import Image
from tritonclient.utils import InferenceServerException

from densescan import Client
from densescan.phantoms import draw_phantom
from densescan.preprocessing import preprocess_batch, preprocess_grey
from densescan.tasks import TASKS, Task

pytestmark = pytest.mark.triton

PHANTOMS = range(6)


@pytest.fixture(params=TASKS.values(), ids=list(TASKS))
def task(request: pytest.FixtureRequest) -> Task:
    found: Task = request.param
    return found


@pytest.fixture(scope="module")
def client(triton: Any) -> Iterator[Client]:
    with Client(triton.grpc_url, timeout_s=60) as client:
        yield client


@cache
def phantom(task: Task, seed: int = 0) -> Image.Image:
    return draw_phantom(task, seed=seed)


def ask(url: str, task: Task, indices: list[int]) -> Any:
    """A request of several pictures, by Triton's own client."""
    images = preprocess_batch([phantom(task, seed % 4) for seed in range(len(indices))])
    image = triton_grpc.InferInput("image", list(images.shape), "UINT8")
    image.set_data_from_numpy(images)
    index = triton_grpc.InferInput("class_index", [len(indices), 1], "INT32")
    index.set_data_from_numpy(np.array(indices, np.int32).reshape(-1, 1))
    with triton_grpc.InferenceServerClient(url) as connection:
        return connection.infer(task.gradcam, [image, index])


def test_the_decision_is_the_classifiers(client: Client, task: Task) -> None:
    for seed in PHANTOMS:
        picture = phantom(task, seed=seed)
        explained, classified = client.explain(task, picture).classification, client.classify(task, picture)
        assert explained.probabilities == pytest.approx(classified.probabilities, abs=1e-5)
        assert (explained.label, explained.threshold) == (classified.label, classified.threshold)
        assert explained.model_version == classified.model_version


def test_every_label_can_be_explained_and_the_maps_differ(client: Client, task: Task) -> None:
    picture = phantom(task, seed=1)
    maps = [client.explain(task, picture, target=label).heatmap for label in task.labels]
    for heatmap in maps:
        assert (heatmap.min() >= 0, heatmap.max() in (0, 1)) == (True, True)
    assert len({heatmap.tobytes() for heatmap in maps}) > 1
    decided = client.explain(task, picture)
    np.testing.assert_array_equal(decided.heatmap, maps[task.labels.index(decided.target)])


def test_requests_that_run_as_one_batch_are_each_explained_for_their_own_class(client: Client, task: Task) -> None:
    jobs = [(seed, label) for seed in range(3) for label in task.labels]

    def explain(job: tuple[int, str]) -> Any:
        seed, label = job
        return client.explain(task, phantom(task, seed=seed), target=label).heatmap

    with ThreadPoolExecutor(len(jobs)) as pool:
        together = list(pool.map(explain, jobs))
    for job, heatmap in zip(jobs, together, strict=True):
        np.testing.assert_allclose(heatmap, explain(job), atol=0.02)


@pytest.mark.parametrize("beyond", [-2, 100])
def test_a_class_out_of_range_is_refused_by_that_request_alone(triton: Any, task: Task, beyond: int) -> None:
    index = beyond if beyond < 0 else len(task.labels)

    def refused(wanted: int) -> tuple[str, str] | None:
        try:
            ask(triton.grpc_url, task, [wanted])
        except InferenceServerException as error:
            return error.status(), error.message()
        return None

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(refused, [0, index, -1, index, 1, index, 0, -1]))
    message = f"input class_index must be within -1 and {len(task.labels) - 1}, not {index}"
    told = ("StatusCode.INVALID_ARGUMENT", message)
    assert answers == [None, told, None, told, None, told, None, None]


@pytest.mark.parametrize("count", [1, 3, 16])
def test_a_request_may_hold_several_pictures_with_a_class_each(triton: Any, task: Task, count: int) -> None:
    indices = [number % len(task.labels) for number in range(count)]
    result = ask(triton.grpc_url, task, indices)
    assert result.as_numpy("heatmap").shape == (count, 7, 7)
    assert result.as_numpy("probabilities").shape == (count, len(task.labels))


def test_the_served_maps_are_those_of_the_network_in_fp32(
    client: Client, triton: Any, task: Task, model_repository: Path
) -> None:
    tensorflow = pytest.importorskip("tensorflow")
    version = client.explain(task, phantom(task)).classification.model_version
    path = model_repository / task.classifier / version / "model.savedmodel"
    if not path.is_dir():
        pytest.skip(f"the SavedModel is not at {path}")
    loaded = tensorflow.saved_model.load(str(path))
    pictures = [phantom(task, seed=seed) for seed in PHANTOMS]
    correlations = []
    for picture in pictures:
        explanation = client.explain(task, picture)
        pixels = np.repeat(preprocess_grey(picture)[None, :, :, None], 3, axis=3)
        index = np.array([[task.labels.index(explanation.target)]], np.int32)
        answer = loaded.signatures["gradcam"](image=tensorflow.constant(pixels), class_index=tensorflow.constant(index))
        expected = answer["heatmap"].numpy()[0]
        if expected.any() and explanation.heatmap.any():
            correlations.append(np.corrcoef(expected.ravel(), explanation.heatmap.ravel())[0, 1])
    assert correlations
    # Drawn pictures lie outside what the quantisation was calibrated on; real ones are checked by the test below.
    assert np.mean(correlations) > 0.95


def test_the_released_int8_maps_of_real_pictures_are_those_of_fp32(task: Task, model_repository: Path) -> None:
    """What the export measured on validation images, and wrote beside the weights that ship."""
    versions = sorted(
        (path for path in (model_repository / task.gradcam).glob("[0-9]*")), key=lambda path: int(path.name)
    )
    card = json.loads((versions[-1] / "model.json").read_text(encoding="utf-8"))
    checks = {check["form"]: check for check in card["checks"]}
    assert checks["OpenVINO int8"]["probabilities_differ"] < 1e-4
    assert checks["OpenVINO int8"]["images"] >= 50
    correlation = checks["OpenVINO int8"]["mean_correlation"]
    assert correlation > 0.99


def test_both_profiles_know_the_same_operating_point(model_repository: Path) -> None:
    from server.repository import config_path, read_config

    task = TASKS["xray"]
    points = {
        read_config(config_path(model_repository / model, profile)).parameters["operating_point"].string_value
        for model in (task.classifier, task.gradcam)
        for profile in ("cpu", "gpu")
    }
    assert len(points) == 1
