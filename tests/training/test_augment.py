from __future__ import annotations

import numpy as np
import pytest

from densescan.phantoms import draw_phantom
from training.augment import augment, equalised, flattened, tone_curve
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


def centre_of(spot: np.ndarray) -> np.ndarray:
    """Where a bright spot is, right and down from the middle."""
    weights = spot.astype(float)
    down, right = np.indices(spot.shape) + 0.5 - spot.shape[0] / 2
    return np.array([(right * weights).sum(), (down * weights).sum()]) / weights.sum()


def spot_at(right: int, down: int) -> np.ndarray:
    spot = np.zeros((200, 200), np.uint8)
    spot[100 + down - 4 : 100 + down + 4, 100 + right - 4 : 100 + right + 4] = 255
    return spot


def test_a_rotation_is_about_the_middle_by_degrees_within_its_bound_to_either_side() -> None:
    angles = []
    for seed in range(30):
        right, down = centre_of(augment(spot_at(60, 0), rng(seed), Augmentation(rotation=20)))
        assert np.hypot(right, down) == pytest.approx(60, abs=1)
        angles.append(np.degrees(np.arctan2(down, right)))
    assert -20.5 < min(angles) < -8
    assert 8 < max(angles) < 20.5


def test_a_zoom_and_a_stretch_are_about_the_middle_within_their_bounds_and_a_stretch_keeps_the_area() -> None:
    for seed in range(20):
        right, down = centre_of(augment(spot_at(50, 50), rng(seed), Augmentation(zoom=0.2)))
        assert right == pytest.approx(down, abs=0.5)
        assert 50 * 0.8 - 1 < right < 50 * 1.2 + 1
        right, down = centre_of(augment(spot_at(50, 50), rng(seed), Augmentation(stretch=0.3)))
        assert right * down == pytest.approx(2500, rel=0.02)
        assert 0.7 - 0.03 < right / down < 1.3 + 0.03


def test_contrast_leaves_the_middle_and_gamma_goes_both_ways() -> None:
    curves = [tone_curve(rng(seed), Augmentation(contrast=0.4)) for seed in range(20)]
    assert all(abs(int(curve[128]) - 128) <= 1 for curve in curves)
    assert len({int(curve[64]) for curve in curves}) > 5
    middles = [int(tone_curve(rng(seed), Augmentation(gamma=2))[128]) for seed in range(20)]
    assert min(middles) < 120 < 136 < max(middles)


def test_noise_is_brighter_as_often_as_darker_and_white_does_not_become_black() -> None:
    grey, white = np.full((128, 128), 128, np.uint8), np.full((128, 128), 255, np.uint8)
    for seed in range(5):
        noisy = augment(grey, rng(seed), Augmentation(noise=20))
        assert abs(noisy.mean() - 128) < 1.5
        assert augment(white, rng(seed), Augmentation(noise=20)).min() > 100
    assert len(np.unique(noisy)) > 3


@pytest.mark.parametrize(("how", "share"), [(Augmentation(erase=0.3), 0.5), (Augmentation(flatten=0.3), 0.3)])
def test_the_share_of_erased_and_of_flattened_pictures_is_kept(how: Augmentation, share: float) -> None:
    changed = [(augment(GREY, rng(seed), how) != GREY).any() for seed in range(100)]
    assert abs(np.mean(changed) - share) < 0.15


@pytest.mark.parametrize("seed", range(20))
def test_a_tone_curve_keeps_the_order_of_grey_levels(seed: int) -> None:
    curve = tone_curve(rng(seed), Augmentation(contrast=0.4, brightness=0.2, gamma=2)).astype(int)
    assert (np.diff(curve) >= 0).all()


def test_flattening_takes_a_slope_of_brightness_and_leaves_the_mean() -> None:
    slope = np.tile(np.linspace(60, 190, 128), (128, 1))
    rib = 20 * (np.indices(slope.shape)[0] // 4 % 2)
    sloping = (slope + rib).astype(np.uint8)
    flat = flattened(sloping, 1)
    for picture, least, most in ((sloping, 100, 130), (flattened(sloping, 0), 100, 130), (flat, 0, 70)):
        columns = picture.mean(axis=0)
        assert least <= np.ptp(columns) <= most
        assert abs(picture.mean() - sloping.mean()) < 0.5
    assert abs(flat.std(axis=0).mean() - 10) < 1, "the ribs stay"


def test_erasing_overwrites_one_rectangle_no_larger_than_allowed() -> None:
    for seed in range(20):
        changed = augment(GREY, rng(seed), Augmentation(erase=0.25)) != GREY
        rows, columns = changed.any(axis=1).nonzero()[0], changed.any(axis=0).nonzero()[0]
        if len(rows):
            assert np.ptp(rows) < 0.25 * GREY.shape[0]
            assert np.ptp(columns) < 0.25 * GREY.shape[1]


def roughness(pixels: np.ndarray) -> float:
    """Largest distance of the share of pixels below a level from that of a flat histogram."""
    below = np.cumsum(np.bincount(pixels.ravel(), minlength=256)) / pixels.size
    return float(np.abs(below - np.linspace(0, 1, 256)).max())


def test_equalising_by_nothing_leaves_a_picture_and_wholly_makes_its_histogram_flat() -> None:
    smooth = np.asarray(draw_phantom("xray", size=256).convert("L"))[20:220, 20:220]
    dark = (smooth // 3).astype(np.uint8)
    np.testing.assert_array_equal(equalised(dark, 0), dark)
    whole = equalised(dark, 1)
    assert (whole.min(), whole.max()) == (0, 255)
    assert roughness(whole) < 0.1 < 0.4 < roughness(dark)
    assert roughness(whole) < roughness(equalised(dark, 0.5)) < roughness(dark)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_equalising_keeps_the_order_of_grey_levels(share: float) -> None:
    pixels = np.random.default_rng(0).normal(90, 30, (64, 64)).clip(0, 255).astype(np.uint8)
    changed = equalised(pixels, share).astype(int)
    order = np.argsort(pixels, axis=None, kind="stable")
    assert (np.diff(changed.ravel()[order]) >= 0).all()


def test_the_share_of_equalised_pictures_is_the_recipes() -> None:
    changed = [(augment(GREY, rng(seed), Augmentation(equalise=0.3)) != GREY).any() for seed in range(200)]
    assert 0.2 < np.mean(changed) < 0.4
    assert not any((augment(GREY, rng(seed), Augmentation(equalise=0)) != GREY).any() for seed in range(5))
