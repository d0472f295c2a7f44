"""More than the server can do: everybody is told something, and nothing is left behind."""

from __future__ import annotations

import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from densescan.tasks import XRAY
from loadtest.callers import run
from loadtest.pictures import write_phantoms
from loadtest.ways import Load, Target, served_files
from server import EmbeddedTriton
from tests.server.conftest import eventually

pytestmark = pytest.mark.triton


@pytest.fixture(scope="module")
def narrow(repository_of_tiny_networks: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedTriton]:
    """A server whose network has a queue of two, behind a decoder whose queue holds many."""
    root = tmp_path_factory.mktemp("narrow") / "repository"
    shutil.copytree(repository_of_tiny_networks, root)
    config = root / XRAY.classifier / "configs/cpu.pbtxt"
    text = config.read_text(encoding="utf-8")
    assert "max_queue_size: 128" in text
    config.write_text(text.replace("max_queue_size: 128", "max_queue_size: 2"), encoding="utf-8")
    with EmbeddedTriton(root, models=[XRAY.ensemble]) as triton:
        yield triton


@pytest.mark.parametrize(
    "ways", [("ready",), ("encoded_ready",), ("ready", "encoded_ready"), ("sdk_array",)], ids="+".join
)
def test_whoever_is_refused_is_told_so_within_the_deadline(
    narrow: EmbeddedTriton, tmp_path: Path, ways: tuple[str, ...]
) -> None:
    """Also behind the ensemble, where Triton before 26.03 may leave a request whose inner step is refused."""
    files = served_files(write_phantoms(XRAY, tmp_path, count=2))
    targets = tuple(Target(way, XRAY.name, narrow.grpc_url, files, timeout_s=20) for way in ways)
    answered = refused = 0
    for _ in range(10):  # on a slow machine one run may be too short for an answer
        outcome = run(Load(targets, callers=32, seconds=1.5, warm_up_s=0.2))
        assert set(outcome.failures) <= {"Overloaded"}
        answered += outcome.in_time
        refused += outcome.failures["Overloaded"]
        if answered and refused:
            break
    assert answered
    assert refused
    assert eventually(lambda: pending(narrow) == 0)


def test_after_the_flood_the_server_answers_as_before(narrow: EmbeddedTriton, tmp_path: Path) -> None:
    files = served_files(write_phantoms(XRAY, tmp_path, count=2))
    for way in ("ready", "encoded_ready"):
        target = Target(way, XRAY.name, narrow.grpc_url, files, timeout_s=20)
        for _ in range(10):
            outcome = run(Load((target,), callers=1, seconds=2, warm_up_s=0))
            assert outcome.failures == {}
            if outcome.in_time:
                break
        assert outcome.in_time > 0


def pending(triton: Any) -> float:
    """Requests that lie in any queue, by the server's own count."""
    with urllib.request.urlopen(triton.metrics_url, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    counts = [line.rpartition(" ")[2] for line in lines if line.startswith("nv_inference_pending_request_count{")]
    assert counts
    return sum(map(float, counts))
