from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from densescan import Explanation
from densescan.colormaps import COLORMAPS

from .explanations import explain, spike

PLACES = [(0, 0), (0, 6), (3, 3), (2, 4), (6, 1), (6, 6)]


# Enlarging


@pytest.mark.parametrize(("row", "column"), PLACES)
@pytest.mark.parametrize("size", [(224, 224), (700, 350), (1024, 1531), (223, 301)])
def test_a_spike_lands_in_the_middle_of_its_place(row: int, column: int, size: tuple[int, int]) -> None:
    large = explain(spike(row, column)).heatmap_at(size)
    width, height = size
    assert large.shape == (height, width)
    down, right = np.indices(large.shape) + 0.5
    middle = np.array([(row + 0.5) * height / 7, (column + 0.5) * width / 7])
    hottest = np.argwhere(large == large.max()) + 0.5
    if 1 < row < 5 and 1 < column < 5:  # the whole of its curve is in the picture
        centroid = np.array([(large * down).sum(), (large * right).sum()]) / large.sum()
        np.testing.assert_allclose(centroid, middle, atol=0.1)
        np.testing.assert_allclose(hottest.mean(axis=0), middle, atol=1)
    # At the rim the curve goes on level to the edge; the place itself is as hot as the map is anywhere.
    assert large[int(middle[0]), int(middle[1])] > 0.98
    assert np.abs(hottest.mean(axis=0) - middle).max() < max(size) / 14


def test_enlarging_commutes_with_mirroring() -> None:
    heatmap = np.random.default_rng(0).random((7, 7), np.float32)
    large = explain(heatmap).heatmap_at((300, 200))
    np.testing.assert_allclose(explain(heatmap[::-1]).heatmap_at((300, 200)), large[::-1], atol=1e-5)
    np.testing.assert_allclose(explain(heatmap[:, ::-1]).heatmap_at((300, 200)), large[:, ::-1], atol=1e-5)
    np.testing.assert_allclose(explain(heatmap.T).heatmap_at((200, 300)), large.T, atol=1e-5)


def test_at_its_own_size_the_map_is_itself() -> None:
    heatmap = np.random.default_rng(0).random((7, 7), np.float32)
    np.testing.assert_allclose(explain(heatmap).heatmap_at((7, 7)), heatmap, atol=1e-6)


def test_the_default_size_is_that_of_the_picture_as_it_was_given() -> None:
    explanation = dataclasses.replace(explain(spike(1, 1)), size=(2000, 1500))
    assert explanation.heatmap_at().shape == (1500, 2000)


@settings(max_examples=40)
@given(hnp.arrays(np.float32, (7, 7), elements=st.floats(0, 1, width=32)), st.integers(32, 400), st.integers(32, 400))
def test_the_enlarged_map_stays_within_0_and_1_and_near_its_mean(heatmap: np.ndarray, width: int, height: int) -> None:
    large = explain(heatmap).heatmap_at((width, height))
    assert large.dtype == np.float32
    assert large.min() >= 0
    assert large.max() <= 1
    assert abs(large.mean() - heatmap.mean()) < 0.1


# Overlays


def test_a_bare_overlay_has_the_size_of_the_picture_and_colours_only_where_the_map_is_hot() -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 420), np.uint8))
    image = explain(spike(3, 3), picture=picture).overlay(annotate=False)
    assert (image.mode, image.size) == ("RGB", picture.size)
    pixels = np.asarray(image).astype(int)
    far = pixels[:60, :80]
    np.testing.assert_array_equal(far, np.asarray(picture)[:60, :80, None].repeat(3, 2))
    hot = pixels[150, 210]
    assert hot[0] > hot[2] + 40  # inferno's upper end is yellow


def test_an_empty_map_leaves_the_picture_as_it_is() -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8))
    explanation = explain(picture=picture)
    assert explanation.is_empty
    assert not explain(spike(0, 0)).is_empty
    np.testing.assert_array_equal(
        np.asarray(explanation.overlay(annotate=False)), np.asarray(picture)[:, :, None].repeat(3, 2)
    )


