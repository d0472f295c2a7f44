"""What a flood of encoded files costs: the decoder decodes what the network takes, and no more."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from densescan import draw_phantom
from densescan.tasks import ENCODED_NAME, MRI, XRAY, Task

pytestmark = pytest.mark.triton

MANY = 600


def executed(wire: InferenceServerClient, model: str) -> int:
    """Pictures that a model has answered."""
    return sum(int(stats.inference_count) for stats in wire.get_inference_statistics(model).model_stats)


def encoded(task: Task, folder: Path) -> list[InferInput]:
    path = folder / f"{task.name}.jpg"
    draw_phantom(task.name).save(path)
    tensor = InferInput(ENCODED_NAME, [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[path.read_bytes()]], object))
    return [tensor]


def test_files_that_are_no_pictures_are_told_and_do_not_keep_others_waiting(triton: Any, tmp_path: Path) -> None:
    film, bad = encoded(XRAY, tmp_path), InferInput(ENCODED_NAME, [1, 1], "BYTES")
    bad.set_data_from_numpy(np.array([[b"no picture"]], object))
    with InferenceServerClient(triton.grpc_url) as wire:
        for _ in range(50):
            with pytest.raises(InferenceServerException, match="is no picture"):
                wire.infer(XRAY.ensemble, [bad])
        assert wire.infer(XRAY.ensemble, film).as_numpy("probabilities") is not None


def test_of_a_flood_nothing_is_decoded_to_be_refused_and_the_other_task_is_answered(
    triton: Any, tmp_path: Path
) -> None:
    outcomes: Counter[str] = Counter()
    done, lock = threading.Semaphore(0), threading.Lock()

    def note(result: Any, error: InferenceServerException | None) -> None:
        with lock:
            outcomes["answered" if error is None else error.message()[-60:]] += 1
        done.release()

    film, slice_ = encoded(XRAY, tmp_path), encoded(MRI, tmp_path)
    with InferenceServerClient(triton.grpc_url) as wire:
        wire.infer(XRAY.ensemble, film)  # from now on, and for some seconds, the count says something
        before = {model: executed(wire, model) for model in (XRAY.decoder, XRAY.classifier)}
        for _ in range(MANY):
            wire.async_infer(XRAY.ensemble, film, note)
        assert wire.infer(MRI.ensemble, slice_).as_numpy("probabilities") is not None
        for _ in range(MANY):
            assert done.acquire(timeout=120)
        decoded, taken = (executed(wire, model) - before[model] for model in (XRAY.decoder, XRAY.classifier))
    assert outcomes["answered"] == taken
    assert outcomes.total() == MANY
    assert taken < MANY  # it was a flood
    assert decoded == taken
