from __future__ import annotations

import hashlib
import math
from pathlib import Path

import keras
import numpy as np
import pytest

from densescan.phantoms import draw_phantom
from densescan.preprocessing import preprocess_grey
from densescan.tasks import MRI, XRAY
from server.embedded import DEFAULT_REPOSITORY
from training import network, predictors
from training.explain_check import newest_version
from training.exporting import SAVED_MODEL
from training.network import WeightsUnavailable


@pytest.fixture(scope="module")
def classifier() -> keras.Model:
    keras.utils.set_random_seed(0)
    return network.build_classifier(MRI, size=64)


def trainable_parameters(model: keras.Model) -> int:
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


def test_it_is_the_reports_network(classifier: keras.Model) -> None:
    assert classifier.count_params() == 7_564_356
    network.set_trainable(classifier, "head")
    assert trainable_parameters(classifier) == 526_852
    network.set_trainable(classifier, "top_half")
    assert trainable_parameters(classifier) == 5_158_724
    network.set_trainable(classifier, "all")
    assert trainable_parameters(classifier) > 7_400_000
    assert len(classifier.get_layer(network.BACKBONE).layers) == 427


def test_pixels_are_normalised_as_the_imagenet_weights_expect(classifier: keras.Model) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    inside = keras.Model(classifier.input, classifier.get_layer("normalise").output)(pixels)
    expected = keras.applications.densenet.preprocess_input(pixels.astype(np.float32))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(inside), expected, atol=1e-5)


def test_it_takes_bytes_and_answers_with_probabilities(classifier: keras.Model) -> None:
    answer = classifier.predict_on_batch(np.zeros((3, 64, 64, 3), np.uint8))
    assert (answer.shape, answer.dtype) == ((3, 4), np.float32)
    np.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-6)
    assert classifier.input.dtype == "uint8"


def test_the_named_feature_map_has_every_channel_and_comes_after_the_last_activation() -> None:
    backbone = network.build_classifier(XRAY).get_layer(network.BACKBONE)
    features = backbone.get_layer(network.FEATURES)
    assert features.output.shape == (None, 7, 7, 1024)
    assert backbone.layers[-1] is features


def test_another_size_or_precision_keeps_the_weights(classifier: keras.Model) -> None:
    other = network.rebuilt(classifier, MRI, 96, "mixed_bfloat16")
    assert other.input_shape == (None, 96, 96, 3)
    assert other.output.dtype == "float32"
    for before, after in zip(classifier.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert keras.config.dtype_policy().name == "float32"


def test_a_saved_network_answers_alike(classifier: keras.Model, tmp_path: Path) -> None:
    classifier.save(tmp_path / "a.keras")
    pixels = np.random.default_rng(1).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    expected = classifier.predict_on_batch(pixels)
    np.testing.assert_array_equal(network.load_model(tmp_path / "a.keras").predict_on_batch(pixels), expected)


def test_unreachable_imagenet_weights_name_the_alternatives(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **options: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(keras.applications, "DenseNet121", offline)
    with pytest.raises(WeightsUnavailable, match=r"--weights none .* or --weights FILE"):
        network.build_classifier(MRI, size=64, weights="imagenet")


def test_a_weights_file_is_taken_and_a_wrong_one_refused(classifier: keras.Model, tmp_path: Path) -> None:
    classifier.save(tmp_path / "a.keras")
    again = network.build_classifier(MRI, size=64, weights=str(tmp_path / "a.keras"))
    np.testing.assert_array_equal(again.get_weights()[0], classifier.get_weights()[0])
    with pytest.raises(WeightsUnavailable, match="holds no weights of this network"):
        network.build_classifier(XRAY, size=64, weights=str(tmp_path / "a.keras"))
    with pytest.raises(WeightsUnavailable, match="no weights at"):
        network.build_classifier(XRAY, size=64, weights=str(tmp_path / "none.keras"))


INSTALLED = newest_version(DEFAULT_REPOSITORY, XRAY, XRAY.classifier) / SAVED_MODEL


@pytest.mark.slow
def test_weights_of_an_installed_network_answer_as_the_installed_one() -> None:
    grey = np.stack([np.asarray(preprocess_grey(draw_phantom(XRAY, seed=seed))) for seed in range(3)])
    served = predictors.predict(predictors.open_model(INSTALLED), grey)
    model = network.build_classifier(XRAY, weights=str(INSTALLED))
    np.testing.assert_allclose(predictors.predict(predictors.keras_model(model), grey), served, atol=1e-4)
    assert np.ptp(served[:, 1]) > 1e-3, "pictures that are all answered alike would show nothing"


@pytest.mark.slow
def test_another_tasks_installed_network_is_refused() -> None:
    with pytest.raises(WeightsUnavailable, match=r"holds no weights of this network: variable \d+ is .*logits"):
        network.build_classifier(MRI, size=64, weights=str(INSTALLED))


def test_a_folder_that_is_no_saved_model_names_what_is_taken(tmp_path: Path) -> None:
    (tmp_path / "variables").mkdir()
    for action in (network.weights_hash, lambda weights: network.build_classifier(XRAY, size=64, weights=weights)):
        with pytest.raises(WeightsUnavailable, match=r"no weights at .* a SavedModel's folder such as"):
            action(str(tmp_path))


def test_a_damaged_weights_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.keras").write_bytes(b"torn")
    with pytest.raises(WeightsUnavailable, match="holds no weights of this network"):
        network.build_classifier(XRAY, size=64, weights=str(tmp_path / "a.keras"))


def saved_model(folder: Path, content: bytes = b"content") -> Path:
    (folder / "variables").mkdir(parents=True)
    (folder / "variables/variables.index").write_bytes(b"index")
    (folder / "variables/variables.data-00000-of-00001").write_bytes(content)
    (folder / "saved_model.pb").write_bytes(folder.name.encode())
    return folder


def test_the_hash_of_weights_is_that_of_their_bytes_alone(tmp_path: Path) -> None:
    (tmp_path / "a.keras").write_bytes(b"weights")
    assert network.weights_hash(str(tmp_path / "a.keras")) == hashlib.sha256(b"weights").hexdigest()
    assert network.weights_hash("none") is None
    assert network.weights_hash("imagenet") is None
    first, again = saved_model(tmp_path / "first"), saved_model(tmp_path / "again")
    assert network.weights_hash(str(first)) == network.weights_hash(str(again)), "the graph beside them does not count"
    assert network.weights_hash(str(first)) != network.weights_hash(str(saved_model(tmp_path / "other", b"changed")))
