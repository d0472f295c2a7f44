from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from densescan.tasks import MRI, OPERATING_POINT_PARAMETER, XRAY
from server.repository import read_config
from training import operating_point
from training.corruptions import CORRUPTIONS
from training.data import Fold
from training.manifest import Entry


def test_both_profiles_get_the_threshold_and_nothing_else_changes(tmp_path: Path, model_repository: Path) -> None:
    source = model_repository / XRAY.classifier
    configs = ("config.pbtxt", "configs/cpu.pbtxt")
    for name in configs:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(source / name, tmp_path / name)
    assert len(operating_point.write(tmp_path, 0.123456)) == 2
    for name in configs:
        config = read_config(tmp_path / name)
        assert config.parameters[OPERATING_POINT_PARAMETER].string_value == "0.123456"
        before, after = (path.read_text().splitlines() for path in (source / name, tmp_path / name))
        assert sum(old != new for old, new in zip(before, after, strict=True)) == 1
    assert operating_point.write(tmp_path, 0.123456) == []


def test_a_task_without_one_stays_as_it_is(tmp_path: Path, model_repository: Path) -> None:
    shutil.copy(model_repository / MRI.classifier / "config.pbtxt", tmp_path)
    assert operating_point.write(tmp_path, 0.5) == []


def films(count: int) -> Fold:
    """Grey ramps, the ill ones brighter, and one of another hospital."""
    ramp = np.tile(np.linspace(0, 80, 224, dtype=np.uint8), (224, 1))
    classes = np.arange(count) % 2
    grey = np.stack([ramp + np.uint8(100 * ill + index % 5) for index, ill in enumerate(classes)])
    entries = [
        Entry(f"train/{ill}/IM-{index:04}.jpeg", "X", str(index), "val", "", "") for index, ill in enumerate(classes)
    ]
    entries[-1] = Entry("adult_films/X/nih_00000001_000.png", "X", "other", "val", "", "")
    return Fold(grey, classes.astype(np.int64), tuple(entries))


def brightness(images: np.ndarray) -> np.ndarray:
    """A network that calls bright films ill."""
    ill = images.mean(axis=(1, 2, 3)) / 255
    return np.stack([1 - ill, ill], axis=1).astype(np.float32)


def test_a_film_is_looked_at_as_it_is_and_in_each_corruption_mild_and_strong() -> None:
    grey = films(4).grey
    forms = list(operating_point.as_from_elsewhere(grey))
    assert len(forms) == operating_point.STEPS == 1 + 2 * len(CORRUPTIONS)
    assert forms[0] is grey
    assert all(form.shape == grey.shape for form in forms)


@pytest.mark.parametrize("sensitivity", [0.5, 0.97, 1.0])
def test_the_threshold_finds_what_it_must_over_all_forms_and_hardly_more(sensitivity: float) -> None:
    fold = films(41)
    how = operating_point.choose(XRAY, brightness, fold, sensitivity)
    threshold = how["threshold"]
    own = fold.classes[:-1] == 1  # the last film is another hospital's
    forms = [
        brightness(np.repeat(form[:-1, :, :, None], 3, 3))[:, 1]
        for form in operating_point.as_from_elsewhere(fold.grey)
    ]
    assert how["films"] == 40
    found = np.concatenate([form[own] for form in forms])
    assert (found >= threshold).mean() >= sensitivity
    higher = found[found >= threshold + 0.001].min()  # it is cut down to 3 decimals
    assert (found > higher).mean() < sensitivity
    assert how["as_they_are"]["sensitivity"] == (forms[0][own] >= threshold).mean()
    elsewhere = np.concatenate([form[~own] for form in forms[1:]])
    assert how["as_from_elsewhere"]["specificity"] == pytest.approx((elsewhere < threshold).mean())


def test_without_positive_films_there_is_none() -> None:
    fold = films(6)
    with pytest.raises(ValueError, match="positive"):
        operating_point.choose(XRAY, brightness, Fold(fold.grey, np.zeros(6, np.int64), fold.entries))
