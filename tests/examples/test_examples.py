"""The examples, run as their readers would, against the real server."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import descriptor_pb2

from densescan import Client
from server import EmbeddedTriton
from tests.client import dicom_files

from .conftest import EXAMPLES

pytestmark = pytest.mark.triton


def test_the_stubs_of_python_alone_answer_as_the_sdk(
    quick_server: EmbeddedTriton, film: Path, expected: dict[str, float]
) -> None:
    command = [sys.executable, EXAMPLES / "python_stubs/classify.py", "xray", film, quick_server.grpc_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    answered = {label: float(probability) for probability, label in map(str.split, done.stdout.splitlines())}
    assert answered == pytest.approx(expected, abs=1e-3)
    assert list(answered.values()) == sorted(answered.values(), reverse=True)


@pytest.mark.parametrize("command", [[sys.executable, "python_stubs/classify.py"], ["bash", "curl/classify.sh"]])
def test_without_arguments_they_say_how_they_are_called(command: list[str]) -> None:
    done = subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True, timeout=60)
    assert done.returncode in (1, 2)
    assert "[HOST:PORT]" in done.stderr
    assert "Traceback" not in done.stderr


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
