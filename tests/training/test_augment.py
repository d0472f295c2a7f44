from __future__ import annotations

import numpy as np
import pytest

from densescan.phantoms import draw_phantom
from training.augment import augment, tone_curve
from training.recipes import SCRATCH, Augmentation

GREY = np.asarray(draw_phantom("xray", size=128).convert("L"))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_no_augmentation_changes_nothing() -> None:
    np.testing.assert_array_equal(augment(GREY, rng(), Augmentation()), GREY)


def test_the_same_draw_gives_the_same_picture_and_another_another() -> None:
    first = augment(GREY, rng(1), SCRATCH.augmentation)
    np.testing.assert_array_equal(first, augment(GREY, rng(1), SCRATCH.augmentation))
    assert (first != augment(GREY, rng(2), SCRATCH.augmentation)).any()
    assert (first.shape, first.dtype) == (GREY.shape, np.uint8)


def test_a_flip_mirrors_half_of_the_pictures_and_does_nothing_else() -> None:
    results = [augment(GREY, rng(seed), Augmentation(flip=True)) for seed in range(60)]
    mirrored = sum(np.abs(result.astype(int) - GREY[:, ::-1]).mean() < 1 for result in results)
    same = sum((result == GREY).all() for result in results)
    assert mirrored + same == 60
    assert 15 < mirrored < 45


@pytest.mark.parametrize("seed", range(5))
def test_a_shift_is_within_its_bound(seed: int) -> None:
    spot = np.zeros((100, 100), np.uint8)
    spot[48:53, 48:53] = 255
    moved = augment(spot, rng(seed), Augmentation(shift=0.1)).astype(float)
    rows, columns = np.indices(moved.shape)
    centre = np.array([(rows * moved).sum(), (columns * moved).sum()]) / moved.sum()
    assert np.abs(centre - 50).max() <= 10.6


@pytest.mark.parametrize("seed", range(20))
def test_a_tone_curve_keeps_the_order_of_grey_levels(seed: int) -> None:
    curve = tone_curve(rng(seed), Augmentation(contrast=0.4, brightness=0.2, gamma=2)).astype(int)
    assert (np.diff(curve) >= 0).all()


def test_erasing_overwrites_one_rectangle_no_larger_than_allowed() -> None:
    for seed in range(20):
        changed = augment(GREY, rng(seed), Augmentation(erase=0.25)) != GREY
        rows, columns = changed.any(axis=1).nonzero()[0], changed.any(axis=0).nonzero()[0]
        if len(rows):
            assert np.ptp(rows) < 0.25 * GREY.shape[0]
            assert np.ptp(columns) < 0.25 * GREY.shape[1]
