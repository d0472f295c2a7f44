"""The sheet of the worst mistakes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densescan.tasks import MRI, XRAY
from training import explainers, mistakes
from training.data import Fold
from training.evaluating import Answers
from training.manifest import Entry

from .gradcam_networks import noise, tiny_classifier

CLASSES = np.array([0, 0, 1, 1, 1])
SCORE = np.array([0.9, 0.3, 0.05, 0.45, 0.8], np.float32)
PROBABILITIES = np.stack([1 - SCORE, SCORE], axis=1)


def test_the_worst_is_the_wrong_answer_that_was_surest() -> None:
    assert mistakes.worst(XRAY, CLASSES, PROBABILITIES, None, 5).tolist() == [2, 0, 3]
    assert mistakes.worst(XRAY, CLASSES, PROBABILITIES, None, 1).tolist() == [2]


def test_at_an_operating_point_its_own_mistakes_count() -> None:
    assert mistakes.worst(XRAY, CLASSES, PROBABILITIES, 0.4, 5).tolist() == [2, 0]
    assert mistakes.worst(MRI, np.array([1, 2]), np.eye(4, dtype=np.float32)[[1, 3]], 0.4, 5).tolist() == [1]


def fold_of(tmp_path: Path, names: list[str], classes: list[int]) -> Fold:
    grey = noise(len(names))
    entries = []
    for name, pixels, label in zip(names, grey, classes, strict=True):
        Image.fromarray(pixels).save(tmp_path / name)
        entries.append(Entry(name, XRAY.labels[label], name, "val", ""))
    return Fold(grey, np.array(classes, np.int64), tuple(entries))


def answers(probabilities: np.ndarray, path: Path | None = None) -> Answers:
    return Answers("n", "keras", path, probabilities.astype(np.float32), None)


def test_without_a_mistake_there_is_no_sheet(tmp_path: Path) -> None:
    fold = fold_of(tmp_path, ["a.png", "b.png"], [0, 1])
    assert mistakes.sheet(XRAY, fold, tmp_path, answers(np.eye(2)), 8) is None


def test_of_a_server_the_sheet_has_the_pictures_alone(tmp_path: Path) -> None:
    fold = fold_of(tmp_path, ["a.png", "b.png"], [0, 1])
    sheet = mistakes.sheet(XRAY, fold, tmp_path, answers(1 - np.eye(2)), 8)
    assert sheet is not None
    assert np.ptp(np.asarray(sheet.convert("L"))) > 200


def test_films_of_other_hospitals_are_not_on_it(tmp_path: Path) -> None:
    fold = fold_of(tmp_path, ["a.png", "nih_00000001_001.png"], [0, 1])
    wrong_for_the_adult = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert mistakes.sheet(XRAY, fold, tmp_path, answers(wrong_for_the_adult), 8) is None


def test_each_mistake_of_a_training_has_the_map_of_its_wrong_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = tmp_path / "best.keras"
    classifier = tiny_classifier(XRAY)
    classifier.save(network)
    fold = fold_of(tmp_path, ["a.png", "b.png", "c.png"], [0, 1, 1])
    asked: list[np.ndarray] = []
    explain = explainers.explain

    def watched(explainer: explainers.Explainer, grey: np.ndarray, classes: np.ndarray) -> explainers.Explained:
        asked.append(classes)
        return explain(explainer, grey, classes)

    monkeypatch.setattr(explainers, "explain", watched)
    wrong = np.array([[0.1, 0.9], [0.7, 0.3], [0.2, 0.8]])
    sheet = mistakes.sheet(XRAY, fold, tmp_path, answers(wrong, network), 8)
    assert sheet is not None
    assert asked[0].tolist() == [1, 0]  # the surer one first, each for what was said of it
    assert np.ptp(np.asarray(sheet)[:, :, 0].astype(int) - np.asarray(sheet)[:, :, 2]) > 50  # colours: a map


def test_the_map_of_an_installed_network_is_of_the_gradient_model_beside_it(tmp_path: Path) -> None:
    network = tmp_path / XRAY.classifier / "3" / "model.xml"
    network.parent.mkdir(parents=True)
    network.touch()
    assert mistakes.find_explainer(XRAY, network) is None
    assert mistakes.find_explainer(XRAY, None) is None


def test_a_network_of_other_layers_has_mistakes_without_maps(tmp_path: Path) -> None:
    """It is measured all the same."""
    import keras

    image = keras.Input((224, 224, 3), name="image")
    pooled = keras.layers.GlobalAveragePooling2D()(image)
    keras.Model(image, keras.layers.Dense(2, activation="softmax")(pooled)).save(tmp_path / "own.keras")
    assert mistakes.find_explainer(XRAY, tmp_path / "own.keras") is None
