from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from densescan.colormaps import colours
from densescan.overlay import blend, contour

ROUND = 150  # side of the pictures below


def hill() -> np.ndarray:
    """A heat that falls off from the middle; it is 0.5 on a circle of radius 40."""
    down, right = np.indices((ROUND, ROUND)) - (ROUND - 1) / 2
    return np.clip(1 - np.hypot(down, right) / 80, 0, 1).astype(np.float32)


def test_the_line_runs_where_the_heat_is_half_and_is_as_wide_as_asked() -> None:
    covered = contour(hill(), 3)
    down, right = np.indices((ROUND, ROUND)) - (ROUND - 1) / 2
    radius = np.hypot(down, right)
    assert covered[np.abs(radius - 40) < 0.8].min() > 0.9
    assert covered[np.abs(radius - 40) > 2.5].max() == 0
    circumference = 2 * np.pi * 40
    assert covered.sum() / circumference == pytest.approx(3, rel=0.05)


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_a_level_map_has_no_line(level: float) -> None:
    assert not contour(np.full((40, 40), level, np.float32), 2).any()


def test_the_hottest_pixel_is_mixed_as_alpha_says() -> None:
    heat = np.ones((40, 40), np.float32)
    picture = Image.new("L", (40, 40), 50)
    got = np.asarray(blend(picture, heat, 0.5))[20, 20]
    np.testing.assert_allclose(got, 0.5 * 50 + 0.5 * colours(heat)[0, 0], atol=1)


def test_a_black_and_a_white_picture_do_not_overflow() -> None:
    for grey in (0, 255):
        pixels = np.asarray(blend(Image.new("L", (ROUND, ROUND), grey), hill(), 1.0, line_px=5))
        assert pixels.dtype == np.uint8
        assert pixels.shape == (ROUND, ROUND, 3)
        assert (pixels[0, 0] == grey).all()


def test_warm_places_cover_the_picture_along_an_s_curve_and_are_rounded() -> None:
    picture = Image.new("L", (40, 40), 50)
    for level in (0.1, 0.25, 0.5, 0.9):
        heat = np.full((40, 40), level, np.float32)
        cover = 0.6 * level**2 * (3 - 2 * level)
        expected = np.rint((1 - cover) * 50 + cover * colours(heat)[0, 0].astype(float))
        assert np.asarray(blend(picture, heat, 0.6, line_px=0))[20, 20].tolist() == expected.tolist()
