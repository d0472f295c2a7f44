from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest

from training import fused

ROOT = Path(__file__).resolve().parents[2]

# Runs by itself, because Keras takes its backend once a process.
_COMPARE = """
import keras, numpy as np
from training.fused import with_fused_layers

plain = keras.applications.DenseNet121(include_top=False, weights=None, input_shape=(64, 64, 3))
fast = with_fused_layers(plain)
kinds = {type(layer).__name__ for layer in fast.layers}
assert {"FusedConv2D", "FusedBatchNormalization", "FusedMaxPooling2D", "FusedAveragePooling2D"} <= kinds, kinds
pixels = np.random.default_rng(0).normal(size=(4, 64, 64, 3)).astype(np.float32)
for training in (False, True):
    expected, got = (keras.ops.convert_to_numpy(model(pixels, training=training)) for model in (plain, fast))
    np.testing.assert_allclose(got, expected, atol=1e-3)
for before, after in zip(plain.get_weights(), fast.get_weights(), strict=True):
    np.testing.assert_allclose(after, before, rtol=2e-2, atol=5e-3)  # the moving statistics, updated once
"""


@pytest.mark.slow
def test_the_fast_layers_compute_what_keras_layers_do_on_the_torch_backend() -> None:
    if find_spec("torch") is None:
        pytest.skip("PyTorch is not installed: Keras' torch backend is an option of training")
    path = os.pathsep.join([str(ROOT), str(ROOT / "client")])
    done = subprocess.run(
        [sys.executable, "-c", _COMPARE],
        env={**os.environ, "KERAS_BACKEND": "torch", "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="the torch backend has other layers")
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (fused.FusedBatchNormalization, keras.layers.BatchNormalization),
        (fused.FusedConv2D, keras.layers.Conv2D),
        (fused.FusedMaxPooling2D, keras.layers.MaxPooling2D),
        (fused.FusedAveragePooling2D, keras.layers.AveragePooling2D),
    ],
)
def test_off_the_torch_backend_they_are_keras_own(
    ours: type[keras.layers.Layer], theirs: type[keras.layers.Layer]
) -> None:
    kinds = {"Conv": {"filters": 5, "kernel_size": 3}, "Pool": {"pool_size": 2}}
    options = next((chosen for word, chosen in kinds.items() if word in ours.__name__), {})
    features = np.random.default_rng(0).normal(3, 2, (2, 8, 8, 4)).astype(np.float32)
    first, second = ours(**options), theirs(**options)
    first.build(features.shape)
    second.build(features.shape)
    second.set_weights(first.get_weights())
    np.testing.assert_array_equal(first(features), second(features))


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="the torch backend has other layers")
def test_off_the_torch_backend_a_model_stays_as_it_is() -> None:
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3)])
    assert fused.with_fused_layers(model) is model
