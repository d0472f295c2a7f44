"""Load on a server with certificates, as the SDK's own variables say."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from densescan import Client
from densescan.tasks import XRAY
from loadtest import running
from loadtest.connection import Connection, own_server
from loadtest.pictures import write_phantoms
from loadtest.ways import WAYS, Target, opened, served_files
from server import EmbeddedTriton
from tests.client.fake_server import FakeTriton, answer
from tests.docker import certificates

from .test_bench import PLAN
from .test_locust import LONGER
from .test_locust import run as press


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates.make(tmp_path_factory.mktemp("tls"), "--client", "bench")


@pytest.fixture(scope="module")
def mutual(folder: Path, repository_of_tiny_networks: Path) -> Iterator[EmbeddedTriton]:
    """A server that answers only who shows a certificate."""
    files = {
        "tls_cert": folder / "server.pem",
        "tls_key": folder / "server-key.pem",
        "tls_client_ca": folder / "ca.pem",
    }
    with EmbeddedTriton(repository_of_tiny_networks, **files) as triton:
        yield triton


@pytest.fixture
def certified(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of somebody whom that server answers."""
    monkeypatch.setenv("DENSESCAN_CA_CERTIFICATE", str(folder / "ca.pem"))
    monkeypatch.setenv("DENSESCAN_CLIENT_CERTIFICATE", str(folder / "bench.pem"))
    monkeypatch.setenv("DENSESCAN_CLIENT_KEY", str(folder / "bench-key.pem"))
    monkeypatch.setenv("DENSESCAN_METADATA", "authorization=secret")


@pytest.mark.triton
@pytest.mark.usefixtures("certified")
class TestAServerWithCertificates:
    def test_is_measured(self, mutual: EmbeddedTriton, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(running, "CALLERS", (1, 4))
        report = running.measure_running(mutual.grpc_url, "a tiny server", PLAN, lambda what: None)
        assert all(point["executed"] for point in report["closed"].values())
        ways = [point for turn in report["rounds"] for point in turn.values()]
        assert len(ways) == 10
        assert not any(point["failures"] for point in ways)

    def test_is_pressed(self, mutual: EmbeddedTriton, tmp_path: Path) -> None:
        words = ("--task-mix=encoded=1", "--url", mutual.grpc_url, "--report", tmp_path / "report.html")
        for seconds in LONGER:
            ran = press(*words, seconds=seconds)
            if "no call was made" not in ran.stderr:
                break
        assert ran.returncode == 0, ran.stderr

    def test_does_not_change_how_a_server_of_ones_own_is_reached(self, repository_of_tiny_networks: Path) -> None:
        set_before = {name: os.environ[name] for name in os.environ if name.startswith("DENSESCAN_C")}
        with own_server(repository_of_tiny_networks, [XRAY.classifier]) as triton, Client(triton.grpc_url) as client:
            client.wait_until_ready(timeout_s=60)
        assert {name: os.environ[name] for name in os.environ if name.startswith("DENSESCAN_C")} == set_before


@pytest.mark.parametrize("way", [way for way in WAYS if not way.startswith("http")])
def test_every_call_brings_its_metadata(way: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DENSESCAN_METADATA", "authorization=secret")
    server, brought = FakeTriton(), []

    def on_infer(request: Any, context: Any) -> Any:
        brought.append(dict(context.invocation_metadata()))
        return answer([0.2, 0.8])

    server.on_infer = on_infer
    try:
        files = served_files(write_phantoms(XRAY, tmp_path))
        with opened(Target(way, XRAY.name, server.url, files)) as call:
            call(0)
        assert [metadata["authorization"] for metadata in brought] == ["secret"]
    finally:
        server.stop()


def test_a_certificate_that_cannot_be_read_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENSESCAN_CA_CERTIFICATE", "nowhere.pem")
    with pytest.raises(ValueError, match=r"nowhere\.pem cannot be read"):
        Connection("localhost:8001")
