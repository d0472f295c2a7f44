"""A new version under load: by rolling servers, by model control, and one that is broken."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..embedded import EmbeddedTriton
from ..errors import ServerStartError
from .callers import Callers
from .faults import WARM, Outcome
from .subject import Subject

PATIENCE_S = 30.0
"""How long callers wait for an answer: a busy machine is not what is tried here."""

LEAVING_S = 1.0
"""Between taking a server off the list and ending it, as preStop does in Kubernetes."""


def rolling_servers(subject: Subject) -> Outcome:
    """Server by server, as a Deployment with an immutable image does it, and back."""
    old, new = _two_versions(subject)
    with (
        _only(subject, old) as first,
        _only(subject, new) as second,
        EmbeddedTriton(first, exit_timeout_s=10) as a,
        EmbeddedTriton(first, exit_timeout_s=10) as b,
        Callers(subject, [a.grpc_url, b.grpc_url], timeout_s=PATIENCE_S) as callers,
    ):
        callers.wait_for(WARM, version=old)
        with EmbeddedTriton(second, exit_timeout_s=10) as c, EmbeddedTriton(second, exit_timeout_s=10) as d:
            callers.endpoints = (a.grpc_url, b.grpc_url, c.grpc_url)
            _leave(callers, a, (b.grpc_url, c.grpc_url))
            callers.endpoints = (b.grpc_url, c.grpc_url, d.grpc_url)
            _leave(callers, b, (c.grpc_url, d.grpc_url))
            callers.wait_for(WARM, version=new)
            with EmbeddedTriton(first, exit_timeout_s=10) as back:
                callers.endpoints = (c.grpc_url, d.grpc_url, back.grpc_url)
                _leave(callers, c, (d.grpc_url, back.grpc_url))
                _leave(callers, d, (back.grpc_url,))
                callers.wait_for(WARM, version=old)
                callers.end()  # before the last servers do
    seen = callers.tally
    return Outcome(
        "rolling servers",
        f"two servers of version {old} replaced by two of version {new}, and then by one of version {old} again",
        seen,
        "every answer right for the version it names; no failure",
        not seen.failed and not seen.wrong and seen.right.keys() >= {old, new},
    )


def model_control(subject: Subject) -> Outcome:
    """A version added to a running server by the load call, and taken away again."""
    from tritonclient.grpc import InferenceServerClient

    old, new = _two_versions(subject)
    with (
        _only(subject, old) as repository,
        _controlled(repository) as triton,
        InferenceServerClient(triton.grpc_url) as client,  # type: ignore[no-untyped-call]
        Callers(subject, [triton.grpc_url], timeout_s=PATIENCE_S) as callers,
    ):
        home = repository / subject.model
        callers.wait_for(WARM, version=old)
        _install(subject.repository / subject.model / new, home / new)
        client.load_model(subject.model)
        callers.wait_for(WARM, version=new)
        os.rename(home / new, repository / ".withdrawn")
        client.load_model(subject.model)
        callers.wait_for(WARM, version=old)
    seen = callers.tally
    return Outcome(
        "model control",
        f"version {new} loaded beside version {old} in a running server, then withdrawn",
        seen,
        "every answer right for the version it names; no failure",
        not seen.failed and not seen.wrong and seen.right.keys() >= {old, new},
    )


def broken_version(subject: Subject) -> Outcome:
    """A version whose file is cut in half: loaded into a running server, and in a server of its own."""
    from tritonclient.grpc import InferenceServerClient
    from tritonclient.utils import InferenceServerException

    old, new = _two_versions(subject)
    refused = 0
    with (
        _only(subject, old) as repository,
        _controlled(repository) as triton,
        InferenceServerClient(triton.grpc_url) as client,  # type: ignore[no-untyped-call]
        Callers(subject, [triton.grpc_url], timeout_s=PATIENCE_S) as callers,
    ):
        callers.wait_for(WARM, version=old)
        _install(subject.repository / subject.model / new, repository / subject.model / new)
        for file in (repository / subject.model / new).rglob("model.*"):
            if file.is_file():
                os.truncate(file, file.stat().st_size // 2)
        try:
            client.load_model(subject.model)
        except InferenceServerException:
            refused += 1
        callers.wait_for(WARM, version=old)
        ready, model_ready = client.is_server_ready(), client.is_model_ready(subject.model, old)
        try:
            with EmbeddedTriton(repository):
                pass
        except ServerStartError:
            refused += 1
        callers.wait_for(WARM, version=old)
    seen = callers.tally
    return Outcome(
        "broken version",
        f"version {new} with its files cut in half: loaded beside version {old}, and in a new server",
        seen,
        "refused both times; the old version answers on, without a failure",
        refused == 2 and model_ready and not seen.failed and not seen.wrong and set(seen.right) == {old},
        "meanwhile the server calls itself "
        + ("ready" if ready else "not ready, and Kubernetes would send it nothing"),
    )


def _two_versions(subject: Subject) -> tuple[str, str]:
    versions = sorted(subject.expected, key=int)
    if len(versions) < 2:
        raise RuntimeError("this drill needs a model with two versions")
    return versions[0], versions[1]


@contextmanager
def _only(subject: Subject, version: str) -> Iterator[Path]:
    """A repository with one version of the model."""
    with tempfile.TemporaryDirectory(prefix="densescan-drill-") as name:
        home = Path(name, subject.model)
        others = [found for found in subject.expected if found != version]
        shutil.copytree(subject.repository / subject.model, home, ignore=shutil.ignore_patterns(*others))
        yield home.parent


@contextmanager
def _controlled(repository: Path) -> Iterator[EmbeddedTriton]:
    with EmbeddedTriton(
        repository, extra_options=["--model-control-mode=explicit", "--load-model=*"], exit_timeout_s=5
    ) as triton:
        yield triton


def _install(source: Path, target: Path) -> None:
    """As exporting does it: laid aside, then renamed."""
    aside = target.with_name(f".new-{target.name}")
    shutil.copytree(source, aside)
    os.rename(aside, target)


def _leave(callers: Callers, server: EmbeddedTriton, remaining: tuple[str, ...]) -> None:
    callers.wait_for(WARM)
    callers.endpoints = remaining
    time.sleep(LEAVING_S)
    server.send_signal(signal.SIGTERM)
    server.stop()


ROLLOUTS = (rolling_servers, model_control, broken_version)
