from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from densescan.preprocessing import preprocess_batch, replicate
from densescan.tasks import MRI, TASKS, XRAY
from training import gradcam
from training.network import BACKBONE, FEATURES, HIDDEN, LOGITS, POOL, build_classifier

from .gradcam_networks import noise, tiny_classifier


def by_gradient_tape(classifier: Any, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Grad-CAM as its authors wrote it down, by automatic differentiation and nothing of ours."""
    import keras
    import tensorflow as tf

    features_of = keras.Model(classifier.input, classifier.get_layer(POOL).input)
    head = keras.Model(classifier.get_layer(POOL).input, classifier.get_layer(LOGITS).output)
    features = features_of(images, training=False)
    with tf.GradientTape() as tape:
        tape.watch(features)
        chosen = tf.gather(head(features, training=False), classes, axis=1, batch_dims=1)
    weights = tf.reduce_mean(tape.gradient(chosen, features), axis=(1, 2), keepdims=True)
    maps = tf.nn.relu(tf.reduce_sum(weights * features, axis=3)).numpy()
    peaks = maps.max(axis=(1, 2), keepdims=True)
    return np.divide(maps, peaks, out=np.zeros_like(maps), where=peaks > 0)


def ask(model: Any, images: np.ndarray, classes: Any) -> dict[str, np.ndarray]:
    indices = np.broadcast_to(np.asarray(classes, np.int32), len(images))[:, np.newaxis]
    answer = model({"image": images, "class_index": indices}, training=False)
    return {name: np.asarray(value) for name, value in answer.items()}


@pytest.fixture(scope="module")
def small() -> tuple[Any, Any]:
    """DenseNet-121 itself, at 64x64: a map of 2x2."""
    import keras

    keras.utils.set_random_seed(3)
    classifier = build_classifier(MRI, size=64)
    for name in (HIDDEN, LOGITS):
        layer = classifier.get_layer(name)
        layer.bias.assign(np.random.default_rng(1).normal(scale=0.3, size=layer.bias.shape))
    return classifier, gradcam.build_gradient_model(classifier)


@pytest.fixture(scope="module", params=TASKS.values(), ids=list(TASKS))
def tiny(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    classifier = tiny_classifier(request.param)
    return classifier, gradcam.build_gradient_model(classifier)


# Against automatic differentiation


@pytest.mark.parametrize("batch", range(1, 9))
def test_the_map_is_that_of_automatic_differentiation_for_every_class_and_batch_size(
    tiny: tuple[Any, Any], batch: int
) -> None:
    classifier, model = tiny
    images = replicate(noise(batch, seed=batch))
    for index in range(classifier.output.shape[1]):
        classes = np.full(batch, index)
        np.testing.assert_allclose(
            ask(model, images, classes)["heatmap"], by_gradient_tape(classifier, images, classes), atol=1e-4
        )


def test_every_picture_of_a_batch_is_explained_for_its_own_class(tiny: tuple[Any, Any]) -> None:
    classifier, model = tiny
    images, classes = replicate(noise(8)), np.arange(8) % classifier.output.shape[1]
    expected = by_gradient_tape(classifier, images, classes)
    np.testing.assert_allclose(ask(model, images, classes)["heatmap"], expected, atol=1e-4)


@pytest.mark.slow
def test_the_map_of_densenet_is_that_of_automatic_differentiation(small: tuple[Any, Any]) -> None:
    classifier, model = small
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    for index in range(4):
        classes = np.full(3, index)
        got, expected = ask(model, images, classes)["heatmap"], by_gradient_tape(classifier, images, classes)
        np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.data
def test_the_map_of_real_pictures_is_that_of_automatic_differentiation(
    tiny: tuple[Any, Any], densescan_data: Path
) -> None:
    classifier, model = tiny
    files = sorted(densescan_data.glob("*/*/*/*.jp*g"))[::2000]
    images = preprocess_batch(files)
    for index in range(classifier.output.shape[1]):
        classes = np.full(len(images), index)
        np.testing.assert_allclose(
            ask(model, images, classes)["heatmap"], by_gradient_tape(classifier, images, classes), atol=1e-4
        )


def test_the_explained_features_are_all_of_the_last_map_after_its_relu(small: tuple[Any, Any]) -> None:
    classifier, model = small
    features = classifier.get_layer(POOL).input
    assert features.shape == (None, 2, 2, 1024)  # the last convolution alone would have 32 channels
    assert classifier.get_layer(BACKBONE).layers[-1].name == FEATURES
    assert classifier.get_layer(BACKBONE).output is classifier.get_layer(BACKBONE).layers[-1].output
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    assert any(np.ptp(ask(model, image, index)["heatmap"]) > 0 for index in range(4))


# What is asked and answered


def test_minus_one_explains_the_most_probable_class(tiny: tuple[Any, Any]) -> None:
    _, model = tiny
    images = replicate(noise(6, seed=4))
    answer = ask(model, images, gradcam.PREDICTED)
    explicit = ask(model, images, answer["probabilities"].argmax(axis=1))
    np.testing.assert_array_equal(answer["heatmap"], explicit["heatmap"])


def test_the_probabilities_are_the_classifiers(tiny: tuple[Any, Any]) -> None:
    classifier, model = tiny
    images = replicate(noise(4))
    expected = np.asarray(classifier(images, training=False))
    for index in (-1, 0, 1, 77):
        np.testing.assert_array_equal(ask(model, images, index)["probabilities"], expected)


@pytest.mark.parametrize("index", [-2, 4, 5, 2**31 - 1, -(2**31)])
def test_an_index_out_of_range_gives_an_empty_map_and_nothing_else_goes_wrong(index: int) -> None:
    model = gradcam.build_gradient_model(tiny_classifier(MRI))
    answer = ask(model, replicate(noise(2)), index)
    assert not answer["heatmap"].any()
    assert np.isfinite(answer["probabilities"]).all()


def test_a_class_that_nothing_speaks_for_has_an_empty_map() -> None:
    classifier = tiny_classifier(XRAY)
    kernel = classifier.get_layer(LOGITS).kernel
    kernel.assign(-np.abs(np.asarray(kernel)))  # every hidden unit speaks against every class
    hidden = classifier.get_layer(HIDDEN).kernel
    hidden.assign(np.abs(np.asarray(hidden)))
    answer = ask(gradcam.build_gradient_model(classifier), replicate(noise(2)), 0)
    np.testing.assert_array_equal(answer["heatmap"], 0)


def test_of_equally_probable_classes_the_first_is_explained() -> None:
    classifier = tiny_classifier(MRI)
    logits = classifier.get_layer(LOGITS)
    kernel, bias = np.asarray(logits.kernel).copy(), np.asarray(logits.bias).copy()
    kernel[:, 3] = kernel[:, 1]
    bias[[1, 3]] = 50
    logits.set_weights([kernel, bias])
    model = gradcam.build_gradient_model(classifier)
    images = replicate(noise(2))
    predicted, first = ask(model, images, -1), ask(model, images, 1)
    assert predicted["probabilities"][0, 1] == predicted["probabilities"][0, 3]
    np.testing.assert_array_equal(predicted["heatmap"], first["heatmap"])


_NUMBERS = st.floats(-4, 4, width=32).map(lambda value: 0.0 if abs(value) < 1e-3 else value)


@settings(max_examples=60)
@given(st.data())
def test_a_map_lies_in_0_to_1_reaches_1_or_is_empty_and_ignores_the_scale(data: st.DataObject) -> None:
    def draw(*shape: int) -> np.ndarray:
        return data.draw(hnp.arrays(np.float32, shape, elements=_NUMBERS))

    features, hidden = np.abs(draw(2, 3, 2, 2)), np.maximum(draw(2, 4), 0)
    kernels, indices = (draw(3, 4), draw(4, 2)), np.array([[0], [-1]], np.int32)
    probabilities = np.array([[0.4, 0.6], [0.7, 0.3]], np.float32)
    maps = np.asarray(gradcam.heatmap(features, hidden, probabilities, indices, *kernels))
    assert maps.shape == (2, 2, 2)
    assert np.isfinite(maps).all()
    assert (maps >= 0).all()
    assert set(maps.max(axis=(1, 2)).tolist()) <= {0.0, 1.0}
    doubled = np.asarray(gradcam.heatmap(features * 2, hidden, probabilities, indices, *kernels))
    np.testing.assert_allclose(doubled, maps, atol=1e-5)
