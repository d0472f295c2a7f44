from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from densescan.phantoms import draw_phantom
from training import near_duplicates
from training.near_duplicates import SIDE, THRESHOLD, Pair, find_pairs, fingerprint, survey

Grey = npt.NDArray[np.uint8]


def texture(seed: int, side: int = 160) -> Grey:
    """Soft patches of several sizes, in 40 to 200 so that a change of brightness clips nothing."""
    rng = np.random.default_rng(seed)
    field = sum(gaussian_filter(rng.standard_normal((side, side)), side * share) * share for share in (0.02, 0.05, 0.1))
    span = np.ptp(field)
    return (40 + 160 * (field - field.min()) / span).astype(np.uint8)


def resized(grey: Grey, share: float) -> Grey:
    height, width = grey.shape
    return np.asarray(Image.fromarray(grey).resize((int(width * share), int(height * share)), Image.Resampling.BICUBIC))


def as_jpeg(grey: Grey, quality: int) -> Grey:
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def brightened(grey: Grey, gain: float, offset: float) -> Grey:
    return np.clip(gain * grey + offset, 0, 255).astype(np.uint8)


def pairs_of(*pictures: Grey, threshold: float = THRESHOLD) -> list[Pair]:
    return find_pairs({f"{place}.png": fingerprint(grey) for place, grey in enumerate(pictures)}, threshold)


PICTURES = st.one_of(
    st.integers(0, 2**20).map(texture),
    st.integers(0, 500).map(lambda seed: np.asarray(draw_phantom("mri", seed=seed, size=160))),
    st.integers(0, 500).map(lambda seed: np.asarray(draw_phantom("xray", seed=seed, size=160))),
)


@settings(max_examples=40)
@given(
    PICTURES,
    st.booleans(),
    st.floats(0.6, 2.5),
    st.integers(30, 95),
    st.floats(0.6, 1.2),
    st.floats(-20, 10),
)
def test_a_copy_is_found_however_it_was_stored(
    grey: Grey, mirror: bool, scale: float, quality: int, gain: float, offset: float
) -> None:
    copy = as_jpeg(brightened(resized(grey[:, ::-1] if mirror else grey, scale), gain, offset), quality)
    (pair,) = pairs_of(grey, copy)
    assert (pair.first, pair.second) == ("0.png", "1.png")
    assert THRESHOLD <= pair.correlation <= 1
    # A chest or a head nearly mirrors itself: which of the two it resembles more is only certain for textures.


@settings(max_examples=30)
@given(st.integers(0, 2**20), st.booleans())
def test_a_mirrored_copy_is_called_so_and_another_is_not(seed: int, mirror: bool) -> None:
    grey = texture(seed)
    (pair,) = pairs_of(grey, as_jpeg(grey[:, ::-1] if mirror else grey, 80))
    assert pair.mirrored is mirror


@settings(max_examples=60)
@given(st.integers(0, 2**20), st.integers(0, 2**20))
def test_different_pictures_are_no_pair(first: int, second: int) -> None:
    assert bool(pairs_of(texture(first), texture(second))) is (first == second)


def test_heads_of_different_patients_are_no_pairs_though_all_have_one_outline() -> None:
    heads = [np.asarray(draw_phantom("mri", seed=seed, size=160)) for seed in range(20)]
    assert pairs_of(*heads) == []
    assert len(pairs_of(*heads, threshold=0.7)) > 20, "the outline alone makes them alike: the threshold must be high"


def test_shading_over_the_whole_picture_hides_no_copy() -> None:
    grey = texture(3)
    ramp = np.linspace(0.7, 1.2, grey.shape[1])
    assert len(pairs_of(grey, (grey * ramp).clip(0, 255).astype(np.uint8))) == 1


@pytest.mark.parametrize("level", [0, 128, 255])
def test_flat_pictures_are_like_nothing_not_even_like_each_other(level: int) -> None:
    flat = np.full((50, 70), level, np.uint8)
    np.testing.assert_array_equal(fingerprint(flat), 0)
    assert pairs_of(flat, flat.copy(), texture(0), threshold=0.5) == []


