"""A new version under load: by rolling servers, by model control, and one that is broken."""

from __future__ import annotations

import json
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
from ..manifest import CARD, sha256
from .callers import Callers
from .faults import WARM, Outcome
from .subject import Subject, ask_alone

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


def corrupt_onnx(subject: Subject) -> Outcome:
    """The GPU profile's file of a new version, damaged in two ways, in a new server beside one that serves."""
    old, new = _two_versions(subject)
    with _only(subject, old) as first, _only(subject, new) as second:
        expected = {old: ask_alone(first, subject.model, int(old), subject.pictures, profile="gpu")}
        weights = second / subject.model / new / "model.onnx"
        sound = weights.read_bytes()
        _write_card(weights.parent)
        refusals = []
        with (
            EmbeddedTriton(first, profile="gpu", exit_timeout_s=5) as triton,
            Callers(subject, [triton.grpc_url], expected=expected, timeout_s=PATIENCE_S) as callers,
        ):
            callers.wait_for(WARM)
            middle = len(sound) // 2
            weights.write_bytes(
                sound[:middle] + bytes(byte ^ 0xFF for byte in sound[middle:][:64]) + sound[middle + 64 :]
            )
            refusals.append(_refusal(second))
            (weights.parent / CARD).unlink()
            weights.write_bytes(sound[:middle])
            refusals.append(_refusal(second))
            callers.wait_for(WARM)
    seen = callers.tally
    found = [error is not None for error in refusals]
    digest = "released weights" in str(refusals[0])
    return Outcome(
        "corrupt ONNX",
        f"version {new} in a new server of the GPU profile, with 64 bytes flipped, and then cut in half without a card",
        seen,
        "neither is served; the server of the old version answers on, without a failure",
        all(found) and digest and not seen.failed and not seen.wrong and set(seen.right) == {old},
        "the flipped bytes are found by the digest in the card, the half file by the runtime" if digest else "",
    )


def _refusal(repository: Path) -> ServerStartError | None:
    try:
        with EmbeddedTriton(repository, profile="gpu", start_timeout_s=60):
            return None
    except ServerStartError as error:
        return error


def _write_card(folder: Path) -> None:
    """What exporting writes beside a version, as far as its files are concerned."""
    if not (folder / CARD).is_file():
        digests = {path.name: sha256(path) for path in folder.iterdir() if path.is_file()}
        (folder / CARD).write_text(json.dumps({"sha256": digests}), encoding="utf-8")


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
    callers.wait_for_turns()
    time.sleep(LEAVING_S)
    server.send_signal(signal.SIGTERM)
    server.stop()


ROLLOUTS = (rolling_servers, model_control, broken_version, corrupt_onnx)
