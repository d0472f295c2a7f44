"""Other ways to serve the same network, each set up as its own documentation recommends.

Each is a program of its own, started with a port and a model repository, that answers a picture posted to
``/predict`` as the form field ``file``, or in base64 as JSON. Its packages are the extra ``peers``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from densescan.tasks import XRAY

from ..server_side import family
from ..ways import Target, opened

HOST = "127.0.0.1"
_ROOT = Path(__file__).resolve().parents[2]
_START_S = 120.0


@dataclass(frozen=True)
class Peer:
    """One other way to serve.

    Attributes:
        module: Its program, in this package.
        package: What has to be installed for it.
        how: How it is set up, in a few words.
        way: How a picture is posted.
    """

    module: str
    package: str
    how: str
    way: str = "http"


PEERS = {
    "flask": Peer("flask_keras", "flask", "Flask calling Keras predict for each request, as the original did"),
    "litserve": Peer("litserve_openvino", "litserve", "LitServe, batches of up to 16, the same int8 file", "http_json"),
    "bentoml": Peer("bentoml_openvino", "bentoml", "BentoML, adaptive batching of up to 16, the same int8 file"),
}


def chosen(names: str) -> list[str]:
    """Peers by name, with commas between; ``all``: those that are installed.

    Raises:
        ValueError: A name is unknown, or what it needs is not installed.
    """
    if names == "all":
        return [name for name, peer in PEERS.items() if find_spec(peer.package)]
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in PEERS:
            raise ValueError(f"unknown peer {name!r}: choose among {', '.join(PEERS)}, or all")
        if not find_spec(PEERS[name].package):
            raise ValueError(f'the peer {name} needs {PEERS[name].package}: pip install -e ".[peers]"')
    return wanted


def measure(
    name: str,
    files: tuple[str, ...],
    repository: Path,
    press: Callable[[Target, int], dict[str, Any]],
    own: Mapping[str, Target],
    *,
    callers: Sequence[int] = (1, 16),
    rounds: int = 3,
) -> dict[str, Any]:
    """Start a peer, press it and the served models in turns, and stop it.

    Args:
        name: One of `PEERS`.
        files: Paths of the pictures.
        repository: The model repository that its network comes from.
        press: Runs one load on a target with a number of callers, and returns its figures.
        own: Ways to ask the served models, by name; they are idle while the peer is pressed.
        callers: Numbers of callers.
        rounds: Turns of each.

    Raises:
        RuntimeError: It does not start; the message has the end of its log.
    """
    with running(name, repository, files) as peer:
        turns = [
            {
                str(number): {
                    "peer": press(Target(PEERS[name].way, XRAY.name, peer.url, files), number),
                    **_meanwhile(peer, press, own, number),
                }
                for number in callers
            }
            for _ in range(rounds)
        ]
    return {"how": PEERS[name].how, "rounds": turns}


def _meanwhile(
    peer: Running, press: Callable[[Target, int], dict[str, Any]], own: Mapping[str, Target], callers: int
) -> dict[str, dict[str, Any]]:
    """The served models' turn, for which the peer is held.

    LitServe looks for work all the time, and takes a tenth of two cores while it has none. The served models, when they
    are idle, take nothing that could be measured.
    """
    with peer.held():
        return {who: press(target, callers) for who, target in own.items()}


@dataclass(frozen=True)
class Running:
    """A peer that answers.

    Attributes:
        url: ``host:port``.
        pid: Of the process that started all of its others.
    """

    url: str
    pid: int

    @contextmanager
    def held(self) -> Iterator[None]:
        """None of its processes computes meanwhile."""
        processes = family(self.pid)
        _send(processes, signal.SIGSTOP)
        try:
            yield
        finally:
            _send(processes, signal.SIGCONT)


def _send(processes: Sequence[int], number: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.kill(process, number)


@contextmanager
def running(name: str, repository: Path, files: tuple[str, ...]) -> Iterator[Running]:
    """Start a peer, and stop it at the end."""
    from server.environment import free_ports

    (port,) = free_ports(HOST, 1)
    command = [sys.executable, "-m", f"{__name__}.{PEERS[name].module}", str(port), str(repository.resolve())]
    with tempfile.TemporaryFile("w+") as log, tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_ROOT), *sys.path[1:]]), "BENTOML_HOME": home}
        # A group of its own: it starts processes that end with it.
        process = subprocess.Popen(
            command, cwd=home, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            _wait(process, Target(PEERS[name].way, XRAY.name, f"{HOST}:{port}", files), log)
            yield Running(f"{HOST}:{port}", process.pid)
        finally:
            _stop(process)


def _wait(process: subprocess.Popen[bytes], target: Target, log: Any) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            with opened(target) as call:
                call(0)
            return
        except (OSError, RuntimeError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                log.seek(0)
                tail = "".join(log.readlines()[-15:])
                raise RuntimeError(f"it did not answer ({error}); its log ends with\n{tail}") from error
            time.sleep(0.3)


def _stop(process: subprocess.Popen[bytes]) -> None:
    # BentoML's workers are in sessions of their own and may outlive it. A descriptor means that very process, whichever
    # gets its number later.
    started = []
    for child in family(process.pid)[1:]:
        with suppress(ProcessLookupError):
            started.append(os.pidfd_open(child))
    for number, patience_s in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=patience_s)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()
    for child in started:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(child, signal.SIGKILL)
        os.close(child)
