"""The example services in TypeScript and in Go, built and run as their readers would, against the real server."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from densescan import Client
from server import EmbeddedTriton

from . import go_packages
from .conftest import EXAMPLES

# Building the service in Go takes minutes on a slow machine.
pytestmark = [pytest.mark.triton, pytest.mark.slow, pytest.mark.timeout(2400)]

Built = tuple[list[str], Path]
"""The command that starts a service, and the folder to start it in."""


def build_node(folder: Path) -> Built:
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("there is no node and npm")
    service = folder / "service"
    shutil.copytree(EXAMPLES / "node", service, ignore=shutil.ignore_patterns("node_modules", "dist", "*.binpb"))
    subprocess.run([sys.executable, EXAMPLES / "descriptors.py", service / "triton.binpb"], check=True, timeout=60)
    quiet = ["--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--fetch-retries=0"]
    try:
        done = subprocess.run(["npm", "install", *quiet], cwd=service, capture_output=True, text=True, timeout=180)
    except subprocess.TimeoutExpired:
        pytest.skip("npm cannot install here: it did not end in 180 s")
    if done.returncode != 0:
        pytest.skip(f"npm cannot install here: {done.stderr.strip()[-200:]}")
    subprocess.run(["npm", "run", "build"], cwd=service, check=True, capture_output=True, timeout=120)
    return ["node", "dist/server.js"], service


def build_go(folder: Path) -> Built:
    try:
        root = go_packages.unpacked(folder / "packages")
    except go_packages.NotToBeHad as error:
        pytest.skip(str(error))
    service = folder / "src/densescan.example/service"
    shutil.copytree(EXAMPLES / "go", service, ignore=shutil.ignore_patterns("triton", "service"))
    variables = {
        **os.environ,
        "PATH": os.pathsep.join([str(root / "usr/bin"), os.environ["PATH"]]),
        "GOROOT": str(go_packages.goroot(root)),
        "GOPATH": os.pathsep.join([str(folder), str(root / "usr/share/gocode")]),
        "GOCACHE": str(folder / "cache"),
        "GO111MODULE": "off",  # Debian's packages are no modules
        "GOTOOLCHAIN": "local",
    }
    go = str(go_packages.goroot(root) / "bin/go")
    unformatted = subprocess.run(
        [f"{go}fmt", "-l", *service.glob("*.go")], check=True, capture_output=True, env=variables, timeout=60
    )
    assert unformatted.stdout == b""
    for command in (
        [sys.executable, EXAMPLES / "go/generate.py"],
        [go, "build", "-o", "service", "."],
        [go, "vet", "."],
    ):
        done = subprocess.run(command, cwd=service, env=variables, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stdout + done.stderr
    return ["./service"], service


BUILDS: dict[str, Callable[[Path], Built]] = {"node": build_node, "go": build_go}


@pytest.fixture(scope="module", params=BUILDS)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return BUILDS[request.param](tmp_path_factory.mktemp(request.param))


@contextmanager
def started(built: Built, triton_url: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address and the process of a service that asks this server."""
    command, folder = built
    variables = {**os.environ, "DENSESCAN_URL": triton_url, "PORT": "0"}
    with subprocess.Popen(command, cwd=folder, env=variables, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().rpartition(" ")[2].strip()
            yield f"http://127.0.0.1:{port}", process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def service(built: Built, quick_server: EmbeddedTriton) -> Iterator[str]:
    with started(built, quick_server.grpc_url) as (url, _):
        yield url


def post(url: str, body: bytes | None) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=20) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_it_answers_as_the_sdk(
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
    assert answer["confidence"] == pytest.approx(slice_.confidence, abs=1e-3)


def test_it_decides_by_the_operating_point_of_the_server(service: str, tmp_path: Path) -> None:
    """The stand-in's probability is the brightness, and its operating point 0.25: below one half, and above it."""
    for level, label in ((40, "NORMAL"), (90, "PNEUMONIA")):
        pixels = np.full((64, 64), level, np.uint8)
        pixels[0] = level + 20
        path = tmp_path / "film.png"
        Image.fromarray(pixels).save(path)
        answer = post(f"{service}/xray", path.read_bytes())[1]
        assert answer["label"] == label
        assert answer["confidence"] == answer["probabilities"][label]


def test_it_tells_the_callers_fault_from_its_own(service: str) -> None:
    assert post(f"{service}/xray", b"no picture")[0] == 400
    assert post(f"{service}/ct", b"x")[0] == 404
    assert post(f"{service}/xray", None)[0] == 405
    assert post(f"{service}/mri", bytes(64 * 2**20 + 1))[0] in (400, 413)


def test_a_caller_who_sends_far_too_much_hears_why(service: str) -> None:
    """And is not cut off while still sending."""
    assert post(f"{service}/xray", bytes(100 * 2**20))[0] == 413


def test_without_a_server_it_says_to_try_again(built: Built, film: Path) -> None:
    with started(built, "127.0.0.1:1") as (url, _), pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(urllib.request.Request(f"{url}/xray", data=film.read_bytes()), timeout=20)
    with caught.value as error:
        assert (error.code, error.headers["retry-after"]) == (503, "1")


def test_a_server_that_does_not_answer_is_504_in_time(built: Built, film: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        started(built, f"127.0.0.1:{silent.getsockname()[1]}") as (
            url,
            _,
        ),
    ):
        start = time.monotonic()
        code, _ = post(f"{url}/xray", film.read_bytes())
        assert code in (503, 504), "no connection, or no answer"
        assert time.monotonic() - start < 15


def test_it_ends_when_it_is_told_to(built: Built) -> None:
    with started(built, "127.0.0.1:1") as (_, process):
        process.terminate()
        assert process.wait(10) == 0
