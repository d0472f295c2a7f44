"""What the figures show, read back from their pixels: texts themselves are judged by eye."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from densescan import _canvas, _figures, contact_sheet
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
    for expected in ("PNEUMONIA", "90.0 %", "Grad-CAM for NORMAL", RESEARCH_ONLY, "most", "half", "none"):
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
    [(1.0, "99.9 %"), (0.99999, "99.9 %"), (0.5, "50.0 %"), (0.12345, "12.3 %"), (0.0, "0.0 %")],
)
def test_no_probability_is_rounded_up_to_certainty(probability: float, text: str) -> None:
    assert _figures._percent(probability) == text
