"""Figures of many resamples at once are scikit-learn's figures of each."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from training import resampling

RNG = np.random.default_rng(0)
POSITIVE = RNG.random(120) < 0.4
SCORE = np.round(RNG.random(120) + 0.3 * POSITIVE, 1)  # many ties
WEIGHTS = resampling.draw([str(place // 3) for place in range(120)], 25)


def test_a_resample_draws_as_many_groups_as_there_are_and_each_whole() -> None:
    assert WEIGHTS.shape == (25, 120)
    by_group = WEIGHTS.reshape(25, 40, 3)
    assert (by_group == by_group[:, :, :1]).all()
    assert (WEIGHTS.sum(axis=1) == 120).all()
    assert np.ptp(WEIGHTS[:, 0]) > 0


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (resampling.auroc, metrics.roc_auc_score),
        (resampling.average_precision, metrics.average_precision_score),
    ],
)
def test_areas_are_those_of_scikit_learn_with_ties_and_weights(ours: object, theirs: object) -> None:
    expected = [theirs(POSITIVE, SCORE, sample_weight=weights) for weights in WEIGHTS]  # type: ignore[operator]
    assert ours(POSITIVE, SCORE, WEIGHTS) == pytest.approx(expected)  # type: ignore[operator]


def test_a_share_counts_each_image_as_often_as_it_was_drawn() -> None:
    part, of = np.array([True, False, True, True]), np.array([True, True, True, False])
    weights = np.array([[1.0, 1, 1, 1], [0, 2, 1, 5], [0, 0, 0, 3]])
    assert resampling.share(part, of, weights) == pytest.approx([2 / 3, 1 / 3, np.nan], nan_ok=True)


def test_what_a_resample_does_not_define_is_no_number_and_not_in_the_interval() -> None:
    one_class = np.where(POSITIVE, 1.0, 0.0)
    both = np.stack([one_class, np.ones(120)])
    values = resampling.auroc(POSITIVE, SCORE, both)
    assert np.isnan(values[0])
    assert resampling.interval(values) == [values[1], values[1]]
    assert np.isnan(resampling.interval(values[:1])).all()


def test_the_calibration_error_of_a_resample_is_that_of_the_repeated_images() -> None:
    confidence, right = RNG.random(120), RNG.random(120) < 0.5
    places = (confidence * 15).astype(np.int64)
    drawn = resampling.calibration_error(confidence, right, places, WEIGHTS)
    for weights, value in zip(WEIGHTS, drawn, strict=True):
        chosen = np.repeat(np.arange(120), weights.astype(int))
        parts = [chosen[places[chosen] == place] for place in np.unique(places[chosen])]
        gaps = [len(part) * abs(right[part].mean() - confidence[part].mean()) for part in parts]
        assert value == pytest.approx(sum(gaps) / len(chosen))


def test_an_interval_holds_the_middle_95_percent() -> None:
    assert resampling.interval(np.arange(1001.0)) == [25, 975]


def test_a_calibration_error_is_a_mean_over_the_images_that_were_drawn_however_many() -> None:
    """Patients have unlike numbers of films, so that a resample seldom has as many as there are."""
    confidence, right = np.full(4, 0.75), np.array([True, False, False, False])
    weights = np.array([[1.0, 1, 1, 1], [8, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    drawn = resampling.calibration_error(confidence, right, np.zeros(4, np.int64), weights)
    assert drawn == pytest.approx([0.5, 0.25, 0.75, np.nan], nan_ok=True)
