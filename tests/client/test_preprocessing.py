from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from densescan.errors import InvalidImage
from densescan.images import open_grey
from densescan.phantoms import draw_phantom
from densescan.preprocessing import made_before, preprocess, preprocess_batch, preprocess_grey, replicate
from densescan.tasks import IMAGE_SHAPE, TASKS


def test_the_network_input_is_uint8_height_width_channels(film_path: Path) -> None:
    image = preprocess(film_path)
    assert (image.dtype, image.shape) == (np.uint8, IMAGE_SHAPE)
    assert image.flags.c_contiguous


def test_the_three_channels_are_equal(film: Image.Image) -> None:
    image = preprocess(film)
    assert np.array_equal(image, replicate(preprocess_grey(film)))
    assert (image == image[..., :1]).all()


@pytest.mark.parametrize("size", [(224, 224), (500, 224), (300, 900), (64, 64)])
def test_every_size_is_squashed_to_the_square_without_cropping(size: tuple[int, int]) -> None:
    image = Image.new("L", size)
    width, height = size
    image.paste(255, (width // 2, 0, width, height))
    grey = preprocess_grey(image)
    assert grey.shape == (224, 224)
    assert grey[:, :100].max() == 0
    assert grey[:, 124:].min() == 255


def test_a_picture_of_the_networks_size_is_not_changed() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (224, 224), np.uint8)
    assert np.array_equal(preprocess_grey(pixels), pixels)


def test_shrinking_antialiases() -> None:
    stripes = np.zeros((1792, 1792), np.uint8)
    stripes[:, ::2] = 255
    grey = preprocess_grey(stripes).astype(int)
    assert np.abs(grey - 127.5).max() < 6  # picking single pixels would leave 0 or 255


def test_path_bytes_file_image_and_array_give_the_same_pixels(film: Image.Image, film_path: Path) -> None:
    expected = preprocess(film)
    for source in (film_path, film_path.read_bytes(), io.BytesIO(film_path.read_bytes()), np.asarray(film)):
        assert np.array_equal(preprocess(source), expected)


@given(
    seed=st.integers(0, 2**32 - 1),
    white=st.integers(1, 255),
    spoiled=st.sampled_from(["nothing", "one pixel", "the last pixel", "one level", "fortran", "subclass", "view"]),
)
def test_an_array_is_taken_as_it_is_only_if_preprocessing_would_not_change_it(
    seed: int, white: int, spoiled: str
) -> None:
    random = np.random.default_rng(seed)
    array = replicate(random.integers(0, white, IMAGE_SHAPE[:2], np.uint8, endpoint=True))
    if spoiled in ("one pixel", "the last pixel"):
        row, column = random.integers(0, 224, 2) if spoiled == "one pixel" else (-1, -1)
        array[row, column, random.integers(3)] ^= np.uint8(1 + random.integers(255))
    elif spoiled == "one level":
        array[:] = white
    elif spoiled == "fortran":
        array = np.asfortranarray(array)
    elif spoiled == "subclass":
        array = array.view(np.ma.MaskedArray)
    elif spoiled == "view":
        array = array[::-1]
    made = made_before(array)
    if spoiled != "nothing" or white == 1:
        assert made is None
    else:
        assert made is array
        np.testing.assert_array_equal(preprocess(array), array)


def test_arrays_of_other_kinds_are_never_taken_as_they_are(film: Image.Image) -> None:
    ready = preprocess(film)
    others = [film, b"", None, ready[None], ready[..., 0], ready[:223], ready.astype(np.int8), ready / 255]
    assert [made_before(other) for other in others] == [None] * len(others)


def test_a_batch_is_the_pictures_stacked(film: Image.Image) -> None:
    batch = preprocess_batch([film, film])
    assert batch.shape == (2, *IMAGE_SHAPE)
    assert np.array_equal(batch[1], preprocess(film))


def test_limits_reach_the_decoder(film_path: Path) -> None:
    with pytest.raises(InvalidImage, match="max_pixels"):
        preprocess(film_path, max_pixels=100)
    with pytest.raises(InvalidImage, match="max_bytes"):
        preprocess(film_path, max_bytes=100)


def shortcut_error(jpeg: bytes) -> float:
    """Mean difference, in grey levels, between decoding at a reduced scale and in full."""
    full = open_grey(jpeg).resize((224, 224), Image.Resampling.BILINEAR)
    return float(np.abs(preprocess_grey(jpeg).astype(int) - np.asarray(full, int)).mean())


def as_jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("size", [1000, 1900])
def test_decoding_a_large_jpeg_at_reduced_scale_changes_less_than_a_grey_level(task: str, mode: str, size: int) -> None:
    large = draw_phantom(task).resize((size, size), Image.Resampling.BICUBIC)
    jpeg = as_jpeg(large.convert(mode))
    assert open_grey(jpeg, at_least=448).width < size, "the shortcut was not taken"
    assert shortcut_error(jpeg) < 1


@pytest.mark.data
@pytest.mark.parametrize("folder", ["adult_films", "chest_xray/train/PNEUMONIA", "brain_mri/Training/glioma"])
def test_the_same_holds_for_real_images(densescan_data: Path, folder: str) -> None:
    paths = sorted(path for path in (densescan_data / folder).rglob("*") if path.suffix in (".jpg", ".jpeg", ".png"))
    for path in paths[:3]:
        with Image.open(path) as image:
            large = image.resize((1800, 1600), Image.Resampling.BICUBIC)
        assert shortcut_error(as_jpeg(large)) < 1


def test_pictures_are_resized_with_the_filter_that_the_networks_were_trained_with() -> None:
    """A triangle as wide as the step between pixels: another filter gives pictures nearly alike, and answers off."""
    edge = np.zeros((100, 100), np.uint8)
    edge[:, 50:] = 255
    assert preprocess_grey(edge)[0, 110:114].tolist() == [0, 71, 184, 255]
    shrunk = np.zeros((336, 336), np.uint8)
    shrunk[:, 150:] = 255
    assert preprocess_grey(shrunk)[0, 98:102].tolist() == [0, 28, 227, 255]
