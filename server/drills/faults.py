"""Faults of one server under load: killed, frozen, mistreated by its callers."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..embedded import EmbeddedTriton
from ..supervision import RestartPolicy, keep_running
from .callers import Callers, Tally
from .subject import Subject, image_input

WARM = 50
"""Right answers before a fault and after it: the drill begins and ends with a server that is well."""


@dataclass(frozen=True)
class Outcome:
    """What a drill showed.

    Attributes:
        name: The drill.
        fault: What was done.
        tally: What the callers saw.
        wanted: What must hold, in words.
        held: Whether it did.
        note: What else was seen.
    """

    name: str
    fault: str
    tally: Tally
    wanted: str
    held: bool
    note: str = ""


@contextlib.contextmanager
def supervised(subject: Subject, *options: str, prefix: Sequence[str] = ()) -> Iterator[EmbeddedTriton]:
    """A server that is started again after a crash, as ``python -m server`` does."""
    ending = threading.Event()
    # Of its own repository alone: as in a container, nothing but the model and those that it calls.
    with EmbeddedTriton(
        subject.repository, models=[subject.model], exit_timeout_s=5, extra_options=options, prefix=prefix
    ) as triton:
        keeper = threading.Thread(
            target=keep_running, args=(triton, RestartPolicy(first_wait_s=0.5)), kwargs={"stopping": ending.is_set}
        )
        keeper.start()
        try:
            yield triton
        finally:
            ending.set()
            triton.send_signal(signal.SIGTERM)
            keeper.join()


def server_killed(subject: Subject) -> Outcome:
    """SIGKILL to tritonserver."""
    with supervised(subject) as triton, Callers(subject, [triton.grpc_url]) as callers:
        callers.wait_for(WARM)
        os.kill(triton.pid, signal.SIGKILL)
        time.sleep(1)
        callers.wait_for(WARM)
    return outcome_of("server killed", "SIGKILL to tritonserver; it is started again", callers.tally)


def model_killed(subject: Subject) -> Outcome:
    """SIGKILL to the process in which a model runs."""
    with supervised(subject) as triton, Callers(subject, [triton.grpc_url]) as callers:
        callers.wait_for(WARM)
        for stub in stubs_of(triton.pid, subject.model):
            os.kill(stub, signal.SIGKILL)
        time.sleep(1)
        callers.wait_for(WARM)
    return outcome_of("model's process killed", "SIGKILL to every process of the model", callers.tally)


def server_frozen(subject: Subject) -> Outcome:
    """SIGSTOP to tritonserver for five seconds, longer than the callers wait."""
    with supervised(subject) as triton, Callers(subject, [triton.grpc_url]) as callers:
        callers.wait_for(WARM)
        os.kill(triton.pid, signal.SIGSTOP)
        time.sleep(5)
        os.kill(triton.pid, signal.SIGCONT)
        callers.wait_for(WARM)
    return outcome_of("server frozen", "SIGSTOP to tritonserver, SIGCONT 5 s later; callers wait 3 s", callers.tally)


def many_connections(subject: Subject) -> Outcome:
    """A thousand connections that say nothing, beside the callers."""
    with supervised(subject) as triton, Callers(subject, [triton.grpc_url]) as callers, contextlib.ExitStack() as held:
        callers.wait_for(WARM)
        host, port = triton.grpc_url.split(":")
        for _ in range(1000):
            held.enter_context(socket.create_connection((host, int(port)), timeout=5))
        callers.wait_for(4 * WARM)
    return outcome_of("1,000 connections", "1,000 connections that send nothing", callers.tally, no_failure=True)


def callers_vanish(subject: Subject) -> Outcome:
    """Two hundred requests whose callers give up at once, beside others who wait."""
    from tritonclient.grpc import InferenceServerClient

    with supervised(subject) as triton, Callers(subject, [triton.grpc_url]) as callers:
        callers.wait_for(WARM)
        image = image_input(subject.pictures[0])
        for number in range(200):
            client = InferenceServerClient(triton.grpc_url, channel_args=[("grpc.use_local_subchannel_pool", 1)])  # type: ignore[no-untyped-call]
            call = client.async_infer(subject.model, [image], callback=lambda result, error: None)
            if number % 2:
                call.cancel()
            client.close()
        callers.wait_for(WARM)
    return outcome_of(
        "callers vanish", "200 callers cancel, or close the connection, at once", callers.tally, no_failure=True
    )


def log_disk_full(subject: Subject) -> Outcome:
    """The log goes to a device that is always full."""
    with (
        supervised(subject, "--log-file=/dev/full", "--log-verbose=1") as triton,
        Callers(subject, [triton.grpc_url]) as callers,
    ):
        callers.wait_for(4 * WARM)
    return outcome_of("disk of the log full", "every line of the log meets ENOSPC", callers.tally, no_failure=True)


def stubs_of(server_pid: int, model: str) -> list[int]:
    """Process ids of a model's Python processes."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1]) if folder.name.isdigit() else 0
            if parent == server_pid and f"\0{model}_".encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def outcome_of(name: str, fault: str, tally: Tally, *, no_failure: bool = False, note: str = "") -> Outcome:
    """What must hold of every fault: no wrong answer; and no failure where none can be the server's fault."""
    held = tally.wrong == 0 and not (no_failure and tally.failed)
    wanted = "no wrong answer, no failure" if no_failure else "no wrong answer; right ones again without anybody's help"
    return Outcome(name, fault, tally, wanted, held, note)


FAULTS = (server_killed, model_killed, server_frozen, many_connections, callers_vanish, log_disk_full)
"""Those that need nothing but a server; `machine` has those of what it stands on."""
