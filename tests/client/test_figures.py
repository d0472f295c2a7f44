"""What the figures show, read back from their pixels: texts themselves are judged by eye."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from densescan import _canvas, _figures, contact_sheet
from densescan.colormaps import colours
from densescan.results import percent
from densescan.tasks import RESEARCH_ONLY

from .explanations import explain, spike


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that is drawn."""
    texts: list[str] = []
    original = ImageDraw.ImageDraw.text

    def text(self: Any, at: Any, text: str, *arguments: Any, **named: Any) -> None:
        left, top, right, bottom = self.textbbox(at, text, font=named["font"], anchor=named["anchor"])
        width, height = self.im.size
        assert left >= 0, text
        assert top >= 0, text
        assert right <= width, text
        assert bottom <= height, text
        texts.append(text)
        original(self, at, text, *arguments, **named)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return texts


@pytest.mark.parametrize("size", [(224, 224), (64, 300), (1024, 400), (33, 40), (820, 1024)])
def test_an_overlay_tells_label_confidence_target_scale_and_that_it_is_for_research(
    written: list[str], size: tuple[int, int]
) -> None:
    image = explain(spike(3, 3), target="NORMAL", picture=Image.new("L", size, 90)).overlay()
    assert image.mode == "RGB"
    text = "\n".join(written)
    for expected in ("PNEUMONIA", "90.0%", "Grad-CAM for NORMAL", RESEARCH_ONLY, "most", "half", "none"):
        assert expected in text


def test_an_overlay_of_an_empty_map_says_so(written: list[str]) -> None:
    explain().overlay()
    assert any("the map is empty" in text for text in written)


def test_long_and_foreign_names_fit(written: list[str]) -> None:
    for source in ("a" * 500 + ".png", "ünïcödé-写真.png", "", "/deep/folder/film.png"):
        explain(spike(1, 1), source=source).overlay()
        contact_sheet([explain(spike(1, 1), source=source)])
    assert any(text.endswith("film.png") for text in written)
    assert not any("/deep" in text for text in written)


def test_a_sheet_has_a_row_for_each_explanation_and_names_them(written: list[str]) -> None:
    one = contact_sheet([explain(spike(1, 1))])
    many = contact_sheet([explain(spike(1, 1), source=f"film{n}.png", threshold=0.3) for n in range(3)])
    row = (many.height - one.height) / 2
    assert row > 300
    assert many.width == one.width
    for expected in ("film0.png", "film2.png", "original", "map", "overlay", "probabilities", RESEARCH_ONLY):
        assert expected in written
    assert any("PNEUMONIA from 0.3" in text for text in written)


def test_both_tasks_fit_on_a_sheet(written: list[str]) -> None:
    contact_sheet([explain(spike(1, 1)), explain(spike(2, 2), task="mri")])
    assert any("chest X-ray and brain MRI" in text for text in written)
    assert {"glioma", "meningioma", "notumor", "pituitary"} <= set(written)


def test_a_task_of_the_callers_own_is_drawn_under_its_name(written: list[str]) -> None:
    classified = explain(spike(1, 1), threshold=0.3)
    own = replace(classified, classification=replace(classified.classification, task="mammogram"))
    own.overlay()
    contact_sheet([own])
    assert any(text.startswith("mammogram, ") for text in written)
    assert "Grad-CAM: mammogram" in written


def test_the_bars_are_as_long_as_the_probabilities(written: list[str]) -> None:
    sheet = np.asarray(contact_sheet([explain(spike(1, 1), label="NORMAL")]))[:, -_figures._BARS - _figures._MARGIN :]
    of_target = (sheet == _canvas.ACCENT).all(axis=2).sum(axis=1)
    of_other = (sheet == _canvas.BAR).all(axis=2).sum(axis=1)
    assert of_target.max() == round(0.9 * _figures._BARS)
    assert of_other.max() == round(0.1 * _figures._BARS)


def test_a_sheet_without_explanations_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([])


@pytest.mark.parametrize(
    ("probability", "text"),
    [(1.0, "99.9%"), (0.99999, "99.9%"), (0.5, "50.0%"), (0.86457, "86.5%"), (0.12345, "12.3%"), (0.0, "0.0%")],
)
def test_no_probability_is_rounded_up_to_certainty(probability: float, text: str) -> None:
    assert percent(probability) == text


def test_the_scale_has_the_hottest_colour_above() -> None:
    bar = np.asarray(_canvas.colour_bar(18, 100, "inferno"))
    ends = colours(np.array([1, 0], np.float32), "inferno")
    assert (bar[0] == ends[0]).all()
    assert (bar[-1] == ends[1]).all()


@pytest.mark.parametrize(
    ("size", "fitted"), [((100, 50), (720, 360)), ((50, 100), (360, 720)), ((1440, 720), (720, 360))]
)
def test_a_picture_is_fitted_into_its_box_whole_and_in_proportion(
    size: tuple[int, int], fitted: tuple[int, int]
) -> None:
    assert _canvas.fitted(Image.new("L", size), 720, 720).size == fitted


def test_a_name_is_shortened_in_its_middle_and_as_little_as_need_be() -> None:
    name = "a folder of films, and in it the film.png"
    for width in (40, 100, 200):
        short = _canvas.shortened(name, 16, width)
        start, end = short.split("...")
        assert name.startswith(start)
        assert name.endswith(end)
        assert width - 15 < _canvas.text_width(short, 16) <= width


def test_letters_that_the_font_lacks_are_question_marks() -> None:
    assert _canvas.printable("Größe 写真") == "Größe ??"
