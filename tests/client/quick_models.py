"""A repository of models that answer at once, after a second or when a test lets them, for the real server's edges.

They are Triton's own Python models: nothing has to be trained or compiled, and they load in a moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from densescan.tasks import TASKS

SLOW_S = 0.6

_MODEL = """
import pathlib
import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            images = pb_utils.get_input_tensor_by_name(request, "image").as_numpy()
            if {gate!r}:
                pathlib.Path({gate!r}, "entered").touch()
                while pathlib.Path({gate!r}, "closed").exists():
                    time.sleep(0.01)
            time.sleep({sleep_s})
            white = images.reshape(len(images), -1).mean(axis=1, keepdims=True) / 255
            others = np.repeat((1 - white) / {others}, {others}, axis=1)
            probabilities = np.concatenate([others, white], axis=1).astype(np.float32)
            outputs = [pb_utils.Tensor("probabilities", probabilities)]
            if {heatmap}:
                maps = np.tile(np.linspace(0, 1, 49, dtype=np.float32).reshape(1, 7, 7), (len(images), 1, 1))
                outputs.append(pb_utils.Tensor("heatmap", maps))
            responses.append(pb_utils.InferenceResponse(outputs))
        return responses
"""


class Gate:
    """Lets MRI answer nothing for a while: its model, a process of its own, looks at files in this folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Meanwhile every request of MRI waits that the model has begun."""
        (self.folder / "entered").unlink(missing_ok=True)
        (self.folder / "closed").touch()
        try:
            yield
        finally:
            (self.folder / "closed").unlink()

    def entered(self) -> bool:
        """Whether the model has begun with a request since it was closed."""
        return (self.folder / "entered").exists()


def write_repository(root: Path, slow_s: float = SLOW_S, max_batch_size: int = 1, gate: Gate | None = None) -> Path:
    """X-ray answers at once with the mean brightness; MRI takes `slow_s`, batch by batch, and lets two wait."""
    for task in TASKS.values():
        sleep_s = 0 if task.name == "xray" else slow_s
        folder_of_gate = "" if gate is None or task.name == "xray" else str(gate.folder)
        for name, heatmap in ((task.classifier, False), (task.gradcam, True)):
            folder = root / name
            (folder / "1").mkdir(parents=True)
            code = _MODEL.format(gate=folder_of_gate, sleep_s=sleep_s, others=len(task.labels) - 1, heatmap=heatmap)
            (folder / "1/model.py").write_text(code)
            inputs = '{ name: "image" data_type: TYPE_UINT8 dims: [ 224, 224, 3 ] }'
            outputs = f'{{ name: "probabilities" data_type: TYPE_FP32 dims: [ {len(task.labels)} ] }}'
            if heatmap:
                inputs += ', { name: "class_index" data_type: TYPE_INT32 dims: [ 1 ] }'
                outputs += ', { name: "heatmap" data_type: TYPE_FP32 dims: [ 7, 7 ] }'
            (folder / "config.pbtxt").write_text(f"""
                name: "{name}" backend: "python" max_batch_size: {max_batch_size}
                input [ {inputs} ] output [ {outputs} ] instance_group [ {{ kind: KIND_CPU count: 1 }} ]
                dynamic_batching {{ default_queue_policy {{ max_queue_size: {64 if task.name == "xray" else 2} }} }}
                parameters {{ key: "operating_point" value {{ string_value: "0.25" }} }}
            """)
    return root
