from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import openvino as ov
import pytest
from onnx import TensorProto, helper, numpy_helper

from densescan.tasks import IMAGE_SHAPE, TASKS, Task
from server import EmbeddedTriton
from server.backend_directory import copy_backend
from tests.server import fake_pb_utils
from tests.server.conftest import BACKEND_MODULES

from .. import conftest as shared


def tiny_network(task: Task) -> onnx.ModelProto:
    """`image` to `probabilities` of a task, in a moment: the mean of each channel through one matrix."""
    classes = len(task.labels)
    weights = np.random.default_rng(5).normal(scale=0.01, size=(3, classes)).astype(np.float32)
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", *IMAGE_SHAPE])
    probabilities = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", classes])
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["means"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    graph = helper.make_graph(nodes, "tiny", [image], [probabilities], [numpy_helper.from_array(weights, "weights")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="session")
def repository_of_tiny_networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository that ships, its configs and decoders as they are, with networks that take no time."""
    root = tmp_path_factory.mktemp("repository")
    for task in TASKS.values():
        (root / task.decoder).symlink_to(shared.MODEL_REPOSITORY / task.decoder)
        for name in (task.classifier, task.ensemble):
            _link(shared.MODEL_REPOSITORY / name, root / name)
        folder = root / task.classifier / "1"
        folder.mkdir(exist_ok=True)
        (root / task.ensemble / "1").mkdir(exist_ok=True)
        onnx.save(tiny_network(task), folder / "model.onnx")
        ov.save_model(ov.convert_model(str(folder / "model.onnx")), folder / "model.xml", compress_to_fp16=False)
    return root


@pytest.fixture(scope="session")
def tiny_triton(repository_of_tiny_networks: Path) -> Iterator[EmbeddedTriton]:
    """The real server with that repository."""
    with EmbeddedTriton(repository_of_tiny_networks) as triton:
        yield triton


@pytest.fixture
def backend_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """The backend densescan_openvino, imported as Triton does, with its settings class beside it."""
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", fake_pb_utils)
    monkeypatch.syspath_prepend(str(copy_backend("densescan_openvino", tmp_path)))
    for name in BACKEND_MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module("model")
    for name in BACKEND_MODULES:
        sys.modules.pop(name, None)


def _link(source: Path, target: Path) -> None:
    """A model's folder without its weights, which may not be there yet."""
    target.mkdir()
    for path in source.iterdir():
        if not path.name.isdigit():
            (target / path.name).symlink_to(path)
