"""What a GPU needs to be kept busy, tried without one: the same batches, the same steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from densescan.tasks import XRAY
from training.batches import Batches
from training.data import Fold
from training.manifest import Entry
from training.recipes import RELEASE

REPOSITORY = Path(__file__).parents[2]


def fold(images: int = 24, side: int = 32) -> Fold:
    grey = np.random.default_rng(0).integers(0, 256, (images, side, side), np.uint8)
    entries = tuple(Entry(f"NORMAL/{place}.png", "NORMAL", str(place), "train", "") for place in range(images))
    return Fold(grey, np.arange(images) % 2, entries)


def batches(epoch: int = 0) -> Batches:
    return Batches(
        fold(), size=32, batch_size=8, labels=2, augmentation=RELEASE.augmentation, mixup=0.2, seed=3, epoch=epoch
    )


def test_a_batch_depends_on_its_epoch_and_place_and_not_on_what_was_asked_before() -> None:
    first, second = batches(), batches(epoch=1)
    first.on_epoch_end()
    for one, other in zip(first[1], second.of_epoch(1, 1), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (second.of_epoch(0, 1)[0] != second[1][0]).any()


def test_batches_made_beside_are_those_made_here_epoch_after_epoch() -> None:
    pytest.importorskip("torch")
    from training.accelerated import prepared_beside

    loader, plain = prepared_beside(batches(epoch=4), workers=2), batches(epoch=4)
    assert len(loader) == len(plain) == 3
    for _ in range(2):
        drawn = list(loader)
        assert len(drawn) == len(plain)
        for place, batch in enumerate(drawn):
            for one, other in zip(batch, plain[place], strict=True):
                np.testing.assert_array_equal(one.numpy(), other)
        plain.on_epoch_end()


RECORDED = """
import keras, numpy as np, torch
from densescan.tasks import XRAY
from training import accelerated, network

asked = []
def record(module, sample, **options):
    module(*sample)  # as recording does: it must leave no trace
    return lambda pixels: asked.append(pixels.shape) or module(pixels)
torch.cuda.make_graphed_callables = record

def trained(recorded):
    keras.utils.set_random_seed(0)
    model = network.build_classifier(XRAY, size=32, precision="mixed_bfloat16")
    model.compile(optimizer=keras.optimizers.AdamW(1e-3), loss="categorical_crossentropy")
    if recorded:
        accelerated.capture(model, 32, 4)
    rng = np.random.default_rng(0)
    images, targets = rng.integers(0, 256, (10, 32, 32, 3), np.uint8), np.eye(2, dtype="float32")[[0, 1] * 5]
    model.fit(images, targets, batch_size=4, epochs=2, shuffle=False, verbose=0)
    return model.get_weights(), model.predict(images, verbose=0)

weights, answers = trained(False)
again, same = trained(True)
assert len(asked) == 4, asked  # two whole batches an epoch; the rest of two images is not
for one, other in zip(weights, again):
    np.testing.assert_allclose(one, other, atol=2e-3)
np.testing.assert_allclose(answers, same, atol=0.02)
"""


@pytest.mark.slow
def test_a_recorded_step_trains_as_a_plain_one_and_recording_leaves_no_trace() -> None:
    pytest.importorskip("torch")
    import os
    import subprocess
    import sys

    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    done = subprocess.run(
        [sys.executable, "-c", RECORDED], env=environment, capture_output=True, text=True, cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_without_a_gpu_nothing_is_recorded() -> None:
    from training.accelerated import on_gpu

    assert not on_gpu()
    assert XRAY.labels  # imported with TensorFlow alone
