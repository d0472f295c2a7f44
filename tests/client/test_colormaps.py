from __future__ import annotations

import numpy as np
import pytest

from densescan.colormaps import COLORMAPS, DEFAULT_COLORMAP, colours

RAMP = np.linspace(0, 1, 256, dtype=np.float32)


def lightness(rgb: np.ndarray) -> np.ndarray:
    """CIE L* of sRGB colours [n, 3], 0..100."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    y = linear @ np.array([0.2126, 0.7152, 0.0722])
    return np.where(y > (6 / 29) ** 3, 116 * np.cbrt(y) - 16, y * (29 / 3) ** 3)


# Viénot, Brettel and Mollon (1999): what a reader without the red or the green cones sees, in linear RGB.
BLIND = {
    "protanopia": np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]),
    "deuteranopia": np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]),
}


@pytest.mark.parametrize("name", COLORMAPS)
def test_the_colours_are_matplotlibs(name: str) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    expected = np.array(matplotlib.colormaps[name](np.arange(256)))[:, :3] * 255
    assert np.abs(colours(RAMP, name) - expected).max() < 4.5
    assert np.abs(colours(RAMP, name) - expected).mean() < 0.5


@pytest.mark.parametrize("name", COLORMAPS)
def test_hotter_is_always_lighter_and_by_even_steps(name: str) -> None:
    steps = np.diff(lightness(colours(RAMP, name)[::5] / 255))
    assert (steps > 0).all()
    assert steps.max() < 3 * steps.mean()


@pytest.mark.parametrize("name", COLORMAPS)
@pytest.mark.parametrize("kind", BLIND)
def test_a_colour_blind_reader_sees_hotter_as_lighter_too(name: str, kind: str) -> None:
    rgb = colours(RAMP, name)[::15] / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ BLIND[kind].T, 0, 1)
    srgb = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)
    assert (np.diff(lightness(srgb)) > 1).all()


def test_what_is_out_of_range_counts_as_the_nearest_end() -> None:
    got = colours(np.array([-3, 0, 1, 9], np.float32))
    np.testing.assert_array_equal(got[0], got[1])
    np.testing.assert_array_equal(got[2], got[3])
    assert got.dtype == np.uint8


def test_an_unknown_colour_map_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match=f"'jet': choose one of .*{DEFAULT_COLORMAP}"):
        colours(RAMP, "jet")
