"""What is committed: the weights, and the card beside them that says where they come from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from densescan.tasks import OPERATING_POINT_PARAMETER, TASKS, XRAY, Task
from server.repository import config_path, read_config
from training import exporting
from training.recipes import Recipe

ROOT = Path(__file__).resolve().parents[2] / "model_repository"
each_task = pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))


def newest(model: str) -> Path:
    return max((path for path in (ROOT / model).iterdir() if path.name.isdigit()), key=lambda path: int(path.name))


@each_task
def test_both_models_have_the_same_version_in_every_form(task: Task) -> None:
    classifier, gradcam = newest(task.classifier), newest(task.gradcam)
    assert classifier.name == gradcam.name
    assert (classifier / exporting.SAVED_MODEL / "saved_model.pb").is_file()
    for folder in (classifier, gradcam):
        for name in ("model.onnx", "model.xml", "model.bin"):
            assert (folder / name).stat().st_size > 0


@each_task
def test_no_file_has_changed_since_it_was_exported(task: Task) -> None:
    for model in (task.classifier, task.gradcam):
        assert exporting.read_card(newest(model))["sha256"] == exporting.hashes(newest(model))


@each_task
def test_the_card_tells_how_to_repeat_the_training(task: Task) -> None:
    card = exporting.read_card(newest(task.classifier))
    assert (card["model"], card["labels"]) == (task.classifier, list(task.labels))
    assert Recipe.from_dict(card["recipe"]).name != "smoke"
    assert re.fullmatch(r"[0-9a-f]{64}", card["manifest_sha256"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", card["trained"])
    # The MRI fold has 452: half of the set's pictures have near-copies, and those are all in the training fold.
    assert card["validation"]["int8"]["images"] > 450


@each_task
def test_int8_costs_no_more_than_a_little(task: Task) -> None:
    figures = exporting.read_card(newest(task.classifier))["validation"]
    assert figures["fp32"]["auroc"] - figures["int8"]["auroc"] < 0.005
    assert figures["fp32"]["accuracy"] - figures["int8"]["accuracy"] < 0.01


@each_task
def test_the_released_network_is_worth_serving(task: Task) -> None:
    figures = exporting.read_card(newest(task.classifier))["validation"]["int8"]
    if task is XRAY:
        assert figures["auroc"] >= 0.98
    else:
        assert figures["accuracy"] >= 0.93


def test_the_served_operating_point_is_the_one_that_was_measured() -> None:
    measured = exporting.read_card(newest(XRAY.classifier))["validation"]["int8"]["operating_point"]
    served = read_config(config_path(ROOT / XRAY.classifier, "cpu")).parameters[OPERATING_POINT_PARAMETER]
    assert float(served.string_value) == pytest.approx(measured["threshold"], abs=1e-6)
