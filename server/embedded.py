"""The embedded Triton as a context manager."""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal

from densescan.serving.backlog import remove_backlogs

from .backend_directory import compose_backend_directory
from .environment import check_port_is_free, find_installation, free_ports, visible_gpus
from .errors import ServerStartError
from .logs import parse_line
from .manifest import ManifestError, check_versions
from .process import ServerProcess
from .repository import Profile, RepositoryModel, asks_for_gpu, overlay, read_repository
from .shared_memory import Regions
from .stubs import EVERY_S, StubWatch
from .tls import StrPath, TlsError, tls_options

log = logging.getLogger("densescan.server")

DEFAULT_REPOSITORY = Path(__file__).resolve().parent.parent / "model_repository"
LOOPBACK = "127.0.0.1"
_PORT_TAKEN = "already in use"
_ATTEMPTS = 3
_TELLING_LINES = 30
_GRACE_S = 5.0
"""After its own time limit, for a server that was told to end."""


class EmbeddedTriton:
    """The real tritonserver, started on entering and ended on leaving the ``with`` block.

    Args:
        model_repository: Folder of the models.
        profile: ``cpu`` serves each model's ``configs/cpu.pbtxt``, ``gpu`` its ``config.pbtxt``. Without a
            GPU the latter runs on the CPU, through ONNX Runtime; `notes` then says so.
        models: Serve only these and the ones they call; none: all.
        host: Address to listen on.
        grpc_port: 0 takes any free port.
        http_port: 0 takes any free port.
        metrics_port: 0 takes any free port.
        start_timeout_s: Time for loading and warming up the models.
        exit_timeout_s: Time for the running inferences to finish when stopping.
        tls_cert: PEM file; gRPC is then served with TLS. HTTP and the metrics have none in Triton.
        tls_key: The key of `tls_cert`.
        tls_client_ca: PEM file; callers of gRPC must then show a certificate of this authority.
        extra_options: Further options of tritonserver, as they are.
        on_log: Called with each line of Triton's log, in another thread.
        prefix: A command to run it with, such as ``("nice",)``; it must become tritonserver, not start it.

    Attributes:
        models: What is served, once started.
        notes: What was adapted, in sentences for a person.
    """

    def __init__(
        self,
        model_repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
        *,
        profile: Profile = "cpu",
        models: Sequence[str] = (),
        host: str = LOOPBACK,
        grpc_port: int = 0,
        http_port: int = 0,
        metrics_port: int = 0,
        start_timeout_s: float = 180,
        exit_timeout_s: int = 30,
        tls_cert: StrPath = "",
        tls_key: StrPath = "",
        tls_client_ca: StrPath = "",
        extra_options: Sequence[str] = (),
        on_log: Callable[[str], None] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self.models: list[RepositoryModel] = []
        self.notes: list[str] = []
        self._repository = Path(model_repository)
        self._profile: Profile = profile
        self._names = tuple(models)
        self._host = host
        self._asked_ports = (grpc_port, http_port, metrics_port)
        self._ports = self._asked_ports
        self._start_timeout_s = start_timeout_s
        self._exit_timeout_s = exit_timeout_s
        self._tls_files = (tls_cert, tls_key, tls_client_ca)
        self._extra_options = tuple(extra_options)
        self._on_log = on_log
        self._prefix = tuple(prefix)
        self._process: ServerProcess | None = None
        self._end_by: float | None = None
        self._folder: Path | None = None
        self._regions: Regions | None = None

    @property
    def grpc_url(self) -> str:
        """``host:port`` for gRPC clients."""
        return f"{self._host}:{self._ports[0]}"

    @property
    def http_url(self) -> str:
        """``host:port`` for HTTP clients."""
        return f"{self._host}:{self._ports[1]}"

    @property
    def metrics_url(self) -> str:
        """Full address of the Prometheus metrics."""
        return f"http://{self._host}:{self._ports[2]}/metrics"

    @property
    def tls(self) -> Literal["", "one-sided", "mutual"]:
        """Whether gRPC has TLS, and whether callers must show a certificate."""
        certificate, _, client_ca = self._tls_files
        return ("mutual" if client_ca else "one-sided") if certificate else ""

    @property
    def pid(self) -> int:
        """Process id of tritonserver."""
        return self._running().pid

    @property
    def running(self) -> bool:
        """Whether tritonserver runs, ready or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def log_tail(self) -> tuple[str, ...]:
        """The last lines of Triton's log."""
        return self._process.tail if self._process else ()

    def start(self) -> None:
        """Start it, and return as soon as every model is ready.

        Raises:
            ServerStartError: Something is missing, a model cannot be loaded, or the time is over.
        """
        if self._process is not None:
            raise RuntimeError("this server has been started already")
        try:
            self._prepare()
            for attempt in range(1, _ATTEMPTS + 1):
                self._launch()
                try:
                    self.wait_ready(self._start_timeout_s)
                    return
                except ServerStartError as error:
                    # Between our finding a free port and Triton's taking it, somebody else may have.
                    taken = any(_PORT_TAKEN in line for line in error.log_tail) and not all(self._asked_ports)
                    if attempt == _ATTEMPTS or not (taken or isinstance(error, _ModelProcessDied)):
                        raise
                    self._running().stop(0)
                    self._remove_shared_memory()
        except BaseException:
            self.stop()
            raise

    def restart(self) -> None:
        """Start it again after it has ended, at the same ports, and return as soon as every model is ready.

        Raises:
            ServerStartError: A model cannot be loaded, or the time is over.
            RuntimeError: It was never started, or still runs.
        """
        if self._running().poll() is None:
            raise RuntimeError("this server runs: stop it first")
        self._asked_ports = self._ports  # those that its callers know
        self._remove_shared_memory()
        try:
            self._launch()
            self.wait_ready(self._start_timeout_s)
        except ServerStartError:
            self._running().stop(self._exit_timeout_s)
            raise

    def wait_ready(self, timeout_s: float) -> None:
        """Return as soon as every model is ready.

        Raises:
            ServerStartError: It has ended, or is not ready within `timeout_s`.
        """
        process = self._running()
        deadline = time.monotonic() + timeout_s
        watch, next_look = StubWatch(process.pid), 0.0
        while not self.is_ready():
            if (now := time.monotonic()) >= next_look:
                next_look = now + EVERY_S
                if watch.dead():
                    # Triton would wait for it for ever.
                    raise _ModelProcessDied(
                        "the process of a model died before it was ready",
                        "mend what the end of the log names",
                        process.tail[-_TELLING_LINES:],
                    )
            if (code := process.poll()) is not None:
                raise ServerStartError(
                    f"tritonserver ended with exit code {code} before it was ready",
                    "mend what the end of its log names",
                    _telling(process.tail),
                )
            if time.monotonic() > deadline:
                raise ServerStartError(
                    f"tritonserver was not ready within {timeout_s:g} s",
                    "allow more time, or serve fewer models",
                    _telling(process.tail),
                )
            time.sleep(0.1)

    def is_ready(self) -> bool:
        """Whether the server says that all of its models are ready."""
        connection = http.client.HTTPConnection(self._host, self._ports[1], timeout=2)
        with contextlib.closing(connection):
            try:
                connection.request("GET", "/v2/health/ready")
                return connection.getresponse().status == http.HTTPStatus.OK
            except (OSError, http.client.HTTPException):
                return False

    def wait(self) -> int:
        """Wait until the server ends by itself or by a signal, and return its exit code (negative: a signal).

        A server that has lost a model's process is ended, since it would never answer for that model again.
        """
        process = self._running()
        watch = StubWatch(process.pid)
        while (code := process.wait(EVERY_S)) is None:
            if self._end_by is not None:
                if time.monotonic() > self._end_by:
                    # Seen in 2.51: after its own time limit it waits for its threads, of which one waits for ever.
                    log.error("tritonserver did not end when it was told to: ending it by force")
                    process.send_signal(signal.SIGKILL)
            elif dead := watch.dead():
                log.error("the process of a model has died (%s): ending the server", ", ".join(map(str, dead)))
                process.send_signal(signal.SIGKILL)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Pass a signal on to tritonserver, if it runs; SIGINT and SIGTERM end it gracefully."""
        if self._process is not None:
            if self._end_by is None:
                self._end_by = time.monotonic() + self._exit_timeout_s + _GRACE_S
            self._process.send_signal(number)

    def stop(self) -> int | None:
        """End the server and remove its temporary files; None if it was never started. May be called twice."""
        code = self._process.stop(self._exit_timeout_s + _GRACE_S) if self._process else None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._remove_shared_memory()
        if self._regions is not None:
            self._regions.close()
        return code

    def __enter__(self) -> EmbeddedTriton:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _prepare(self) -> None:
        """Check everything that can be checked, and compose what tritonserver is started with."""
        self._installation = find_installation()
        self.models = read_repository(self._repository, self._profile, self._names)
        try:
            check_versions(model.folder for model in self.models)
            self._tls_options = tls_options(*self._tls_files)
        except ManifestError as error:
            raise ServerStartError(str(error), "bring the released files back, or export them anew") from error
        except TlsError as error:
            raise ServerStartError(str(error), "docker/make_certificates.sh makes files to try") from error
        for port, option in zip(self._asked_ports, ("--grpc-port", "--http-port", "--metrics-port"), strict=True):
            if port:
                check_port_is_free(self._host, port, option)
        self._folder = Path(tempfile.mkdtemp(prefix="densescan-triton-"))
        self._regions = Regions()
        self._backends = compose_backend_directory(self._installation, self._folder / "backends")
        gpu_to_cpu = any(map(asks_for_gpu, self.models)) and visible_gpus() == 0
        if gpu_to_cpu:
            self.notes.append("No GPU is visible: the GPU profile's models run on the CPU, through ONNX Runtime.")
        if gpu_to_cpu or self._names:
            self._repository = overlay(self.models, self._folder / "repository", gpu_to_cpu=gpu_to_cpu)

    def _remove_shared_memory(self) -> None:
        if self._regions is not None:
            self._regions.clear()
        if self._process is not None:
            remove_backlogs(self._process.pid)

    def _launch(self) -> None:
        free = free_ports(self._host, len(self._asked_ports))
        grpc, http_, metrics = (asked or spare for asked, spare in zip(self._asked_ports, free, strict=True))
        self._ports = (grpc, http_, metrics)
        self._process = ServerProcess(self._command(), self._installation.environment(os.environ), on_line=self._on_log)

    def _command(self) -> list[str]:
        grpc, http_, metrics = map(str, self._ports)
        return [
            *self._prefix,
            str(self._installation.tritonserver),
            f"--model-repository={self._repository.resolve()}",
            f"--backend-directory={self._backends}",
            *([self._regions.option] if self._regions else []),
            *(["--model-config-name=cpu"] if self._profile == "cpu" else []),
            *("--disable-auto-complete-config", "--model-control-mode=none", "--strict-readiness=true"),
            *(f"--grpc-address={self._host}", f"--grpc-port={grpc}"),
            *(f"--http-address={self._host}", f"--http-port={http_}"),
            *(f"--metrics-address={self._host}", f"--metrics-port={metrics}"),
            # Instances that name a resource wait for it: on the CPU, one inference at a time has all the cores.
            "--rate-limit=execution_count",
            *("--allow-gpu-metrics=false", f"--exit-timeout-secs={self._exit_timeout_s}"),
            *self._tls_options,
            *self._extra_options,
        ]

    def _running(self) -> ServerProcess:
        if self._process is None:
            raise RuntimeError("this server has not been started: call start(), or use it in a with block")
        return self._process


class _ModelProcessDied(ServerStartError):
    """A model's Python process ended at its start; seen once in hundreds of starts, and not twice in a row."""


def _telling(tail: Sequence[str], count: int = _TELLING_LINES) -> list[str]:
    """The lines of a log that tell most: its errors if it has any, else its end."""
    parsed = [(line, parse_line(line)) for line in tail]
    errors = [line for line, read in parsed if read and read.severity in "EF" and not read.is_noise]
    errors += [line for line in tail if "unrecognized option" in line]  # the whole help text follows it
    return [line[:2000] for line in (errors or list(tail))[-count:]]