@pytest.mark.parametrize("colormap", COLORMAPS)
def test_the_anatomy_stays_visible_under_the_hottest_place(colormap: str) -> None:
    stripes = Image.fromarray(np.tile(np.array([60, 200], np.uint8), (224, 112)))
    pixels = np.asarray(explain(spike(3, 3), picture=stripes).overlay(colormap=colormap, annotate=False)).astype(int)
    middle = pixels[112, 104:120].sum(axis=1)
    assert np.abs(np.diff(middle)).min() > 100


def test_more_alpha_hides_more_and_none_hides_nothing() -> None:
    explanation = explain(spike(3, 3))
    bare = np.asarray(explanation.picture.convert("RGB")).astype(int)
    changes = [np.abs(np.asarray(explanation.overlay(a, annotate=False)) - bare).mean() for a in (0.0, 0.3, 0.6, 1.0)]
    assert changes[0] == 0
    assert changes == sorted(set(changes))


@pytest.mark.parametrize(("alpha", "colormap", "told"), [(1.1, "inferno", "alpha"), (-0.1, "inferno", "alpha")])
@pytest.mark.parametrize("annotate", [True, False])
def test_arguments_out_of_range_are_refused(alpha: float, colormap: str, told: str, annotate: bool) -> None:
    with pytest.raises(ValueError, match=told):
        explain(spike(1, 1)).overlay(alpha, colormap, annotate=annotate)
    with pytest.raises(ValueError, match="colour map 'jet'"):
        explain(spike(1, 1)).overlay(colormap="jet", annotate=annotate)


# Saving, and plain values


def test_save_writes_the_overlay_and_leaves_nothing_else(tmp_path: Path) -> None:
    explanation = explain(spike(3, 3))
    path = explanation.save(tmp_path / "out.png", annotate=False)
    assert path == tmp_path / "out.png"
    np.testing.assert_array_equal(np.asarray(Image.open(path)), np.asarray(explanation.overlay(annotate=False)))
    assert [file.name for file in tmp_path.iterdir()] == ["out.png"]


def test_saving_takes_no_other_file_away(tmp_path: Path) -> None:
    (tmp_path / "out.part.png").write_text("the caller's")
    explain(spike(3, 3)).save(tmp_path / "out.png")
    assert (tmp_path / "out.part.png").read_text() == "the caller's"


@pytest.mark.parametrize(("name", "error"), [("out.nonsense", ValueError), ("no/such/folder.png", OSError)])
def test_what_cannot_be_saved_raises_and_leaves_nothing(name: str, error: type[Exception], tmp_path: Path) -> None:
    with pytest.raises(error):
        explain(spike(3, 3)).save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_an_explanation_as_json() -> None:
    values = json.loads(json.dumps(explain(spike(2, 5), target="NORMAL").to_dict()))
    assert (values["label"], values["target"], values["source"]) == ("PNEUMONIA", "NORMAL", "film.png")
    assert np.array(values["heatmap"]).shape == (7, 7)
    assert values["heatmap"][2][5] == 1.0


def test_the_repr_does_not_print_pixels() -> None:
    assert len(repr(explain(spike(0, 0)))) < 500
    assert isinstance(explain(), Explanation)


def test_the_file_itself_is_never_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.png"
    path.write_bytes(b"the last one")
    written: list[Path] = []
    save = Image.Image.save

    def watched(image: Image.Image, to: Any, *rest: Any, **options: Any) -> None:
        written.append(Path(to))
        assert path.read_bytes() == b"the last one"
        save(image, to, *rest, **options)

    monkeypatch.setattr(Image.Image, "save", watched)
    explain(spike(3, 3)).save(path, annotate=False)
    assert path not in written
    assert path.read_bytes().startswith(b"\x89PNG")
