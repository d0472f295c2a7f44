from __future__ import annotations

import numpy as np
import pytest

from densescan.phantoms import draw_phantom
from densescan.tasks import TASKS


@pytest.mark.parametrize("task", TASKS)
def test_a_phantom_is_a_grey_square_that_uses_the_grey_range(task: str) -> None:
    image = draw_phantom(task, size=256)
    pixels = np.asarray(image)
    assert (image.mode, image.size) == ("L", (256, 256))
    assert np.percentile(pixels, 5) < 40
    assert np.percentile(pixels, 98) > 150


@pytest.mark.parametrize("task", TASKS)
def test_equal_seeds_draw_equal_pictures_and_others_do_not(task: str) -> None:
    first, again, other = (np.asarray(draw_phantom(task, seed=seed, size=160), int) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert np.abs(first - other).mean() > 2


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("size", [128, 333, 512])
def test_the_mark_is_in_the_lower_left_corner_at_every_size(task: str, size: int) -> None:
    pixels = np.asarray(draw_phantom(task, size=size))
    corner = pixels[int(size * 0.92) :, : int(size * 0.3)]
    assert (corner > 200).mean() > 0.02, "bright letters"
    assert (corner < 30).mean() > 0.02, "with a dark rim"


def test_a_chest_film_has_dark_lungs_beside_a_bright_spine() -> None:
    pixels = np.asarray(draw_phantom("xray", size=256), int)
    row = pixels[90:110].mean(axis=0)
    lungs, spine = (row[60:90].mean() + row[165:195].mean()) / 2, row[122:134].mean()
    assert spine > lungs + 60


def test_a_head_has_a_bright_scalp_around_darker_bone_and_a_dark_background() -> None:
    pixels = np.asarray(draw_phantom("mri", size=256), int)
    left = pixels[118:138, :128].mean(axis=0)
    scalp = int(left[:60].argmax())
    assert left[: scalp - 10].max() < 30
    assert left[scalp] > 140
    assert left[scalp : scalp + 20].min() < 60


def test_an_unknown_task_and_a_tiny_size_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown task"):
        draw_phantom("ct")
    with pytest.raises(ValueError, match="size is 100; expected 128"):
        draw_phantom("xray", size=100)
