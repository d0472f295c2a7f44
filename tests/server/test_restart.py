from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server import EmbeddedTriton, ServerStartError
from server.environment import free_ports
from server.supervision import RestartPolicy, keep_running

from . import tiny
from .conftest import eventually, processes_mentioning

ROOT = Path(__file__).resolve().parents[2]


class Script:
    """A server that ends as it is told to: an exit code is a run that ended so, an error a start that failed."""

    def __init__(self, *fate: int | ServerStartError) -> None:
        self.fate = list(fate)
        self.starts = 1
        self.code = 0

    def wait(self) -> int:
        if self.fate and isinstance(self.fate[0], int):
            self.code = int(self.fate.pop(0))
        return self.code

    def restart(self) -> None:
        self.starts += 1
        if self.fate and isinstance(self.fate[0], ServerStartError):
            raise self.fate.pop(0)


FAILED = ServerStartError("a port is taken")


def test_a_server_that_ends_well_is_not_started_again() -> None:
    server = Script(0, -9)
    assert keep_running(server, RestartPolicy(), sleep=pytest.fail) == 0
    assert server.starts == 1


def test_a_crash_is_followed_by_a_start() -> None:
    server, waits, told = Script(-11, 0), [], []
    assert keep_running(server, RestartPolicy(), sleep=waits.append, on_event=told.append) == 0
    assert (server.starts, waits) == (2, [0.5])
    assert told == [
        "tritonserver ended with exit code -11; start 1 of 5 again in 0.5 s",
        "tritonserver serves again",
    ]


def test_crashes_in_a_row_are_given_longer_and_longer_and_then_up() -> None:
    server, waits = Script(*[-9] * 20), []
    assert keep_running(server, RestartPolicy(restarts=8), sleep=waits.append, on_event=lambda _: None) == -9
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_starts_that_fail_count_as_crashes() -> None:
    server, waits = Script(-9, FAILED, FAILED, FAILED), []
    assert keep_running(server, RestartPolicy(restarts=3), sleep=waits.append, on_event=lambda _: None) == -9
    assert (server.starts, waits) == (4, [0.5, 1, 2])


def test_after_a_steady_run_the_count_begins_anew() -> None:
    server, waits = Script(-9, -9, -9, -9, 0), []
    policy = RestartPolicy(restarts=1, steady_after_s=0)
    assert keep_running(server, policy, sleep=waits.append, on_event=lambda _: None) == 0
    assert waits == [0.5] * 4


def test_an_end_that_was_asked_for_is_one() -> None:
    server = Script(-15)
    assert keep_running(server, RestartPolicy(), stopping=lambda: True, sleep=pytest.fail) == -15


def test_an_end_that_is_asked_for_while_it_starts_again_is_one_too() -> None:
    server, stopping = Script(-9, FAILED, FAILED), []
    told: Callable[[str], None] = lambda text: stopping.append(True) if "did not start" in text else None  # noqa: E731
    code = keep_running(server, RestartPolicy(), stopping=lambda: bool(stopping), sleep=lambda _: None, on_event=told)
    assert (code, server.starts) == (-9, 2)


def test_one_that_ends_as_told_before_it_was_seen_to_be_ready_again_has_ended_well() -> None:
    """It answers some moments before the launcher sees that it is ready."""
    stopping: list[bool] = []

    class ToldWhileStarting(Script):
        def restart(self) -> None:
            stopping.append(True)
            super().restart()

    server = ToldWhileStarting(-9, ServerStartError("it ended before it was ready"), 0)
    assert keep_running(server, RestartPolicy(), stopping=lambda: bool(stopping), sleep=lambda _: None) == 0


@given(st.lists(st.sampled_from([-9, 1, FAILED])), st.integers(0, 6))
def test_it_never_starts_more_often_than_it_may(fate: list[int | ServerStartError], restarts: int) -> None:
    waits: list[float] = []
    server = Script(-6, *fate)
    code = keep_running(server, RestartPolicy(restarts), sleep=waits.append, on_event=lambda _: None)
    assert server.starts == 1 + len(waits) <= 1 + restarts
    assert waits == sorted(waits)
    assert code in (-6, -9, 1)


