"""Real, tiny trainings: DenseNet-121 on 32x32 pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from densescan.tasks import XRAY
from training import commands, fitting, layouts, network
from training.data import Fold, load_fold
from training.manifest import Entry, write_manifest
from training.recipes import SMOKE, Phase
from training.runs import Run, RunError

pytestmark = pytest.mark.slow

RECIPE = replace(SMOKE, phases=(Phase("only", epochs=2, learning_rate=1e-3, size=32),))


@pytest.fixture(scope="module")
def folds(phantom_sets: Path) -> dict[str, Fold]:
    folder = phantom_sets / "chest_xray"
    images = layouts.find_images(XRAY, folder)
    entries = [Entry(image.path, image.label, image.group, "train", "") for image in images]
    return {name: load_fold(entries[start::3], XRAY.labels, folder) for start, name in enumerate(("train", "val"))}


@pytest.fixture
def manifest(tmp_path: Path, folds: dict[str, Fold]) -> Path:
    write_manifest(tmp_path / "manifest.csv", folds["train"].entries)
    return tmp_path / "manifest.csv"


def test_an_interrupted_training_ends_as_an_uninterrupted_one(
    tmp_path: Path, manifest: Path, folds: dict[str, Fold], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fitting.start_run(tmp_path / "whole", XRAY, RECIPE, "none", manifest)
    fitting.fit(whole, folds["train"], folds["val"])

    save_state = Run.save_state

    def power_cut(run: Run) -> None:
        save_state(run)
        if run.state.epoch == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "save_state", power_cut)
    broken = fitting.start_run(tmp_path / "broken", XRAY, RECIPE, "none", manifest)
    with pytest.raises(KeyboardInterrupt):
        fitting.fit(broken, folds["train"], folds["val"])
    monkeypatch.setattr(Run, "save_state", save_state)
    assert not broken.best_model.exists()

    resumed = fitting.start_run(tmp_path / "broken", XRAY, RECIPE, "none", manifest)
    assert resumed.state.epoch == 1
    fitting.fit(resumed, folds["train"], folds["val"])
    assert resumed.state.finished
    expected, got = whole.read_history(), resumed.read_history()
    assert [row["epoch"] for row in got] == ["1", "2"]
    for key in ("loss", "val_loss"):
        assert float(got[1][key]) == pytest.approx(float(expected[1][key]), rel=0.02)
    assert not list(resumed.checkpoints.glob("epoch-*"))
    assert network.load_model(resumed.best_model).input_shape == (None, 224, 224, 3)


def test_another_training_does_not_take_over_the_folder(tmp_path: Path, manifest: Path) -> None:
    fitting.start_run(tmp_path / "run", XRAY, RECIPE, "none", manifest)
    with pytest.raises(RunError, match="another version of this recipe"):
        fitting.start_run(tmp_path / "run", XRAY, replace(RECIPE, dropout=0.1), "none", manifest)
    with pytest.raises(RunError, match="another weights"):
        fitting.start_run(tmp_path / "run", XRAY, RECIPE, "imagenet", manifest)
    fitting.start_run(tmp_path / "run", XRAY, replace(RECIPE, dropout=0.1), "none", manifest, overwrite=True)


def test_a_loss_that_is_no_number_ends_the_training_with_advice(
    tmp_path: Path, manifest: Path, folds: dict[str, Fold]
) -> None:
    wild = replace(RECIPE, phases=(Phase("only", epochs=1, learning_rate=float("inf"), size=32),), batch_size=2)
    run = fitting.start_run(tmp_path / "run", XRAY, wild, "none", manifest)
    with pytest.raises(RunError, match="Lower the learning rate"):
        fitting.fit(run, folds["train"], folds["val"])
    assert not run.best_model.exists()


def test_a_run_records_what_repeats_it(tmp_path: Path, manifest: Path) -> None:
    run = fitting.start_run(tmp_path / "run", XRAY, RECIPE, "none", manifest)
    settings = fitting.read_settings(run)
    assert settings["recipe"] == RECIPE.to_dict() | {"phases": [vars(phase) for phase in RECIPE.phases]}
    assert settings["versions"]["keras"]
    assert run.manifest.read_bytes() == manifest.read_bytes()


def test_equal_numbers_of_each_class_are_taken_when_images_are_limited(
    phantom_sets: Path, folds: dict[str, Fold]
) -> None:
    fold = commands.load(XRAY, folds["train"].entries, "train", phantom_sets / "chest_xray", limit=4)
    np.testing.assert_array_equal(np.bincount(fold.classes), [2, 2])