def test_a_fingerprint_has_mean_0_and_length_1_whatever_the_shape() -> None:
    for shape in ((33, 400), (500, 31), (1, 1), (224, 224)):
        grey = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        print_ = fingerprint(grey)
        assert (print_.shape, print_.dtype) == ((SIDE * SIDE,), np.float32)
        if shape != (1, 1):
            assert abs(float(print_.mean())) < 1e-6
            assert float(np.linalg.norm(print_)) == pytest.approx(1, abs=1e-5)


def test_no_picture_and_a_single_one_have_no_pairs() -> None:
    assert pairs_of() == []
    assert pairs_of(texture(0)) == []


def family(count: int = 23) -> tuple[dict[str, npt.NDArray[np.float32]], dict[str, str]]:
    """Pictures in a row, each mixed with the one before, so that correlations of every size occur."""
    rng = np.random.default_rng(5)
    pictures, last = {}, texture(1000).astype(float)
    for place in range(count):
        last = (1 - (share := rng.uniform(0.02, 0.6))) * last + share * texture(place)
        grey = last.astype(np.uint8)
        pictures[f"{place:02d}.png"] = fingerprint(grey[:, ::-1] if place % 5 == 0 else grey)
    return pictures, {path: "ab"[place % 3 == 0] for place, path in enumerate(pictures)}


def one_by_one(pictures: dict[str, npt.NDArray[np.float32]]) -> dict[tuple[str, str], float]:
    values = {}
    for first, a in pictures.items():
        for second, b in pictures.items():
            if first < second:
                mirrored = b.reshape(SIDE, SIDE)[:, ::-1].ravel()
                values[first, second] = max(float(a @ b), float(a @ mirrored))
    return values


@pytest.fixture(params=[4, 1024], ids=["in blocks", "at once"])
def rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(near_duplicates, "_ROWS", request.param)
    return int(request.param)


def test_every_pair_is_found_once_and_in_order(rows: int) -> None:
    pictures, _ = family()
    found = find_pairs(dict(reversed(pictures.items())), 0.8)
    assert found == sorted(found)
    expected = {pair: value for pair, value in one_by_one(pictures).items() if value >= 0.8}
    assert 5 < len(expected) < 200
    assert {(pair.first, pair.second) for pair in found} == set(expected)
    for pair in found:
        assert pair.correlation == pytest.approx(expected[pair.first, pair.second], abs=1e-4)


def test_a_survey_counts_all_pairs_by_class(rows: int) -> None:
    pictures, labels = family()
    found, expected = survey(pictures, labels), one_by_one(pictures)
    inside = {pair: value for pair, value in expected.items() if value >= near_duplicates.LEAST}
    same = [value for (a, b), value in inside.items() if labels[a] == labels[b]]
    other = [value for (a, b), value in inside.items() if labels[a] != labels[b]]
    assert (found.same.sum(), found.other.sum()) == (len(same), len(other))
    assert min(len(same), len(other)) > 10
    np.testing.assert_array_equal(found.same, np.histogram(same, found.edges)[0])
    nearest = [max(value for pair, value in expected.items() if path in pair) for path in pictures]
    np.testing.assert_allclose(found.nearest, nearest, atol=1e-5)


def test_a_survey_of_equal_pictures_has_them_in_its_uppermost_bin() -> None:
    same = fingerprint(texture(1))
    found = survey({"a": same, "b": same}, {"a": "x", "b": "y"})
    assert (found.other[-1], found.other.sum(), found.same.sum()) == (1, 1, 0)


@pytest.mark.parametrize("count", [0, 1])
def test_a_survey_of_nothing_is_empty(count: int) -> None:
    found = survey(dict.fromkeys("a" * count, fingerprint(texture(0))), {"a": "x"})
    assert found.same.sum() == found.other.sum() == 0
    assert found.nearest.tolist() == [-1] * count


def test_the_threshold_is_the_callers() -> None:
    grey = texture(7)
    mixed = (0.65 * grey + 0.35 * texture(8)).astype(np.uint8)
    assert len(pairs_of(grey, mixed, threshold=0.6)) == 1
    assert pairs_of(grey, mixed) == []
