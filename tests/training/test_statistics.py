from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from densescan.tasks import XRAY
from training import layouts, network, statistics
from training.batches import Batches
from training.data import load_fold
from training.manifest import Entry
from training.recipes import Augmentation


@pytest.fixture(scope="module")
def images(phantom_sets: Path) -> Batches:
    folder = phantom_sets / "chest_xray"
    found = layouts.find_images(XRAY, folder)
    fold = load_fold([Entry(image.path, image.label, image.group, "train", "") for image in found], XRAY.labels, folder)
    return Batches(fold, size=32, batch_size=8, labels=2, augmentation=Augmentation())


@pytest.mark.slow
def test_settled_statistics_are_the_plain_mean_over_the_images_and_no_weight_moves(images: Batches) -> None:
    model = network.build_classifier(XRAY, size=32)
    first = model.get_layer(network.BACKBONE).get_layer("conv1_bn")
    seen = keras.Model(
        model.get_layer(network.BACKBONE).input, model.get_layer(network.BACKBONE).get_layer("conv1_conv").output
    )
    trainable = [np.array(keras.ops.convert_to_numpy(weight)) for weight in model.trainable_weights]
    momentum = first.momentum
    statistics.settle(model, images, batches=2)
    normalised = np.concatenate([np.asarray(model.get_layer("normalise")(images[place][0])) for place in range(2)])
    values = np.asarray(seen(normalised))
    np.testing.assert_allclose(np.asarray(first.moving_mean), values.mean(axis=(0, 1, 2)), rtol=1e-3, atol=1e-4)
    for before, after in zip(trainable, model.trainable_weights, strict=True):
        np.testing.assert_array_equal(before, keras.ops.convert_to_numpy(after))
    assert first.momentum == momentum


def test_log_loss_is_that_of_the_true_classes(images: Batches) -> None:
    model = network.build_classifier(XRAY, size=32)
    probabilities = np.concatenate([model.predict_on_batch(images[place][0]) for place in range(len(images))])
    targets = np.concatenate([images[place][1] for place in range(len(images))])
    expected = -np.log((probabilities * targets).sum(axis=1)).mean()
    assert statistics.log_loss(model, images) == pytest.approx(expected, rel=1e-4)