@dataclass
class Launched:
    """``python -m server``, its gRPC port, and what it says."""

    process: subprocess.Popen[bytes]
    grpc: int
    log: Path

    def says(self, words: str, timeout_s: float = 60) -> bool:
        """Whether it says so in time; on a busy machine its server answers long before the launcher has seen that."""
        return eventually(lambda: words in self.log.read_text(encoding="utf-8"), timeout_s)

    def end(self) -> int:
        """Tell it to end, and wait until it has: its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(timeout=60)


@pytest.fixture
def command(tiny_repository: Path, tmp_path: Path) -> Iterator[Launched]:
    """A launcher that says that it is serving."""
    grpc, http, metrics = free_ports("127.0.0.1", 3)
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "server", "--model-repository", str(tiny_repository)),
                *("--grpc-port", str(grpc), "--http-port", str(http), "--metrics-port", str(metrics)),
            ],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    launched = Launched(process, grpc, log)
    try:
        assert launched.says("is serving"), log.read_text(encoding="utf-8")
        yield launched
    finally:
        launched.end()


def answers(grpc: int) -> bool:
    """Whether it answers; a wrong answer fails the test."""
    from tritonclient.grpc import InferenceServerClient, InferInput
    from tritonclient.utils import InferenceServerException

    pictures = tiny.pictures(2)
    image = InferInput("image", list(pictures.shape), "UINT8")
    image.set_data_from_numpy(pictures)
    with InferenceServerClient(f"127.0.0.1:{grpc}") as client:
        try:
            answer = client.infer("tiny", [image], client_timeout=2).as_numpy("probabilities")
        except InferenceServerException:
            return False
    assert np.allclose(answer, tiny.expected_probabilities(pictures), atol=1e-5)
    return True


def tritonserver_of(grpc: int) -> int:
    (pid,) = [pid for pid in processes_mentioning(f"--grpc-port={grpc}") if pid != os.getpid()]
    return pid


@pytest.mark.triton
def test_a_killed_server_answers_again_at_the_same_port_and_ends_when_told(command: Launched) -> None:
    grpc = command.grpc
    assert eventually(lambda: answers(grpc))
    first = tritonserver_of(grpc)
    os.kill(first, signal.SIGKILL)
    began = time.monotonic()
    assert eventually(lambda: not answers(grpc), 5) or tritonserver_of(grpc) != first
    assert eventually(lambda: answers(grpc), 60)
    assert time.monotonic() - began < 30
    second = tritonserver_of(grpc)
    assert second != first
    assert command.says("ended with exit code -9")
    assert command.says("serves again")
    assert command.end() == 0
    assert not Path(f"/proc/{second}").exists()


@pytest.mark.triton
def test_told_to_stop_while_it_waits_to_start_again_it_stops(command: Launched) -> None:
    os.kill(tritonserver_of(command.grpc), signal.SIGKILL)
    assert command.says("again in 0.5 s")
    # Where these words are seen half a second late, the new server is told, and ends well.
    assert command.end() in (128 + signal.SIGTERM, 0)
    assert processes_mentioning(f"--grpc-port={command.grpc}") == []


@pytest.mark.triton
def test_a_model_whose_process_died_answers_again(command: Launched) -> None:
    """Triton by itself would call such a model ready, and answer with errors, for ever."""
    grpc = command.grpc
    assert eventually(lambda: answers(grpc))
    stubs = [pid for pid in processes_mentioning(f" {tritonserver_of(grpc)} ".replace(" ", "\0")) if is_stub(pid)]
    assert len(stubs) == 2
    os.kill(stubs[0], signal.SIGKILL)
    os.kill(stubs[1], signal.SIGKILL)
    assert eventually(lambda: not answers(grpc), 10)
    assert eventually(lambda: answers(grpc), 60)
    assert command.says("the process of a model has died")
    assert command.says("serves again")
    assert command.end() == 0


def is_stub(pid: int) -> bool:
    return "triton_python_b" in Path(f"/proc/{pid}/comm").read_text()


@pytest.mark.triton
def test_a_server_that_runs_is_not_started_again(tiny_cpu: EmbeddedTriton) -> None:
    with pytest.raises(RuntimeError, match="stop it first"):
        tiny_cpu.restart()
    assert tiny_cpu.running


@pytest.mark.triton
def test_a_model_whose_process_dies_at_its_start_is_told_within_seconds(
    tiny_repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton by itself would wait for it until whoever started it gives up."""
    launch, starts = EmbeddedTriton._launch, []

    def spoilt(triton: EmbeddedTriton) -> None:
        stub = next((triton._backends / "python").glob("triton_python_backend_stub"))
        stub.unlink(missing_ok=True)
        stub.write_text("#!/bin/sh\necho the stub says why >&2\nexit 126\n")
        stub.chmod(0o755)
        starts.append(1)
        launch(triton)

    monkeypatch.setattr(EmbeddedTriton, "_launch", spoilt)
    began = time.monotonic()
    with pytest.raises(ServerStartError, match="process of a model died before it was ready") as failed:
        EmbeddedTriton(tiny_repository, models=["tiny"], start_timeout_s=120).start()
    assert time.monotonic() - began < 40
    assert len(starts) == 3
    assert any("the stub says why" in line for line in failed.value.log_tail)
