from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from server.backend_directory import compose_backend_directory
from server.environment import find_installation, free_ports
from tests.server import tiny
from tests.server.released import with_reference

from .images import ROOT, lay_out


@pytest.fixture(scope="session")
def tiny_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tiny.write_repository(tmp_path_factory.mktemp("tiny"), delay_us=0)
    with_reference(root / "tiny/1", tiny.pictures(100))
    return root


@pytest.fixture(scope="session")
def serve() -> types.ModuleType:
    """The module docker/serve.py."""
    spec = importlib.util.spec_from_file_location("densescan_serve", ROOT / "docker/serve.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def known_flags() -> frozenset[str]:
    """The options that the embedded tritonserver takes, in its own words."""
    installation = find_installation()
    shown = subprocess.run(
        [installation.tritonserver, "--help"],
        env=installation.environment(os.environ),
        capture_output=True,
        text=True,
        timeout=60,
    )
    words = (shown.stdout + shown.stderr).split()
    return frozenset(word.rstrip(",.") for word in words if word.startswith("--"))


class Container:
    """The CPU image's own files, run as its entry point runs them, but for the operating system around them."""

    def __init__(
        self, folder: Path, repository: Path, environment: dict[str, str], ports: tuple[int, int, int]
    ) -> None:
        self.grpc, self.http, self.metrics = ports
        installation = find_installation()
        backends = compose_backend_directory(installation, folder / "wheel")
        image = lay_out("cpu", folder / "image")
        # The image brings our backend; the wheel brings the part that NVIDIA's image brings.
        (image / "opt/tritonserver/backends/python").symlink_to(backends / "python")
        self.healthcheck = image / "opt/densescan/healthcheck.py"
        self.environment = {
            **installation.environment(os.environ),
            "DENSESCAN_PROFILE": "cpu",
            "DENSESCAN_MODELS": str(repository),
            "DENSESCAN_ADDRESS": "127.0.0.1",
            "DENSESCAN_EXIT_TIMEOUT_S": "5",
            "DENSESCAN_TRITONSERVER": str(installation.tritonserver),
            "DENSESCAN_HTTP_PORT": str(self.http),
            **environment,
        }
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [
                    # Told to stop when these tests die, and after that the entry point is this very process.
                    *(sys.executable, "-I", str(ROOT / "server/_exec_with_parent.py"), str(os.getpid())),
                    *(sys.executable, str(image / "opt/densescan/serve.py")),
                    f"--backend-directory={image / 'opt/tritonserver/backends'}",
                    *(f"--grpc-port={self.grpc}", f"--http-port={self.http}", f"--metrics-port={self.metrics}"),
                ],
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def healthy(self) -> bool:
        command = [sys.executable, self.healthcheck]
        return subprocess.run(command, env=self.environment, timeout=30).returncode == 0

    def wait(self, timeout_s: float = 180) -> None:
        deadline = time.monotonic() + timeout_s
        while not self.healthy():
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            assert time.monotonic() < deadline, self.log.read_text()[-4000:]
            time.sleep(0.2)

    def stop(self) -> int:
        self.process.terminate()
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


@pytest.fixture(scope="module")
def start_container(
    tmp_path_factory: pytest.TempPathFactory, tiny_repository: Path
) -> Iterator[Callable[..., Container]]:
    """Starts the CPU image's files with environment variables, and waits until its own health check says healthy."""
    started: list[Container] = []

    def start(environment: dict[str, str] | None = None, repository: Path = tiny_repository) -> Container:
        grpc, http, metrics = free_ports("127.0.0.1", 3)
        container = Container(
            tmp_path_factory.mktemp("container"), repository, environment or {}, (grpc, http, metrics)
        )
        started.append(container)
        container.wait()
        return container

    yield start
    for container in started:
        container.stop()
