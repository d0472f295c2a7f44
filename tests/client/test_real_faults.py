"""The SDK against the real tritonserver where things go wrong: killed, stopped, full, out of date."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from densescan import Classification, Client
from densescan.errors import DeadlineExceeded, DensescanError, ModelNotFound, Overloaded, ServerUnavailable
from densescan.tasks import TASKS
from server import EmbeddedTriton
from tests.docker import certificates
from tests.server.conftest import eventually

from .quick_models import Gate, write_repository

pytestmark = pytest.mark.triton

BRIGHT = np.full((224, 224), 220, np.uint8)
BRIGHT[:, :20] = 200


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Gate:
    return Gate(tmp_path_factory.mktemp("gate"))


@pytest.fixture(scope="module")
def repository(gate: Gate, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_repository(tmp_path_factory.mktemp("quick"), gate=gate)


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[EmbeddedTriton]:
    models = [task.classifier for task in TASKS.values()] + ["xray_gradcam"]
    with EmbeddedTriton(repository, models=models, exit_timeout_s=2) as triton:
        yield triton


@contextmanager
def takes(least: float, most: float) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert least <= time.monotonic() - start <= most


def kill(server: EmbeddedTriton) -> None:
    server.send_signal(signal.SIGKILL)
    server.wait()


def freeze(server: EmbeddedTriton) -> None:
    """Stop its process, and wait for that: on a busy machine it may answer once more before it is stopped."""
    server.send_signal(signal.SIGSTOP)
    deadline = time.monotonic() + 20
    while any(
        thread.read_text().rpartition(")")[2].split()[0] != "T"
        for thread in Path(f"/proc/{server.pid}/task").glob("*/stat")
    ):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_model_answers_with_its_operating_point(server: EmbeddedTriton) -> None:
    with Client(server.grpc_url) as client:
        result = client.classify_xray(BRIGHT)
    assert (result.label, result.threshold, result.model_version) == ("PNEUMONIA", 0.25, "1")
    assert result.confidence == pytest.approx(BRIGHT.mean() / 255, abs=1e-3)


def test_a_wrong_version_is_a_model_not_found_at_once(server: EmbeddedTriton) -> None:
    with Client(server.grpc_url, retries=9) as client:
        client.status()  # connecting has its own time
        with takes(0, 2):
            with pytest.raises(ModelNotFound, match="version 7") as caught:
                client.classify_xray(BRIGHT, model_version="7")
            assert not caught.value.transient
            with pytest.raises(ModelNotFound, match="xray_gradcam version 7"):
                client.explain_xray(BRIGHT, model_version="7")


def test_a_full_queue_is_overloaded_at_once_and_spoils_nobody_else(server: EmbeddedTriton, gate: Gate) -> None:
    with Client(server.grpc_url, retries=200) as client, ThreadPoolExecutor(8) as pool:
        client.status(timeout_s=60)
        with gate.closed():
            calls = [pool.submit(client.classify_mri, BRIGHT, timeout_s=60) for _ in range(8)]
            assert eventually(lambda: sum(call.done() for call in calls) >= 3, 50)
            at_once = [type(call.exception()) for call in calls if call.done()]
        outcomes = [type(call.exception() or call.result()) for call in calls]
    assert set(at_once) == {Overloaded}
    # On a slow machine some may be sent only when the others are being answered.
    assert set(outcomes) == {Overloaded, Classification}
    assert 2 <= outcomes.count(Classification) <= 5


def test_who_asks_for_it_waits_until_the_queue_has_room(server: EmbeddedTriton) -> None:
    with Client(server.grpc_url, retry_overloaded=True, retries=20, timeout_s=20) as client:
        results = list(client.classify_many("mri", [BRIGHT] * 5, in_flight=5))
    assert all(isinstance(result, Classification) for result in results)


def test_a_stopped_process_is_a_deadline_exceeded_in_time(server: EmbeddedTriton) -> None:
    with Client(server.grpc_url, retries=9) as client:
        client.classify_xray(BRIGHT)
        freeze(server)
        try:
            with takes(0.4, 4), pytest.raises(DeadlineExceeded):
                client.classify_xray(BRIGHT, timeout_s=0.5)
            with Client(server.grpc_url) as stranger, takes(0.4, 4), pytest.raises(ServerUnavailable):
                stranger.classify_xray(BRIGHT, timeout_s=0.5)
        finally:
            server.send_signal(signal.SIGCONT)
        assert client.classify_xray(BRIGHT).label == "PNEUMONIA"


def test_leaving_early_cancels_at_the_server(server: EmbeddedTriton, gate: Gate) -> None:
    """A request whose caller has given up frees its place in the queue."""
    before = _executed(server, "mri_densenet121")
    with Client(server.grpc_url, retry_overloaded=True, retries=20, timeout_s=60) as client:
        client.status()
        with ThreadPoolExecutor(2) as pool, gate.closed():
            waiting = [pool.submit(client.classify_mri, BRIGHT, timeout_s=2) for _ in range(2)]
            for call in waiting:
                with pytest.raises(DeadlineExceeded):
                    call.result()
            client.status()  # behind the news, on the same connection, that they have left
        client.classify_mri(BRIGHT)  # behind whatever is still waiting
    # The one that was executing and ours; the one that waited behind it was dropped.
    assert _executed(server, "mri_densenet121") - before <= 2


@pytest.mark.slow
def test_a_server_killed_in_mid_call_is_unavailable_and_found_again_when_it_is_back(
    server: EmbeddedTriton, gate: Gate
) -> None:
    with Client(server.grpc_url, timeout_s=60) as client, ThreadPoolExecutor(1) as pool:
        client.status()
        with gate.closed():
            call = pool.submit(client.classify_mri, BRIGHT)
            assert eventually(gate.entered, 50)
            kill(server)
            with takes(0, 8), pytest.raises(ServerUnavailable) as caught:
                call.result()
            assert caught.value.transient

        patient = Client(server.grpc_url, timeout_s=180, retries=200)
        call = pool.submit(patient.classify_mri, BRIGHT)
        server.restart()
        assert call.result().label == "pituitary"
        assert client.classify_xray(BRIGHT).label == "PNEUMONIA"
        patient.close()


@pytest.mark.slow
def test_a_call_survives_a_kill_and_a_restart_when_it_may_be_sent_again(server: EmbeddedTriton, gate: Gate) -> None:
    with Client(server.grpc_url, timeout_s=180, retries=200) as client, ThreadPoolExecutor(1) as pool:
        client.status()
        with gate.closed():
            call = pool.submit(client.classify_mri, BRIGHT)
            assert eventually(gate.entered, 50)
            kill(server)
        server.restart()
        assert call.result().label == "pituitary"


@pytest.mark.slow
def test_of_several_servers_one_may_die(server: EmbeddedTriton, repository: Path) -> None:
    with (
        EmbeddedTriton(repository, models=["xray_densenet121"], exit_timeout_s=2) as other,
        Client(f"{server.grpc_url},{other.grpc_url}", timeout_s=5) as client,
    ):
        # Turns are taken by those that are connected, and calls begin with the first that is.
        deadline = time.monotonic() + 10
        while not _executed(other, "xray_densenet121"):
            assert time.monotonic() < deadline, "the second is never asked"
            client.classify_xray(BRIGHT)
        before = [_executed(each, "xray_densenet121") for each in (server, other)]
        for _ in range(8):
            client.classify_xray(BRIGHT)
        after = [_executed(each, "xray_densenet121") for each in (server, other)]
        # An answer may come a moment before it is counted.
        assert min(b - a for a, b in zip(before, after, strict=True)) >= 3, "they take turns"
        killer = threading.Timer(0.2, kill, [other])
        killer.start()
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            client.classify_xray(BRIGHT)
        killer.join()


@pytest.mark.slow
def test_an_unloaded_model_is_not_found_until_it_is_loaded_again(repository: Path) -> None:
    from tritonclient.grpc import InferenceServerClient

    name = "xray_densenet121"
    options = ["--model-control-mode=explicit", "--load-model=*"]
    with (
        EmbeddedTriton(repository, models=[name], exit_timeout_s=2, extra_options=options) as server,
        Client(server.grpc_url) as client,
        InferenceServerClient(server.grpc_url) as control,
    ):
        assert client.classify_xray(BRIGHT).label == "PNEUMONIA"
        outcomes: list[Any] = list(client.classify_many("xray", [BRIGHT] * 8))
        unloading = threading.Timer(0.3, control.unload_model, [name])
        unloading.start()
        end = time.monotonic() + 60
        while time.monotonic() < end and not any(isinstance(each, DensescanError) for each in outcomes):
            outcomes += client.classify_many("xray", [BRIGHT] * 8)
        unloading.join()
        assert isinstance(outcomes[0], Classification)
        refused = [each for each in outcomes if not isinstance(each, Classification)]
        assert {type(each) for each in refused} == {ModelNotFound}, (
            "requests under way are answered, later ones refused"
        )
        assert f"{server.grpc_url} does not serve {name}" in str(refused[0])
        with takes(0, 4), pytest.raises(ModelNotFound):
            client.classify_xray(BRIGHT)
        assert [model.ready for model in client.status().models] == [False]
        control.load_model(name)
        assert client.classify_xray(BRIGHT).label == "PNEUMONIA"


def _executed(server: EmbeddedTriton, model: str) -> int:
    from tritonclient.grpc import InferenceServerClient

    with InferenceServerClient(server.grpc_url) as client:
        statistics = client.get_inference_statistics(model)
    return int(statistics.model_stats[0].inference_count)


@pytest.mark.slow
def test_mutual_tls_lets_in_who_has_a_certificate(repository: Path, tmp_path: Path) -> None:
    folder = certificates.make(tmp_path / "tls")
    files = {
        "tls_cert": folder / "server.pem",
        "tls_key": folder / "server-key.pem",
        "tls_client_ca": folder / "ca.pem",
    }
    ours = {"client_certificate": folder / "client.pem", "client_key": folder / "client-key.pem"}
    with EmbeddedTriton(repository, models=["xray_densenet121"], exit_timeout_s=2, **files) as server:
        port = server.grpc_url.rpartition(":")[2]
        with Client(server.grpc_url, ca_certificate=folder / "ca.pem", **ours) as client:
            assert client.classify_xray(BRIGHT, timeout_s=20).label == "PNEUMONIA"
        with Client(f"127.0.0.1:{port},127.0.0.1:{port}", ca_certificate=folder / "ca.pem", **ours) as client:
            assert client.is_ready()
        strangers: list[dict[str, Any]] = [
            {},
            {"ca_certificate": folder / "ca.pem"},
            {"tls": True, **ours},
            {"ca_certificate": folder / "ca.pem", "server_name": "somebody.else", **ours},
        ]
        for options in strangers:
            with Client(server.grpc_url, timeout_s=2, **options) as client, pytest.raises(ServerUnavailable):
                client.classify_xray(BRIGHT)
