"""The SDK against the real tritonserver, with the repository that ships."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import densescan
from densescan import AsyncClient, Classification, Client, InvalidImage, ModelNotFound
from densescan.phantoms import draw_phantom
from densescan.tasks import TASKS, XRAY

from .test_formats import FILM, FORMS

pytestmark = pytest.mark.triton


@pytest.fixture(scope="module")
def client(triton: Any) -> Iterator[Client]:
    with Client(triton.grpc_url, timeout_s=30) as client:
        yield client


@pytest.fixture
def command(triton: Any) -> Any:
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "densescan", *map(str, arguments)],
            env={**os.environ, "DENSESCAN_URL": triton.grpc_url},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_each_task_answers_with_probabilities(client: Client, task: Any) -> None:
    result = client.classify(task, draw_phantom(task))
    assert tuple(result.probabilities) == task.labels
    assert sum(result.probabilities.values()) == pytest.approx(1, abs=0.005)
    assert result.confidence == result.probabilities[result.label]
    assert (result.task, result.model, result.source) == (task.name, task.classifier, "<PIL image>")
    assert result.model_version.isdecimal()
    assert (result.threshold is None) == (task.positive is None)


def test_the_operating_point_comes_from_the_served_config(client: Client, film_path: Path) -> None:
    result = client.classify_xray(film_path)
    assert result.threshold is not None
    assert 0 < result.threshold < 1
    assert (result.label == XRAY.positive) == (result.probabilities["PNEUMONIA"] >= result.threshold)


def test_a_threshold_of_ones_own_decides(client: Client, film_path: Path) -> None:
    assert client.classify_xray(film_path, threshold=0.0).label == "PNEUMONIA"
    p = client.classify_xray(film_path).probabilities["PNEUMONIA"]
    assert client.classify_xray(film_path, threshold=min(1.0, p + 0.05)).label == ("NORMAL" if p < 1 else "PNEUMONIA")


def test_the_same_picture_gets_the_same_answer(client: Client, film_path: Path) -> None:
    first, second = (client.classify_mri(film_path).probabilities for _ in range(2))
    assert first == pytest.approx(second, abs=1e-4)


@pytest.mark.parametrize("task", list(TASKS))
@pytest.mark.parametrize("form", FORMS)
def test_one_film_in_every_format_gets_the_same_answer(client: Client, task: str, form: str) -> None:
    make, _ = FORMS[form]
    expected = client.classify(task, FILM).probabilities
    assert client.classify(task, make()).probabilities == pytest.approx(expected, abs=0.02)


def test_the_asynchronous_client_answers_the_same(triton: Any, client: Client, film_path: Path) -> None:
    async def main() -> list[Any]:
        async with AsyncClient(triton.grpc_url, timeout_s=30) as other:
            return [outcome async for outcome in other.classify_many("xray", [film_path] * 20)]

    expected = client.classify_xray(film_path)
    for result in asyncio.run(main()):
        assert (result.label, result.threshold) == (expected.label, expected.threshold)
        assert result.probabilities == pytest.approx(expected.probabilities, abs=1e-3)


def test_an_unknown_version_is_a_model_not_found(client: Client, film_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="xray_densenet121 version 999"):
        client.classify_xray(film_path, model_version="999")


def test_many_keep_their_order_around_a_bad_file(client: Client, film_path: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    results = list(client.classify_many("xray", [film_path] * 6 + [bad] + [film_path] * 6, in_flight=4))
    assert [type(result) for result in results] == [Classification] * 6 + [InvalidImage] + [Classification] * 6


def test_the_server_is_ready_and_lists_both_classifiers(client: Client) -> None:
    client.wait_until_ready(30)
    ready = {model.name for model in client.status().models if model.ready}
    assert {task.classifier for task in TASKS.values()} <= ready


def test_the_module_function_calls_the_server_of_the_variable(
    triton: Any, film_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DENSESCAN_URL", triton.grpc_url)
    assert densescan.classify_xray(film_path, timeout_s=30).label in XRAY.labels


def test_the_command_classifies_and_prints_a_table(command: Any, film_path: Path) -> None:
    done = command("classify", "xray", film_path)
    assert done.returncode == 0, done.stderr
    assert str(film_path) in done.stdout


def test_the_command_prints_json(command: Any, film_path: Path) -> None:
    done = command("classify", "mri", film_path, film_path, "--json")
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["task"] for line in done.stdout.splitlines()] == ["mri", "mri"]


def test_the_command_shows_the_status(command: Any) -> None:
    done = command("status", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ready"] is True
