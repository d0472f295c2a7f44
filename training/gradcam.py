"""Grad-CAM of a trained classifier: which places of the picture raise the logit of a class.

The last feature map (after the final ReLU, 7x7x1024) is summed over its channels, each weighted with the gradient of
the class's logit averaged over space; what is negative is cut off, and the rest scaled to 0..1. The head is pooling,
Dense(relu), Dense, so that gradient is written here in forward operations, which every format can hold (tf2onnx knows
no gradient of ReLU), and which add next to nothing to the classifier's own time.

`heatmap` is the only place that computes it. `build_gradient_model` puts it behind a Keras classifier;
`to_onnx_head` converts it alone, and `onto_onnx` and `onto_openvino` put that behind a classifier that has been
converted already, so that its probabilities stay the classifier's in every form.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from densescan.tasks import CLASS_INDEX_NAME, HEATMAP_NAME, INPUT_NAME, OUTPUT_NAME, PREDICTED

from .network import HIDDEN, LOGITS, POOL

if TYPE_CHECKING:
    import keras
    import onnx
    import openvino

FEATURES_NAME = "features"
HIDDEN_NAME = "hidden"
"""Names of two tensors inside the converted classifiers, float32 or float16: what `heatmap` takes."""

SIGNATURE = "gradcam"
"""Signature of the SavedModel that explains."""

_PREFIX = "gradcam/"


def heatmap(
    features: Any, hidden: Any, probabilities: Any, class_index: Any, hidden_kernel: Any, logits_kernel: Any
) -> Any:
    """The maps of a batch, in operations of Keras.

    Args:
        features: Last feature map, channels first: float32 [n, k, height, width].
        hidden: Output of the hidden layer, after its ReLU: float32 [n, units].
        probabilities: float32 [n, classes].
        class_index: int32 [n, 1]; `PREDICTED` or a class. Any other number gives a map of zeros.
        hidden_kernel: Weights of the hidden layer: float32 [k, units].
        logits_kernel: Weights of the last layer: float32 [units, classes].

    Returns:
        float32 [n, height, width] in 0..1, with a largest value of 1, or all zero where nothing speaks for the class.
    """
    from keras import ops

    features, hidden = ops.cast(features, "float32"), ops.cast(hidden, "float32")
    classes = logits_kernel.shape[1]
    # Every class's map, of which one is chosen at the very end: OpenVINO computes in bfloat16 up to the last matrix
    # product, where two close probabilities may become equal, and in float32 after it.
    by_hidden = ops.transpose(logits_kernel)[None] * ops.cast(hidden > 0, "float32")[:, None]
    # The gradient by the pooled features is the sum over space; the average differs by a factor that scaling cancels.
    weights = ops.matmul(by_hidden, ops.transpose(hidden_kernel))
    _, channels, height, width = features.shape
    maps = ops.matmul(weights, ops.reshape(features, (-1, channels, height * width)))

    numbers = np.arange(classes, dtype=np.int32)[None]
    # Not argmax: Keras writes that for TensorFlow in operations that ONNX has not got.
    best = ops.equal(probabilities, ops.max(probabilities, axis=1, keepdims=True))
    predicted = ops.min(ops.where(best, numbers, np.int32(classes)), axis=1, keepdims=True)
    target = ops.where(ops.equal(class_index, PREDICTED), predicted, class_index)
    # Compared, not gathered: an index out of range reads nothing that is not there.
    chosen = ops.cast(ops.equal(target, numbers), "float32")
    positive = ops.relu(ops.sum(maps * chosen[:, :, None], axis=1))
    peak = ops.max(positive, axis=1, keepdims=True)
    return ops.reshape(positive / (peak + ops.cast(ops.equal(peak, 0), "float32")), (-1, height, width))


def kernels(classifier: keras.Model) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The weights of the hidden and of the last layer."""
    hidden, logits = (np.asarray(classifier.get_layer(name).kernel, np.float32) for name in (HIDDEN, LOGITS))
    return hidden, logits


def build_gradient_model(classifier: keras.Model) -> keras.Model:
    """A model from ``image`` and ``class_index`` int32 [n, 1] to ``probabilities`` and ``heatmap``.

    It shares the classifier's layers. The map follows the weights that the classifier has now.
    """
    import keras
    from keras import ops

    class_index = keras.Input((1,), dtype="int32", name=CLASS_INDEX_NAME)
    features = ops.transpose(classifier.get_layer(POOL).input, (0, 3, 1, 2))
    hidden = classifier.get_layer(HIDDEN).output
    maps = heatmap(features, hidden, classifier.output, class_index, *kernels(classifier))
    return keras.Model(
        {INPUT_NAME: classifier.input, CLASS_INDEX_NAME: class_index},
        {OUTPUT_NAME: classifier.output, HEATMAP_NAME: maps},
        name=f"{classifier.name}_gradcam",
    )


