from __future__ import annotations

import numpy as np
import pytest

from training import explain_check, faithfulness

SIDE = 112


def brightness_at(row: int, column: int) -> faithfulness.Predictor:
    """A classifier that looks at one place only: class 1 is as probable as that place is far from mid-grey."""
    place = SIDE // 7

    def predict(images: np.ndarray) -> np.ndarray:
        patch = images[:, row * place : (row + 1) * place, column * place : (column + 1) * place, 0].astype(np.float32)
        probability = np.clip(patch.std(axis=(1, 2)) / 100, 0, 1)
        return np.stack([1 - probability, probability], axis=1)

    return predict


@pytest.fixture
def grey() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE), np.uint8)


def spikes(count: int, row: int, column: int) -> np.ndarray:
    maps = np.zeros((count, 7, 7), np.float32)
    maps[:, row, column] = 1
    return maps


ONES = np.ones(4, np.int64)


def test_deleting_the_place_that_decides_lowers_the_probability_at_once_and_inserting_raises_it(grey) -> None:
    predictor = brightness_at(2, 4)
    right, wrong = spikes(4, 2, 4), spikes(4, 6, 0)
    for insert, sign in ((False, -1), (True, 1)):
        areas = [
            faithfulness.area(faithfulness.curves(predictor, grey, maps, ONES, insert=insert))
            for maps in (right, wrong)
        ]
        assert (sign * (areas[0] - areas[1]) > 0.1).all()


def test_a_curve_goes_from_the_picture_untouched_to_all_of_it_changed(grey) -> None:
    predictor = brightness_at(3, 3)
    maps = faithfulness.random_maps(4, (7, 7), seed=1)
    deleted, inserted = (faithfulness.curves(predictor, grey, maps, ONES, insert=insert) for insert in (False, True))
    assert deleted.shape == (4, faithfulness.STEPS)
    untouched = predictor(np.repeat(grey[..., None], 3, axis=3))[:, 1]
    np.testing.assert_allclose(deleted[:, 0], untouched)
    np.testing.assert_allclose(inserted[:, -1], untouched)
    np.testing.assert_allclose(deleted[:, -1], inserted[:, 0])


def test_the_pictures_are_left_as_they_were(grey) -> None:
    before = grey.copy()
    faithfulness.curves(brightness_at(0, 0), grey, spikes(4, 1, 1), ONES, insert=True)
    np.testing.assert_array_equal(grey, before)


def test_areas_by_hand() -> None:
    steps = faithfulness.STEPS
    values = np.stack([np.full(steps, 0.3), np.linspace(1, 0, steps), np.eye(steps)[5]])
    np.testing.assert_allclose(faithfulness.area(values), [0.3, 0.5, 1 / (steps - 1)])


def test_the_interval_resamples_patients_not_pictures() -> None:
    values = np.array([0.0] * 50 + [1.0] * 50)
    alone = faithfulness.mean_with_interval(values, [str(n) for n in range(100)])
    together = faithfulness.mean_with_interval(values, ["a"] * 50 + ["b"] * 50)
    assert alone["mean"] == together["mean"] == 0.5
    assert 0.35 < alone["interval_95"][0] < 0.45 < 0.55 < alone["interval_95"][1] < 0.65
    assert together["interval_95"] == [0, 1]


def disc(hole: bool = True) -> np.ndarray:
    """A bright body on black air, with something dark inside."""
    down, right = np.indices((SIDE, SIDE)) - SIDE / 2
    radius = np.hypot(down, right)
    return np.where((radius < 40) & ~((radius < 12) & hole), 180, 4).astype(np.uint8)


def test_dark_places_inside_the_body_belong_to_it_and_the_air_does_not() -> None:
    mask = faithfulness.body(disc())
    assert mask[SIDE // 2, SIDE // 2]
    assert not mask[:8].any()
    assert not mask[:, :8].any()
    assert mask.sum() == pytest.approx(np.pi * 40**2, rel=0.2)


def test_the_share_outside_the_body_is_beside_that_of_the_area() -> None:
    grey = np.stack([disc(), disc(), disc()])
    maps = np.concatenate([spikes(1, 0, 0), spikes(1, 3, 3), np.zeros((1, 7, 7), np.float32)])
    figures = faithfulness.outside_body(grey, maps)
    assert figures["mass"] == pytest.approx(0.5, abs=0.05)
    assert figures["hottest_outside"] == 0.5
    assert figures["empty_maps"] == 1
    assert figures["area"] == pytest.approx(1 - np.pi * 40**2 / SIDE**2, abs=0.1)


def test_the_share_at_the_rim() -> None:
    figures = faithfulness.at_the_rim(
        np.concatenate([spikes(1, 0, 3), spikes(1, 3, 3), np.zeros((1, 7, 7), np.float32)])
    )
    assert figures == {"mass": 0.5, "area": pytest.approx(24 / 49)}


def test_rival_maps() -> None:
    middle = faithfulness.centre_maps(2, (7, 7))
    assert middle.shape == (2, 7, 7)
    assert middle[0].argmax() == 24
    assert (middle[0] == middle[0].T).all()
    random = faithfulness.random_maps(2, (7, 7), seed=3)
    assert (random == faithfulness.random_maps(2, (7, 7), seed=3)).all()
    assert (random[0] != random[1]).any()


def test_another_pictures_map_is_of_the_same_class_and_never_of_the_same_patient() -> None:
    maps = np.arange(7, dtype=np.float32)[:, np.newaxis, np.newaxis] * np.ones((7, 7, 7), np.float32)
    classes = np.array([0, 1, 0, 1, 2, 0, 1])
    patients = ["a", "b", "a", "c", "d", "e", "b"]
    swapped = faithfulness.others_maps(maps, classes, patients)[:, 0, 0]
    assert swapped.tolist() == [5, 3, 5, 1, 4, 2, 3]  # the only one of its class keeps its own


def test_removal_is_told_for_each_class_that_was_decided() -> None:
    """A network that looks at one place for class 0, and answers class 1 whatever it sees."""
    right, wrong = spikes(3, 1, 1), spikes(3, 5, 5)
    grey = np.full((6, SIDE, SIDE), 20, np.uint8)
    grey[:, 32:64, 32:64] = 200

    def network(images: np.ndarray) -> np.ndarray:
        seen = images[:, 32:64, 32:64, 0].mean(axis=(1, 2)) / 200
        return np.stack([seen, np.ones(len(images))], axis=1).astype(np.float32)

    classes = np.array([0, 0, 0, 1, 1, 1])
    groups = [str(number) for number in range(6)]
    labels = ("A", "B", "C")
    figures = explain_check.removal(network, grey, np.concatenate([right, wrong]), classes, groups, labels)
    deletion = figures["deletion"]
    assert set(deletion["gradcam"]["auc_by_class"]) == {"A", "B"}
    assert deletion["gradcam"]["auc_by_class"]["B"] == deletion["random"]["auc_by_class"]["B"] == 1
    assert deletion["gradcam"]["auc_by_class"]["A"] < deletion["random"]["auc_by_class"]["A"]
    assert deletion["last_by_class"]["A"] < deletion["first_by_class"]["A"]
    assert deletion["last_by_class"]["B"] == deletion["first_by_class"]["B"] == 1


def test_shuffling_keeps_the_values_and_moves_them() -> None:
    weights = np.arange(60.0).reshape(3, 4, 5)
    moved = faithfulness.shuffled(seed=0)(weights)
    assert moved.shape == weights.shape
    assert sorted(moved.reshape(-1)) == sorted(weights.reshape(-1))
    assert (moved != weights).any()
