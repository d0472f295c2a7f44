"""The same picture at every hand-over: training's tensor, the SDK's, the server's; Keras, ONNX, int8, served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput

from densescan import Client
from densescan.preprocessing import preprocess
from densescan.tasks import ENCODED_NAME, INPUT_NAME, OUTPUT_NAME, TASKS, Task
from training import exporting, predictors
from training.data import load_fold
from training.layouts import find_data, find_images
from training.manifest import Entry

from .test_weights import newest

pytestmark = [pytest.mark.triton, pytest.mark.data, pytest.mark.slow]

EACH = 12
"""Pictures of each class."""

each_task = pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))


@pytest.fixture(scope="session")
def pictures(densescan_data: Path) -> dict[str, list[Path]]:
    """Some real pictures of every class of every task."""
    chosen = {}
    for task in TASKS.values():
        folder = find_data(task, densescan_data / {"xray": "chest_xray", "mri": "brain_mri"}[task.name])
        images = find_images(task, folder)
        by_label = {label: [image for image in images if image.label == label] for label in task.labels}
        chosen[task.name] = [
            folder / some[place].path
            for some in by_label.values()
            for place in exporting.spread(len(some), EACH).tolist()
        ]
    return chosen


@pytest.fixture(scope="session")
def keras(pictures: dict[str, list[Path]]) -> dict[str, npt.NDArray[np.float32]]:
    """What the SavedModel, Keras' own export in FP32, answers."""
    return {
        task.name: ask(newest(task.classifier) / exporting.SAVED_MODEL, pictures[task.name]) for task in TASKS.values()
    }


def ask(path: Path, files: list[Path]) -> npt.NDArray[np.float32]:
    predictor = predictors.open_model(path)
    tensors = np.stack([preprocess(file) for file in files])
    return np.concatenate([predictor(tensors[start : start + 16]) for start in range(0, len(tensors), 16)])


@pytest.fixture(scope="module")
def wire(triton: Any) -> Iterator[InferenceServerClient]:
    client = InferenceServerClient(triton.grpc_url)
    yield client
    client.close()


def infer(wire: InferenceServerClient, model: str, name: str, kind: str, array: npt.NDArray[Any]) -> Any:
    tensor = InferInput(name, list(array.shape), kind)
    tensor.set_data_from_numpy(array)
    return wire.infer(model, [tensor])


@each_task
def test_trainings_tensor_is_the_sdks_and_the_servers(
    task: Task, pictures: dict[str, list[Path]], wire: InferenceServerClient
) -> None:
    for file in pictures[task.name][::6]:
        sdk = preprocess(file)
        fold = load_fold([Entry(file.name, task.labels[0], "", "train", "")], task.labels, file.parent)
        np.testing.assert_array_equal(predictors.replicate(fold.grey)[0], sdk)
        encoded = np.array([[file.read_bytes()]], dtype=np.object_)
        served = infer(wire, task.decoder, ENCODED_NAME, "BYTES", encoded).as_numpy(INPUT_NAME)
        np.testing.assert_array_equal(served[0], sdk)


@each_task
def test_onnx_in_fp16_answers_as_keras(task: Task, pictures: dict[str, list[Path]], keras: dict[str, Any]) -> None:
    half = ask(newest(task.classifier) / exporting.FP16, pictures[task.name])
    np.testing.assert_allclose(half, keras[task.name], atol=5e-3)


@each_task
def test_int8_decides_as_keras(task: Task, pictures: dict[str, list[Path]], keras: dict[str, Any]) -> None:
    int8 = ask(newest(task.classifier) / exporting.INT8, pictures[task.name])
    assert (int8.argmax(axis=1) == keras[task.name].argmax(axis=1)).mean() >= 0.95
    assert np.abs(int8 - keras[task.name]).mean() < 0.03


@each_task
def test_the_cpu_profile_serves_what_its_file_answers(task: Task, triton: Any, pictures: dict[str, list[Path]]) -> None:
    files = pictures[task.name][::3]
    expected = ask(newest(task.classifier) / exporting.INT8, files)
    with Client(triton.grpc_url, timeout_s=60) as client:
        for row, result in zip(expected, client.classify_many(task, files, in_flight=4), strict=True):
            assert list(result.probabilities.values()) == pytest.approx(row.tolist(), abs=5e-3)  # type: ignore[union-attr]


@each_task
def test_the_gpu_profile_serves_what_keras_answers(
    task: Task, gpu_profile_triton: Any, pictures: dict[str, list[Path]], keras: dict[str, Any]
) -> None:
    with Client(gpu_profile_triton.grpc_url, timeout_s=60) as client:
        for file, row in list(zip(pictures[task.name], keras[task.name], strict=True))[::6]:
            served = list(client.classify(task, file).probabilities.values())
            assert served == pytest.approx(row.tolist(), abs=5e-3)


@each_task
def test_the_encoded_file_is_answered_as_the_sdks_tensor(
    task: Task, wire: InferenceServerClient, pictures: dict[str, list[Path]]
) -> None:
    for file in pictures[task.name][::8]:
        encoded = np.array([[file.read_bytes()]], dtype=np.object_)
        whole = infer(wire, task.ensemble, ENCODED_NAME, "BYTES", encoded).as_numpy(OUTPUT_NAME)
        tensor = infer(wire, task.classifier, INPUT_NAME, "UINT8", preprocess(file)[None]).as_numpy(OUTPUT_NAME)
        np.testing.assert_allclose(whole, tensor, atol=5e-3)


@each_task
def test_most_real_pictures_are_classified_rightly(task: Task, triton: Any, pictures: dict[str, list[Path]]) -> None:
    with Client(triton.grpc_url, timeout_s=60) as client:
        results = list(client.classify_many(task, pictures[task.name]))
    truth = [file.parent.name for file in pictures[task.name]]
    right = [result.label == label for result, label in zip(results, truth, strict=True)]  # type: ignore[union-attr]
    assert np.mean(right) >= 0.8
