"""The real tritonserver, with tiny networks."""

from __future__ import annotations

import os
import signal
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput

from server import EmbeddedTriton, ServerStartError

from . import tiny
from .conftest import eventually, processes_mentioning

pytestmark = pytest.mark.triton


def ask(triton: EmbeddedTriton, images: np.ndarray) -> np.ndarray:
    tensor = InferInput("image", list(images.shape), "UINT8")
    tensor.set_data_from_numpy(images)
    with InferenceServerClient(triton.grpc_url) as client:
        answer: np.ndarray = client.infer("tiny", [tensor], client_timeout=20).as_numpy("probabilities")
    return answer


@pytest.mark.parametrize("profile", ["tiny_cpu", "tiny_gpu"])
def test_each_profile_answers_right(profile: str, request: pytest.FixtureRequest) -> None:
    images = tiny.pictures(3)
    answer = ask(request.getfixturevalue(profile), images)
    np.testing.assert_allclose(answer, tiny.expected_probabilities(images), atol=1e-5)


def test_each_profile_reads_its_own_config(tiny_cpu: EmbeddedTriton, tiny_gpu: EmbeddedTriton) -> None:
    for triton, backend in ((tiny_cpu, "densescan_openvino"), (tiny_gpu, "onnxruntime")):
        with InferenceServerClient(triton.grpc_url) as client:
            assert client.get_model_config("tiny").config.backend == backend


def test_what_was_adapted_is_said(tiny_cpu: EmbeddedTriton, tiny_gpu: EmbeddedTriton) -> None:
    assert tiny_cpu.notes == []
    assert any("No GPU" in note for note in tiny_gpu.notes)


def test_callers_at_one_moment_share_an_inference(tiny_cpu: EmbeddedTriton) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def counts(client: InferenceServerClient) -> tuple[int, int]:
        (stats,) = client.get_inference_statistics("tiny").model_stats
        return stats.inference_count, stats.execution_count

    def settled(client: InferenceServerClient) -> bool:
        seen = counts(client)
        time.sleep(0.3)
        return counts(client) == seen

    with InferenceServerClient(tiny_cpu.grpc_url) as client:
        assert eventually(lambda: settled(client))  # what others asked before is counted a moment later as well
        before = counts(client)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda seed: ask(tiny_cpu, tiny.pictures(1, seed)), range(16)))
        # Counted after they are answered.
        assert eventually(lambda: counts(client)[0] - before[0] >= 16)
        images, executions = (after - first for after, first in zip(counts(client), before, strict=True))
    assert images == 16
    assert executions < 16


def test_it_listens_on_this_machine_only_and_exports_metrics(tiny_cpu: EmbeddedTriton) -> None:
    assert tiny_cpu.grpc_url.startswith("127.0.0.1:")
    with urllib.request.urlopen(tiny_cpu.metrics_url, timeout=10) as page:
        assert b'nv_inference_request_success{model="tiny"' in page.read()
    port = f"{int(tiny_cpu.grpc_url.rpartition(':')[2]):04X}"
    tables = [Path("/proc/net", name).read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    local = [line.split()[1].split(":") for table in tables for line in table if line.split()[3] == "0A"]
    addresses = {address for address, number in local if number == port}
    assert addresses
    # 127.0.0.1, also as gRPC writes it: in the form of an IPv6 address.
    assert addresses <= {"0100007F", "0000000000000000FFFF00000100007F"}


def test_nothing_is_left_behind(tiny_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    regions = set(os.listdir("/dev/shm"))
    with EmbeddedTriton(tiny_repository) as triton:
        port = triton.grpc_url.rpartition(":")[2]
        assert list(tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == []
    assert eventually(lambda: processes_mentioning(f"--grpc-port={port}") == [])
    assert {name for name in set(os.listdir("/dev/shm")) - regions if name.startswith(triton._regions.prefix)} == set()


def test_a_model_that_cannot_be_loaded_ends_the_start_with_tritons_own_words(
    tiny_repository: Path, tmp_path: Path
) -> None:
    import shutil

    root = tmp_path / "repository"
    shutil.copytree(tiny_repository, root)
    (root / "tiny/1/model.xml").write_text("<net")
    triton = EmbeddedTriton(root, start_timeout_s=60)
    with pytest.raises(ServerStartError) as caught:
        triton.start()
    assert "tiny" in "\n".join(caught.value.log_tail)


def test_it_can_be_started_once_only(tiny_cpu: EmbeddedTriton) -> None:
    with pytest.raises(RuntimeError, match="started already"):
        tiny_cpu.start()


def test_a_server_that_does_not_end_when_it_is_told_to_is_ended_by_force(tiny_repository: Path) -> None:
    with EmbeddedTriton(tiny_repository, exit_timeout_s=0) as triton:
        os.kill(triton.pid, signal.SIGSTOP)  # it does not even hear of it
        triton.send_signal(signal.SIGTERM)
        assert triton.wait() == -signal.SIGKILL
