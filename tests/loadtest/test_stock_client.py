"""A stock Triton image client, which knows nothing of densescan, against the real server."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image
from tritonclient import grpc as triton_grpc
from tritonclient.utils import triton_to_np_dtype

from densescan import Client
from densescan.phantoms import draw_phantom
from densescan.tasks import TASKS, Task


@pytest.mark.triton
@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_a_stock_image_client_needs_no_setting_but_no_scaling(tiny_triton: Any, task: Task) -> None:
    """What Triton's example image client does with `-s NONE -c CLASSES`, step by step and with its own checks."""
    client = triton_grpc.InferenceServerClient(tiny_triton.grpc_url)
    metadata = client.get_model_metadata(task.classifier)
    config = client.get_model_config(task.classifier).config
    (tensor,), (output,) = metadata.inputs, metadata.outputs
    (described,) = config.input
    assert output.datatype == "FP32"
    assert sum(size > 1 for size in output.shape[1:]) <= 1
    assert config.max_batch_size > 0
    assert len(tensor.shape) == 4
    assert described.format == described.FORMAT_NHWC
    height, width, channels = tensor.shape[1:]

    picture = draw_phantom(task, size=300).convert("RGB" if channels == 3 else "L")
    resized = picture.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.array(resized).astype(triton_to_np_dtype(tensor.datatype))
    batch = np.stack([pixels, pixels])

    image = triton_grpc.InferInput(tensor.name, batch.shape, tensor.datatype)
    image.set_data_from_numpy(batch)
    wanted = triton_grpc.InferRequestedOutput(output.name, class_count=len(task.labels))
    answer = client.infer(task.classifier, [image], outputs=[wanted]).as_numpy(output.name)
    client.close()

    with Client(tiny_triton.grpc_url, timeout_s=30) as sdk:
        expected = sdk.classify(task, pixels).probabilities
    for row in answer:
        parts = [text.decode().split(":") for text in row]
        assert [label for _, _, label in parts] == sorted(task.labels, key=lambda label: -expected[label])
        assert all(task.labels[int(index)] == label for _, index, label in parts)
        assert float(parts[0][0]) == pytest.approx(max(expected.values()), abs=1e-4)
