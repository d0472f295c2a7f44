"""Each corruption does what its name says, alike every time, and more of it the more severe."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from densescan.phantoms import draw_phantom
from densescan.preprocessing import preprocess_grey
from training import corruptions
from training.corruptions import CORRUPTIONS, SEVERITIES, corrupt

FILMS = np.stack([preprocess_grey(draw_phantom("xray", seed=seed)) for seed in range(4)])


def letter(level: int = 255, at: tuple[int, int] = (12, 180), ground: int = 40) -> np.ndarray:
    """A flat picture with a bright 8 by 12 block near a corner."""
    picture = np.full((224, 224), ground, np.uint8)
    picture[at[0] : at[0] + 12, at[1] : at[1] + 8] = level
    return picture


@pytest.mark.parametrize("severity", range(len(SEVERITIES)), ids=SEVERITIES)
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corrupted_picture_is_a_picture_and_always_the_same(name: str, severity: int) -> None:
    before = FILMS.copy()
    first, second = corrupt(FILMS, name, severity), corrupt(FILMS[::-1], name, severity)[::-1]
    assert (first.dtype, first.shape) == (np.uint8, FILMS.shape)
    assert np.array_equal(first, second), "what stands beside a picture must not matter"
    assert np.array_equal(FILMS, before)
    assert first.flags.writeable


@pytest.mark.parametrize("name", sorted(CORRUPTIONS.keys() - {"marker_removed", "border_removed"}))
def test_the_more_severe_the_further_from_the_picture(name: str) -> None:
    changes = [np.abs(corrupt(FILMS, name, severity).astype(int) - FILMS).mean() for severity in range(len(SEVERITIES))]
    assert 0 < changes[0] < changes[1] < changes[2]


def test_contrast_is_about_the_mean_and_gamma_keeps_black_and_white() -> None:
    ramp = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (8, 1))
    mean = ramp.mean()
    assert corruptions.contrast(ramp, 0.5) == pytest.approx((ramp - mean) * 0.5 + mean, abs=0.5)
    ends = np.array([[0, 128, 255]], np.uint8)
    assert corruptions.gamma(ends, 2).tolist() == [[0, 64, 255]]
    assert corruptions.gamma(ends, 0.5)[0, 1] == 181


def test_brightness_is_cut_off_and_does_not_wrap() -> None:
    ends = np.array([[0, 100, 250]], np.uint8)
    assert corruptions.brightness(ends, 50).tolist() == [[50, 150, 255]]
    assert corruptions.brightness(ends, -50).tolist() == [[0, 50, 200]]


def test_noise_has_its_deviation_and_is_another_on_another_picture() -> None:
    flat = np.full((224, 224), 128, np.uint8)
    drawn = corruptions.noise(flat, 18).astype(float) - 128
    assert drawn.mean() == pytest.approx(0, abs=0.5)
    assert drawn.std() == pytest.approx(18, rel=0.03)
    other = corruptions.noise(flat + np.uint8(1), 18).astype(float) - 129
    assert abs(np.corrcoef(drawn.ravel(), other.ravel())[0, 1]) < 0.05


def test_blur_and_scale_take_detail_away() -> None:
    dots = np.zeros((224, 224), np.uint8)
    dots[::2] = 255
    for changed in (corruptions.blur(dots, 2), corruptions.scale(dots, 56)):
        assert changed[20:-20].std() < 3
        assert changed[20:-20].mean() == pytest.approx(127.5, abs=3)


def test_a_crop_keeps_the_middle() -> None:
    picture = np.zeros((224, 224), np.uint8)
    picture[56:168, 56:168] = 200
    assert (corruptions.crop(picture, 0.45) > 190).all()
    assert corruptions.crop(picture, 0.9).mean() > picture.mean()


def test_rotation_goes_to_both_sides() -> None:
    picture = np.zeros((224, 224), np.uint8)
    picture[10:60, 107:117] = 255
    sides = set()
    for level in range(8):
        picture[200, 200] = level
        columns = np.flatnonzero(corruptions.rotation(picture, 20)[25])
        sides.add(bool(columns.mean() > 112))
    assert sides == {True, False}


def test_a_black_border_is_cut_and_a_dark_picture_left_alone() -> None:
    picture = np.zeros((224, 224), np.uint8)
    picture[30:194, 20:204] = 150
    assert (corruptions.border_removed(picture, 10)[4:-4, 4:-4] == 150).all()
    small = np.zeros((224, 224), np.uint8)
    small[80:140, 80:140] = 150
    assert np.array_equal(corruptions.border_removed(small, 10), small)


def test_an_added_border_is_black_and_holds_the_whole_picture() -> None:
    framed = corruptions.border_added(np.full((224, 224), 90, np.uint8), 0.15)
    assert not framed[:33].any()
    assert not framed[:, -33:].any()
    assert (framed[34:190, 34:190] == 90).all()


def test_a_burnt_in_letter_is_painted_over() -> None:
    assert (corruptions.marker_removed(letter(), 60) == 40).all()


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(letter(level=80), id="not bright"),
        pytest.param(letter(at=(106, 108)), id="in the middle"),
        pytest.param(
            np.where(abs(np.arange(224) - 36) < 6, 255, 40).astype(np.uint8)[:, None].repeat(224, 1), id="long"
        ),
    ],
)
def test_what_is_no_marker_stays(picture: np.ndarray) -> None:
    assert np.array_equal(corruptions.marker_removed(picture, 60), picture)


def test_an_added_letter_is_white_in_an_upper_corner_and_of_its_height() -> None:
    corners = set()
    for ground in range(8):
        flat = np.full((224, 224), ground, np.uint8)
        rows, columns = np.nonzero(corruptions.marker_added(flat, 22) > 200)
        assert rows.max() < 60
        assert 18 <= np.ptp(rows) + 1 <= 26
        corners.add(bool(columns.mean() > 112))
        assert columns.max() < 60 or columns.min() > 164
    assert corners == {True, False}


def test_jpeg_is_read_again_as_it_was_stored() -> None:
    changed = corruptions.jpeg(FILMS[0], 40)
    assert 0 < np.abs(changed.astype(int) - FILMS[0]).mean() < 8
    assert Image.fromarray(changed).mode == "L"


def test_an_unknown_corruption_names_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"no corruption 'fog': choose among low_contrast, "):
        corrupt(FILMS, "fog", 0)


def test_the_table_of_the_module_is_what_is_done() -> None:
    rows = re.findall(r"^\| (\w+) +\|.*\| ([-\d., ]+?) +\|$", corruptions.__doc__ or "", re.M)
    assert {name: tuple(map(float, levels.split(", "))) for name, levels in rows} == {
        name: kind.levels for name, kind in CORRUPTIONS.items()
    }
