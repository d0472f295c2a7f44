from __future__ import annotations

import importlib
import json
import os
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from server import EmbeddedTriton
from server.backend_directory import BACKENDS, copy_backend
from server.repository import config_path, read_config

from . import fake_pb_utils, tiny

BACKEND_MODULES = sorted({module.stem for module in BACKENDS.glob("*/*.py")})


@pytest.fixture(scope="session")
def tiny_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_repository(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_cpu(tiny_repository: Path) -> Iterator[EmbeddedTriton]:
    with EmbeddedTriton(tiny_repository, profile="cpu") as triton:
        yield triton


@pytest.fixture(scope="session")
def tiny_gpu(tiny_repository: Path) -> Iterator[EmbeddedTriton]:
    with EmbeddedTriton(tiny_repository, profile="gpu") as triton:
        yield triton


@pytest.fixture
def import_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], types.ModuleType]:
    """Imports a backend's model.py from a composed folder, as Triton does, with the fake Triton module."""
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", fake_pb_utils)
    monkeypatch.setattr(fake_pb_utils, "Logger", fake_pb_utils.Logger())
    fake_pb_utils.forget_metrics()

    def load(name: str) -> types.ModuleType:
        monkeypatch.syspath_prepend(str(copy_backend(name, tmp_path)))
        for module in BACKEND_MODULES:
            monkeypatch.delitem(sys.modules, module, raising=False)
        return importlib.import_module("model")

    yield load
    for module in BACKEND_MODULES:
        sys.modules.pop(module, None)


@pytest.fixture(params=["densescan_openvino", "onnxruntime"])
def initialized(
    request: pytest.FixtureRequest, import_backend: Callable[[str], types.ModuleType], tiny_repository: Path
) -> Callable[..., Any]:
    """Makes a backend that has loaded one of the tiny models; keywords change its config."""
    module = import_backend(request.param)
    profile = "cpu" if request.param == "densescan_openvino" else "gpu"

    def make(name: str = "tiny", **changes: Any) -> Any:
        backend = module.TritonPythonModel()
        backend.initialize(arguments(tiny_repository / name, profile, **changes))
        return backend

    return make


def arguments(folder: Path, profile: Any, **changes: Any) -> dict[str, str]:
    """What Triton passes to `initialize`."""
    from google.protobuf.json_format import MessageToDict

    config = MessageToDict(read_config(config_path(folder, profile)), preserving_proto_field_name=True)
    return {
        "model_config": json.dumps({**config, **changes}),
        "model_repository": str(folder),
        "model_version": "1",
        "model_instance_kind": "CPU",
        "model_instance_device_id": "0",
    }


def processes_mentioning(text: str) -> list[int]:
    """Ids of the running processes whose command line contains a text."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                command = (folder / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if text in command:
                found.append(int(folder.name))
    return found


def eventually(condition: Callable[[], bool], timeout_s: float = 20) -> bool:
    """Whether a condition becomes true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
