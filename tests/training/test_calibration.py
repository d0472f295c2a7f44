from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from densescan.tasks import MRI
from training import calibration, metrics, network


def overconfident(count: int = 4000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Classes, the probabilities they were drawn from, and the same with logits three times too large."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.2, (count, 3))
    honest = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    classes = np.array([rng.choice(3, p=row) for row in honest])
    wild = np.exp(3 * logits)
    return classes, honest, (wild / wild.sum(axis=1, keepdims=True)).astype(np.float32)


def test_the_calibration_undoes_overconfidence() -> None:
    classes, honest, wild = overconfident()
    found = calibration.find_calibration(classes, wild)
    assert found.temperature == pytest.approx(3, rel=0.1)
    assert np.abs(found.bias).max() < 0.2
    mended = calibration.calibrated(wild, found)
    assert np.abs(mended - honest).max() < 0.06
    assert metrics.calibration_error(classes, mended) < 0.03 < 0.1 < metrics.calibration_error(classes, wild)


def test_the_calibration_undoes_a_preference_for_one_class() -> None:
    classes, honest, _ = overconfident()
    shifted = honest * np.array([1.0, 6.0, 1.0])
    shifted = (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)
    found = calibration.find_calibration(classes, shifted)
    assert found.bias[1] == pytest.approx(-np.log(6), abs=0.2)
    assert np.abs(calibration.calibrated(shifted, found) - honest).max() < 0.06


def test_a_calibration_in_the_graph_is_the_same_as_one_outside() -> None:
    model = network.build_classifier(MRI, size=32)
    kernel, _ = model.get_layer(network.LOGITS).get_weights()
    model.get_layer(network.LOGITS).set_weights([kernel, np.array([1.0, -2.0, 0.5, 0.0])])  # as after a training
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    before = model.predict_on_batch(pixels)
    found = calibration.Calibration(2.5, (0.0, 0.4, -1.0, 0.2))
    calibration.apply_calibration(model, found)
    np.testing.assert_allclose(model.predict_on_batch(pixels), calibration.calibrated(before, found), atol=1e-5)
    # Of which Grad-CAM shows what speaks for one class more than for the others.
    kernel, bias = model.get_layer(network.LOGITS).get_weights()
    np.testing.assert_allclose(kernel.sum(axis=1), 0, atol=1e-5)
    assert bias.sum() == pytest.approx(0, abs=1e-5)


def test_a_share_that_is_a_whole_number_of_films_is_found_by_that_number() -> None:
    """0.55 times 100 is a little over 55 in floating point."""
    probability = np.arange(1, 101) / 101
    threshold = calibration.find_operating_point(np.full(100, True), probability, 0.55)
    assert (probability >= threshold).sum() == 55


@given(
    arrays(np.float32, st.integers(1, 60), elements=st.floats(0, 1, width=32)),
    arrays(np.float32, st.integers(0, 60), elements=st.floats(0, 1, width=32)),
    st.sampled_from([0.5, 0.9, 0.97, 1.0]),
)
def test_an_operating_point_finds_what_it_must_and_no_higher_one_does(
    ill: np.ndarray, healthy: np.ndarray, sensitivity: float
) -> None:
    probability = np.concatenate([ill, healthy]).astype(np.float64)
    positive = np.arange(len(probability)) < len(ill)
    threshold = calibration.find_operating_point(positive, probability, sensitivity)
    found = probability >= threshold
    assert found[positive].mean() >= sensitivity - 1e-9
    higher = probability > probability[found].min()
    assert higher[positive].mean() < sensitivity - 1e-9 or not found.any()


def test_an_operating_point_needs_positive_films() -> None:
    with pytest.raises(ValueError, match="positive films"):
        calibration.find_operating_point(np.zeros(3, bool), np.ones(3, np.float32))
