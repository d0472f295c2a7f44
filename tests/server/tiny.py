"""Networks of a few numbers, in repositories that the real server loads in a moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import openvino as ov
from onnx import TensorProto, helper, numpy_helper

SIDE = 8
CLASSES = 3
MAX_BATCH_SIZE = 4
TABLE_ROWS = 5

WEIGHTS = np.random.default_rng(7).normal(scale=0.01, size=(3, CLASSES)).astype(np.float32)
TABLE = np.arange(TABLE_ROWS * 2, dtype=np.float32).reshape(TABLE_ROWS, 2)


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def expected_probabilities(images: np.ndarray) -> np.ndarray:
    logits = images.astype(np.float32).mean(axis=(1, 2)) @ WEIGHTS
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def single() -> onnx.ModelProto:
    """`image` to `probabilities`."""
    return _model([_image()], [_probabilities()], _classify())


def pair() -> onnx.ModelProto:
    """`image` and `class_index` to `probabilities` and `heatmap`, a row of TABLE: ONNX Runtime fails beyond its end."""
    index = helper.make_tensor_value_info("class_index", TensorProto.INT32, ["n", 1])
    heatmap = helper.make_tensor_value_info("heatmap", TensorProto.FLOAT, ["n", 2])
    nodes = [
        *_classify(),
        helper.make_node("Squeeze", ["class_index", "one"], ["rows"]),
        helper.make_node("Gather", ["table", "rows"], ["heatmap"], axis=0),
    ]
    extra = [numpy_helper.from_array(np.array([1]), "one"), numpy_helper.from_array(TABLE, "table")]
    return _model([_image(), index], [_probabilities(), heatmap], nodes, extra)


def save(model: onnx.ModelProto, folder: Path) -> None:
    """Both forms of a network, named as the profiles name them."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "model.onnx")
    ov.save_model(ov.convert_model(str(folder / "model.onnx")), folder / "model.xml", compress_to_fp16=False)


def write_repository(root: Path, delay_us: int = 100_000) -> Path:
    """Two models, `tiny` and `tiny_pair`, with both profiles; the delay makes batches of what comes together.

    OpenVINO compiles `tiny` for any batch size and `tiny_pair` for two of its own.
    """
    image = f'{{ name: "image" data_type: TYPE_UINT8 format: FORMAT_NHWC dims: [ {SIDE}, {SIDE}, 3 ] }}'
    index = '{ name: "class_index" data_type: TYPE_INT32 dims: [ 1 ] }'
    probabilities = f'{{ name: "probabilities" data_type: TYPE_FP32 dims: [ {CLASSES} ] }}'
    heatmap = '{ name: "heatmap" data_type: TYPE_FP32 dims: [ 2 ] }'
    for name, network, inputs, outputs, sizes in (
        ("tiny", single(), image, probabilities, ""),
        ("tiny_pair", pair(), f"{image}, {index}", f"{probabilities}, {heatmap}", "1,2"),
    ):
        folder = root / name
        save(network, folder / "1")
        (folder / "configs").mkdir()
        for path, backend, file, kind in (
            (folder / "config.pbtxt", "onnxruntime", "model.onnx", "KIND_GPU"),
            (folder / "configs/cpu.pbtxt", "densescan_openvino", "model.xml", "KIND_CPU"),
        ):
            path.write_text(f"""
                name: "{name}" backend: "{backend}" default_model_filename: "{file}"
                max_batch_size: {MAX_BATCH_SIZE} input [ {inputs} ] output [ {outputs} ]
                dynamic_batching {{ max_queue_delay_microseconds: {delay_us} }}
                instance_group [ {{ kind: {kind} count: 1 }} ]
                parameters {{ key: "INFERENCE_NUM_THREADS" value {{ string_value: "1" }} }}
                # Otherwise a CPU that has bf16 calculates in it, to three digits.
                parameters {{ key: "INFERENCE_PRECISION" value {{ string_value: "f32" }} }}
                parameters {{ key: "FIXED_BATCH_SIZES" value {{ string_value: "{sizes}" }} }}
                parameters {{ key: "intra_op_thread_count" value {{ string_value: "1" }} }}
            """)
    return root


def _image() -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", SIDE, SIDE, 3])


def _probabilities() -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", CLASSES])


def _classify() -> list[onnx.NodeProto]:
    return [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["means"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]


def _model(
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    nodes: list[onnx.NodeProto],
    extra: list[onnx.TensorProto] | None = None,
) -> onnx.ModelProto:
    constants = [numpy_helper.from_array(WEIGHTS, "weights"), *(extra or [])]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
