"""What a GPU needs to be kept busy, tried without one: the same batches, the same steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

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


def test_batches_made_beside_are_those_made_here_whatever_keras_asks_for_in_vain() -> None:
    pytest.importorskip("torch")
    from training.accelerated import prepared_beside

    asked, plain = batches(), batches()
    loader = prepared_beside(asked, workers=2)
    assert len(loader) == len(plain) == 3
    next(iter(loader))  # Keras looks at a batch first
    for epoch in (4, 5):
        asked.epoch = epoch
        iter(loader)
        drawn = list(loader)
        assert len(drawn) == len(plain)
        for place, batch in enumerate(drawn):
            for one, other in zip(batch, plain.of_epoch(epoch, place), strict=True):
                np.testing.assert_array_equal(one.numpy(), other)


RECORDED = """
import keras, numpy as np
from densescan.tasks import XRAY
from training import accelerated, fitting, network
from training.recipes import RELEASE, Phase
from dataclasses import replace

asked = []
def recorded(function, rehearsal):
    rehearsal()  # as recording does: it must leave no trace
    return lambda: asked.append(function.__name__) or function()
accelerated._recorded = recorded

recipe = replace(RELEASE, precision="float32", weight_decay=50.0)
phase = Phase("only", 20, 1e-3, size=64, schedule="cosine")
rng = np.random.default_rng(0)
images, targets = rng.integers(0, 256, (10, 64, 64, 3), np.uint8), np.eye(2, dtype="float32")[[0, 1] * 5]
shares = rng.uniform(0.5, 2, 10).astype("float32")

def trained(record):
    keras.utils.set_random_seed(0)
    model = network.build_classifier(XRAY, size=64, dropout=0.0)
    fitting._compile(model, recipe, phase, steps=2)
    model.optimizer.build(model.trainable_variables)
    model.optimizer.iterations.assign(7)  # as if it were resumed
    if record:
        accelerated.record(model, 8)
    history = model.fit(
        images[:8], targets[:8], batch_size=8, sample_weight=shares[:8], shuffle=False, verbose=0,
        validation_data=(images, targets, shares), validation_batch_size=8,
    ).history
    variables = [variable for variable in (*model.variables, *model.optimizer.variables) if "seed" not in variable.path]
    return history, [(variable.path, keras.ops.convert_to_numpy(variable)) for variable in variables]

history, plain = trained(False)
other, ours = trained(True)
assert asked == ["step", "answer", "answer"], asked
for name, (value,) in history.items():
    np.testing.assert_allclose(value, other[name][0], rtol=1e-3, err_msg=name)
# One step: further on, a network of random weights makes much of the last digit. Where a gradient is but rounding,
# Adam moves by up to the rate (here .001) all the same: hence the median.
pairs = [(path, one, another) for (path, one), (_, another) in zip(plain, ours, strict=True)]
off = [np.abs(one - another).max() / (np.abs(one).max() + 1e-9) for _, one, another in pairs]
assert np.median(off) < 1e-5 and np.quantile(off, 0.95) < 1e-2, sorted(off)[-20:]
one, another = next((one, another) for path, one, another in pairs if path.endswith("hidden/kernel"))
np.testing.assert_allclose(one, another, atol=1e-6)
"""


@pytest.mark.slow
def test_a_recorded_step_trains_as_a_plain_one_and_recording_leaves_no_trace() -> None:
    pytest.importorskip("torch")
    import os
    import subprocess
    import sys

    environment = {**os.environ, "KERAS_BACKEND": "torch", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", RECORDED], env=environment, capture_output=True, text=True, cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_without_a_gpu_nothing_is_recorded() -> None:
    from training.accelerated import on_gpu

    assert not on_gpu()
