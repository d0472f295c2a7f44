"""The examples, run as their readers would, against the real server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2

from densescan import Client
from server import EmbeddedTriton
from tests.client import dicom_files

from .conftest import EXAMPLES

pytestmark = pytest.mark.triton


@pytest.fixture(scope="module")
def expected(quick_server: EmbeddedTriton, film: Path) -> dict[str, float]:
    """What the SDK answers for the same file."""
    with Client(quick_server.grpc_url) as client:
        return dict(client.classify_xray(film).probabilities)


def test_the_stubs_of_python_alone_answer_as_the_sdk(
    quick_server: EmbeddedTriton, film: Path, expected: dict[str, float]
) -> None:
    command = [sys.executable, EXAMPLES / "python_stubs/classify.py", "xray", film, quick_server.grpc_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    answered = {label: float(probability) for probability, label in map(str.split, done.stdout.splitlines())}
    assert answered == pytest.approx(expected, abs=1e-3)
    assert list(answered.values()) == sorted(answered.values(), reverse=True)


def test_the_server_decodes_dicom_as_the_sdk_does(quick_server: EmbeddedTriton, tmp_path: Path) -> None:
    levels = np.tile(np.arange(256, dtype=np.uint16), (64, 1))
    path = tmp_path / "film.dcm"
    elements = {"WindowCenter": 200, "WindowWidth": 60, "PhotometricInterpretation": "MONOCHROME1"}
    path.write_bytes(dicom_files.saved(dicom_files.dataset(levels, bits=12, **elements)))
    command = [sys.executable, EXAMPLES / "python_stubs/classify.py", "xray", path, quick_server.grpc_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    with Client(quick_server.grpc_url) as client:
        expected = client.classify_xray(path).probabilities
    answered = {label: float(probability) for probability, label in map(str.split, done.stdout.splitlines())}
    assert answered == pytest.approx(expected, abs=1e-3)


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
@pytest.mark.parametrize("padding", [0, 300, 70_000])
def test_curl_answers_as_the_sdk(
    quick_server: EmbeddedTriton, film: Path, expected: dict[str, float], tmp_path: Path, padding: int
) -> None:
    path = tmp_path / "film.png"
    path.write_bytes(film.read_bytes() + bytes(padding))  # another length; a decoder stops at the end mark
    command = ["bash", EXAMPLES / "curl/classify.sh", "xray", path, quick_server.http_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    entries = [entry.split(":") for entry in json.loads(done.stdout)["outputs"][0]["data"]]
    assert {label: float(p) for p, _, label in entries} == pytest.approx(expected, abs=1e-3)


def test_the_descriptors_hold_the_service_and_all_that_it_needs(tmp_path: Path) -> None:
    path = tmp_path / "triton.binpb"
    subprocess.run([sys.executable, EXAMPLES / "descriptors.py", path], check=True, timeout=60)
    files = descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()).file
    names = [file.name for file in files]
    for file in files:
        assert all(names.index(needed) < names.index(file.name) for needed in file.dependency)
    assert [service.name for file in files for service in file.service] == ["GRPCInferenceService"]


@pytest.fixture(scope="module")
def service(quick_server: EmbeddedTriton, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The TypeScript service, installed, compiled and started; its address."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("there is no node and npm")
    folder = tmp_path_factory.mktemp("node") / "service"
    shutil.copytree(EXAMPLES / "node", folder, ignore=shutil.ignore_patterns("node_modules", "dist", "*.binpb"))
    subprocess.run([sys.executable, EXAMPLES / "descriptors.py", folder / "triton.binpb"], check=True, timeout=60)
    install = [
        "npm",
        "install",
        "--no-audit",
        "--no-fund",
        "--no-package-lock",
        "--ignore-scripts",
        "--fetch-retries=0",
    ]
    done = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=180)
    if done.returncode != 0:
        pytest.skip(f"npm cannot install here: {done.stderr.strip()[-200:]}")
    subprocess.run(["npm", "run", "build"], cwd=folder, check=True, capture_output=True, timeout=120)
    variables = {**os.environ, "DENSESCAN_URL": quick_server.grpc_url, "PORT": "0"}
    with subprocess.Popen(
        ["node", "dist/server.js"], cwd=folder, env=variables, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        port = process.stdout.readline().rpartition(" ")[2].strip()
        yield f"http://127.0.0.1:{port}"
        process.terminate()
        process.wait(10)


def post(url: str, body: bytes | None) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=20) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.slow
def test_the_typescript_service_answers_as_the_sdk(
    service: str, quick_server: EmbeddedTriton, film: Path, expected: dict[str, float]
) -> None:
    code, answer = post(f"{service}/xray", film.read_bytes())
    assert code == 200
    assert answer["probabilities"] == pytest.approx(expected, abs=1e-3)
    with Client(quick_server.grpc_url) as client:
        result = client.classify_xray(film)
        slice_ = client.classify_mri(film)
    assert (answer["label"], answer["threshold"]) == (result.label, result.threshold)
    assert answer["confidence"] == pytest.approx(result.confidence, abs=1e-3)
    code, answer = post(f"{service}/mri", film.read_bytes())
    assert (answer["label"], answer["threshold"]) == (slice_.label, None)


@pytest.mark.slow
def test_the_typescript_service_decides_by_the_operating_point_of_the_server(service: str, tmp_path: Path) -> None:
    """The stand-in's probability is the brightness, and its operating point 0.25: below one half, and above it."""
    from PIL import Image

    for level, label in ((40, "NORMAL"), (90, "PNEUMONIA")):
        pixels = np.full((64, 64), level, np.uint8)
        pixels[0] = level + 20
        path = tmp_path / "film.png"
        Image.fromarray(pixels).save(path)
        assert post(f"{service}/xray", path.read_bytes())[1]["label"] == label


@pytest.mark.slow
def test_the_typescript_service_tells_the_callers_fault_from_its_own(service: str) -> None:
    assert post(f"{service}/xray", b"no picture")[0] == 400
    assert post(f"{service}/ct", b"x")[0] == 404
    assert post(f"{service}/xray", None)[0] == 405
    assert post(f"{service}/mri", bytes(64 * 2**20 + 1))[0] in (400, 413)
