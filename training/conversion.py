"""One trained network in four forms: SavedModel, ONNX in FP32 and FP16, OpenVINO in int8."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from densescan.preprocessing import replicate
from densescan.tasks import CLASS_INDEX_NAME, IMAGE_SHAPE, INPUT_NAME, OUTPUT_NAME

if TYPE_CHECKING:
    import keras
    import onnx
    import openvino

OPSET = 17
log = logging.getLogger(__name__)


def to_saved_model(model: keras.Model, folder: Path) -> None:
    """Write a SavedModel with two signatures.

    ``serving_default`` takes ``image`` uint8 [n, 224, 224, 3] and answers ``probabilities``; ``gradcam`` takes
    ``class_index`` int32 [n, 1] as well and answers ``heatmap`` [n, 7, 7], too.

    Raises:
        OSError: The folder cannot be written.
    """
    import tensorflow as tf

    from . import gradcam

    explained = gradcam.build_gradient_model(model)
    image = tf.TensorSpec((None, *IMAGE_SHAPE), tf.uint8, name=INPUT_NAME)
    class_index = tf.TensorSpec((None, 1), tf.int32, name=CLASS_INDEX_NAME)

    # Not keras.export.ExportArchive: it writes every weight twice.
    module = tf.Module()
    module.weights = [variable.value for variable in model.variables]

    @tf.function(input_signature=[image])  # type: ignore[untyped-decorator]  # TensorFlow has no type annotations
    def classify(image: Any) -> dict[str, Any]:
        return {OUTPUT_NAME: model(image, training=False)}

    @tf.function(input_signature=[image, class_index])  # type: ignore[untyped-decorator]
    def explain(image: Any, class_index: Any) -> Any:
        return explained({INPUT_NAME: image, CLASS_INDEX_NAME: class_index}, training=False)

    module.classify, module.explain = classify, explain
    signatures = {"serving_default": classify, gradcam.SIGNATURE: explain}
    try:
        tf.saved_model.save(module, str(folder), signatures=signatures)
    except tf.errors.OpError as error:  # a full disk, as TensorFlow says it
        raise OSError(f"{folder} cannot be written: {error.message}") from error


def to_onnx(model: keras.Model, path: Path) -> onnx.ModelProto:
    """Convert to ONNX in FP32 with tf2onnx, with a free batch dimension named ``batch``.

    Inside, the tensors that Grad-CAM reads keep their names (see `gradcam.build_probe`).
    """
    import onnx
    import tensorflow as tf
    import tf2onnx

    from . import gradcam

    probe = gradcam.build_probe(model)

    @tf.function  # type: ignore[untyped-decorator]  # TensorFlow has no type annotations
    def serve(image: Any) -> dict[str, Any]:
        outputs: dict[str, Any] = probe(image, training=False)
        return outputs

    signature = [tf.TensorSpec((None, *IMAGE_SHAPE), tf.uint8, name=INPUT_NAME)]
    converted, _ = tf2onnx.convert.from_function(serve, input_signature=signature, opset=OPSET)
    gradcam.name_ends(converted)
    (answer,) = (value for value in converted.graph.output if value.name == OUTPUT_NAME)
    del converted.graph.output[:]
    converted.graph.output.append(answer)
    onnx.checker.check_model(converted)
    onnx.save(converted, str(path))
    return converted


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


def to_int8(
    onnx_path: Path, path: Path, calibration: npt.NDArray[np.uint8], whole: int = 1, *, widest: bool = False
) -> None:
    """Quantise to OpenVINO int8 with NNCF.

    The first convolution reads the picture itself, whose few grey levels a coarser step would blur for all that
    follows; it is left as it is, which costs no time.

    Args:
        onnx_path: The network in FP32.
        path: The ``.xml`` to write; the weights go beside it as ``.bin``.
        calibration: Grey training images that set the ranges: uint8 [n, 224, 224].
        whole: How many convolutions, counted from the picture, are not quantised.
        widest: Let the ranges reach to the largest value of any image, and not to a mean over the images of each one's
            largest: coarser steps, and nothing cut off.
    """
    import nncf
    import openvino
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    nncf.set_log_level(logging.ERROR)
    network = openvino.convert_model(str(onnx_path))
    dataset = nncf.Dataset(list(calibration), lambda grey: {INPUT_NAME: replicate(grey)[np.newaxis]})
    quantised = nncf.quantize(
        network,
        dataset,
        subset_size=len(calibration),
        preset=nncf.QuantizationPreset.MIXED,
        ignored_scope=nncf.IgnoredScope(names=convolutions(network)[:whole]),
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
        )
        if widest
        else None,
    )
    openvino.save_model(quantised, str(path), compress_to_fp16=True)


def convolutions(network: openvino.Model) -> list[str]:
    """Names of a network's convolutions, those next to the picture first: by the longest way from it."""
    depth: dict[str, int] = {}
    for op in network.get_ordered_ops():
        before = [depth[value.get_node().get_friendly_name()] for value in op.input_values()]
        depth[op.get_friendly_name()] = 1 + max(before, default=0)
    names = [op.get_friendly_name() for op in network.get_ordered_ops() if op.get_type_name() == "Convolution"]
    return sorted(names, key=lambda name: depth[name])