def build_probe(classifier: keras.Model) -> keras.Model:
    """The classifier with two further outputs, ``features`` (channels first) and ``hidden``: what `heatmap` takes."""
    import keras
    from keras import ops

    return keras.Model(
        classifier.input,
        {
            OUTPUT_NAME: classifier.output,
            FEATURES_NAME: ops.transpose(classifier.get_layer(POOL).input, (0, 3, 1, 2)),
            HIDDEN_NAME: classifier.get_layer(HIDDEN).output,
        },
    )


def to_onnx_head(classifier: keras.Model, opset: int) -> onnx.ModelProto:
    """`heatmap` alone, with the classifier's weights: the tensors of `build_probe` and ``class_index`` in."""
    import tensorflow as tf
    import tf2onnx

    hidden_kernel, logits_kernel = (tf.constant(kernel) for kernel in kernels(classifier))
    _, height, width, channels = classifier.get_layer(POOL).input.shape
    units, classes = logits_kernel.shape

    @tf.function  # type: ignore[untyped-decorator]  # TensorFlow has no type annotations
    def head(features: Any, hidden: Any, probabilities: Any, class_index: Any) -> dict[str, Any]:
        return {HEATMAP_NAME: heatmap(features, hidden, probabilities, class_index, hidden_kernel, logits_kernel)}

    signature = [
        tf.TensorSpec((None, channels, height, width), tf.float32, name=FEATURES_NAME),
        tf.TensorSpec((None, units), tf.float32, name=HIDDEN_NAME),
        tf.TensorSpec((None, classes), tf.float32, name=OUTPUT_NAME),
        tf.TensorSpec((None, 1), tf.int32, name=CLASS_INDEX_NAME),
    ]
    converted, _ = tf2onnx.convert.from_function(head, input_signature=signature, opset=opset)
    name_ends(converted)
    return converted


def name_ends(model: onnx.ModelProto) -> None:
    """Give a converted model's inputs and outputs the names of its signature, and their batch dimension one."""
    for value in (*model.graph.input, *model.graph.output):
        name = value.name.split(":")[0]
        for node in model.graph.node:
            node.input[:] = [name if old == value.name else old for old in node.input]
            node.output[:] = [name if old == value.name else old for old in node.output]
        value.name = name
        value.type.tensor_type.shape.dim[0].dim_param = "batch"


def onto_onnx(classifier: onnx.ModelProto, head: onnx.ModelProto) -> onnx.ModelProto:
    """A converted classifier, in FP32 or FP16, with the head's operations added in FP32; its own stay as they are."""
    import onnx

    def inside(name: str) -> str:
        return name if name in ("", OUTPUT_NAME, CLASS_INDEX_NAME, HEATMAP_NAME) else _PREFIX + name

    model = onnx.ModelProto.FromString(classifier.SerializeToString())
    for name in (FEATURES_NAME, HIDDEN_NAME):
        model.graph.node.append(
            onnx.helper.make_node("Cast", [name], [inside(name)], f"{_PREFIX}{name}_cast", to=onnx.TensorProto.FLOAT)
        )
    for node in head.graph.node:
        copy = model.graph.node.add()
        copy.CopyFrom(node)
        copy.name = _PREFIX + node.name
        copy.input[:] = [inside(name) for name in node.input]
        copy.output[:] = [inside(name) for name in node.output]
    for tensor in head.graph.initializer:
        model.graph.initializer.add().CopyFrom(tensor)
        model.graph.initializer[-1].name = inside(tensor.name)
    model.graph.input.extend(value for value in head.graph.input if value.name == CLASS_INDEX_NAME)
    model.graph.output.extend(head.graph.output)
    onnx.checker.check_model(model, full_check=True)
    return model


def onto_openvino(classifier: Path, head: onnx.ModelProto, path: Path) -> None:
    """An OpenVINO classifier, quantised or not, with the head's operations added in FP32; its own stay as they are.

    Of a quantised one the head reads the rounded tensors. Then OpenVINO computes the classifier's part in the same
    precisions as without the head, and the probabilities are the same, in large batches but for the order of a sum.

    Raises:
        ValueError: The file lacks the named tensors: it was not converted by `conversion.to_onnx`.
    """
    import openvino

    core = openvino.Core()
    model = core.read_model(classifier)
    added = core.read_model(head.SerializeToString())
    sources = {name: port for op in model.get_ops() for port in op.outputs() for name in port.get_names()}
    parameters = {parameter.output(0).get_any_name(): parameter for parameter in added.get_parameters()}
    class_index = parameters.pop(CLASS_INDEX_NAME)
    for name, parameter in parameters.items():
        if name not in sources:
            raise ValueError(f"{classifier} has no tensor named {name!r}; convert the network anew")
        for reader in parameter.output(0).get_target_inputs():
            reader.replace_source_output(_rounded(sources[name]))
    model.add_parameters([class_index])
    model.add_results(added.get_results())
    model.validate_nodes_and_infer_types()
    openvino.save_model(model, str(path), compress_to_fp16=True)


def _rounded(port: openvino.Output) -> openvino.Output:
    """What the next layer reads of a tensor: its quantised form, where it has one."""
    for reader in port.get_target_inputs():
        if reader.get_node().get_type_name() == "FakeQuantize":
            return reader.get_node().output(0)
    return port
