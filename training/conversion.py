"""One trained network in four forms: SavedModel, ONNX in FP32 and FP16, OpenVINO in int8."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from densescan.preprocessing import replicate
from densescan.tasks import IMAGE_SHAPE, INPUT_NAME, OUTPUT_NAME

if TYPE_CHECKING:
    import keras
    import onnx

OPSET = 17
log = logging.getLogger(__name__)


def to_saved_model(model: keras.Model, folder: Path) -> None:
    """Write a SavedModel whose signature takes ``image`` uint8 [n, 224, 224, 3] and answers ``probabilities``."""
    import keras
    import tensorflow as tf

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        name="serving_default",
        fn=lambda image: {OUTPUT_NAME: model(image, training=False)},
        input_signature=[tf.TensorSpec((None, *IMAGE_SHAPE), tf.uint8, name=INPUT_NAME)],
    )
    archive.write_out(str(folder), verbose=False)


def to_onnx(model: keras.Model, path: Path) -> onnx.ModelProto:
    """Convert to ONNX in FP32 with tf2onnx, with a free batch dimension named ``batch``."""
    import onnx
    import tensorflow as tf
    import tf2onnx

    @tf.function  # type: ignore[untyped-decorator]  # TensorFlow has no type annotations
    def serve(image: Any) -> dict[str, Any]:
        return {OUTPUT_NAME: model(image, training=False)}

    signature = [tf.TensorSpec((None, *IMAGE_SHAPE), tf.uint8, name=INPUT_NAME)]
    converted, _ = tf2onnx.convert.from_function(serve, input_signature=signature, opset=OPSET)
    _name_ends(converted)
    onnx.checker.check_model(converted)
    onnx.save(converted, str(path))
    return converted


def _name_ends(model: onnx.ModelProto) -> None:
    """Name the input, the output and their batch dimension as the served models do."""
    for values, name in ((model.graph.input, INPUT_NAME), (model.graph.output, OUTPUT_NAME)):
        (value,) = values
        for node in model.graph.node:
            node.input[:] = [name if old == value.name else old for old in node.input]
            node.output[:] = [name if old == value.name else old for old in node.output]
        value.name = name
        value.type.tensor_type.shape.dim[0].dim_param = "batch"


def to_fp16(model: onnx.ModelProto, path: Path) -> None:
    """Write `model` with FP16 inside; the input stays uint8, the output float32."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    half = convert_float_to_float16(
        onnx.ModelProto.FromString(model.SerializeToString()),
        keep_io_types=True,
        # The softmax stays in FP32, so that small probabilities do not vanish.
        op_block_list=["Softmax"],
    )
    # The converter appends the casts around that node at the end; ONNX wants each before its use.
    OnnxModel(half).topological_sort()
    onnx.checker.check_model(half)
    onnx.save(half, str(path))


def to_int8(onnx_path: Path, path: Path, calibration: npt.NDArray[np.uint8]) -> None:
    """Quantise to OpenVINO int8 with NNCF.

    Args:
        onnx_path: The network in FP32.
        path: The ``.xml`` to write; the weights go beside it as ``.bin``.
        calibration: Grey training images that set the ranges: uint8 [n, 224, 224].
    """
    import nncf
    import openvino

    nncf.set_log_level(logging.ERROR)
    network = openvino.convert_model(str(onnx_path))
    dataset = nncf.Dataset(list(calibration), lambda grey: {INPUT_NAME: replicate(grey)[np.newaxis]})
    quantised = nncf.quantize(
        network,
        dataset,
        subset_size=len(calibration),
        preset=nncf.QuantizationPreset.MIXED,
        fast_bias_correction=False,
    )
    openvino.save_model(quantised, str(path), compress_to_fp16=True)
