"""Learning from other networks: what they answer, what a run's folder keeps of them, and that the pupil learns it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

from densescan.preprocessing import replicate
from densescan.tasks import XRAY
from training import fitting, layouts, network, teachers
from training.cli import app
from training.data import Fold, load_fold
from training.manifest import Entry, write_manifest
from training.network import WeightsUnavailable
from training.recipes import SMOKE, Augmentation, Phase, get_recipe
from training.runs import RunError

RECIPE = replace(SMOKE, augmentation=Augmentation(), phases=(Phase("only", epochs=1, learning_rate=1e-3),))


@pytest.fixture
def pictures() -> np.ndarray:
    return replicate(np.random.default_rng(0).integers(0, 256, (3, 224, 224), np.uint8))


def saved(path: Path, seed: int) -> Path:
    keras.utils.set_random_seed(seed)
    model = network.build_classifier(XRAY, weights="none")
    # As drawn, a network answers one half to everything.
    model.get_layer(network.LOGITS).bias.assign(np.array([seed, -1], np.float32))
    model.save(path)
    return path


@pytest.mark.usefixtures("shallow_backbone")
def test_the_answer_is_the_mean_of_all_teachers_and_both_ways_round(tmp_path: Path, pictures: np.ndarray) -> None:
    paths = [saved(tmp_path / f"{seed}.keras", seed) for seed in (0, 1)]
    models = [network.load_model(path) for path in paths]
    wanted = np.mean(
        [np.asarray(model.predict_on_batch(some)) for model in models for some in (pictures, pictures[:, :, ::-1])],
        axis=0,
    )
    answer = teachers.Teachers(paths)(pictures)
    assert answer.dtype == np.float32
    np.testing.assert_allclose(answer, wanted, atol=1e-6)
    np.testing.assert_allclose(teachers.Teachers(paths)(pictures[:, :, ::-1]), wanted, atol=1e-6)
    plain = np.mean([np.asarray(model.predict_on_batch(pictures)) for model in models], axis=0)
    np.testing.assert_allclose(teachers.Teachers(paths, mirrored=False)(pictures), plain, atol=1e-6)
    assert np.abs(plain - wanted).max() > 1e-4
    assert np.abs(answer - np.asarray(models[0].predict_on_batch(pictures))).max() > 0.01


def test_a_teacher_is_recorded_with_all_its_files(tmp_path: Path) -> None:
    xml = tmp_path / "model.xml"
    xml.write_bytes(b"graph")
    xml.with_suffix(".bin").write_bytes(b"weights")
    (first,) = teachers.record([xml], RECIPE)
    xml.with_suffix(".bin").write_bytes(b"other weights")
    (second,) = teachers.record([xml], RECIPE)
    assert first["path"] == xml.as_posix()
    assert first["sha256"] != second["sha256"]


def test_what_cannot_teach_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match=r"no teacher at .*gone\.keras"):
        teachers.record([tmp_path / "gone.keras"], RECIPE)
    (tmp_path / "some.keras").write_bytes(b"")
    with pytest.raises(ValueError, match=r"release has phases of 128: .*distilled with --weights and --teacher"):
        teachers.record([tmp_path / "some.keras"], get_recipe("release", XRAY))
    assert teachers.record([], get_recipe("release", XRAY)) == []


@pytest.fixture
def fold(phantom_sets: Path) -> Fold:
    folder = phantom_sets / "chest_xray"
    entries = [Entry(image.path, image.label, image.group, "train", "") for image in layouts.find_images(XRAY, folder)]
    return load_fold(entries[::4], XRAY.labels, folder)


@pytest.mark.slow
@pytest.mark.usefixtures("shallow_backbone")
def test_a_pupil_learns_what_its_teachers_say_and_a_run_goes_on_with_no_others(tmp_path: Path, fold: Fold) -> None:
    write_manifest(tmp_path / "manifest.csv", fold.entries)
    teacher, other = (saved(tmp_path / f"{seed}.keras", seed) for seed in (2, 3))
    recipe = replace(RECIPE, phases=(Phase("only", epochs=3, learning_rate=3e-3),), balance=False, dropout=0.0)

    def start(*taught_by: Path) -> fitting.Run:
        return fitting.start_run(tmp_path / "run", XRAY, recipe, "none", tmp_path / "manifest.csv", taught_by)

    run = start(teacher)
    assert [one["path"] for one in json.loads(run.settings.read_text())["teachers"]] == [teacher.as_posix()]
    for wrong in ((), (other,), (teacher, other)):
        with pytest.raises(RunError, match="other teachers"):
            start(*wrong)
    fitting.fit(start(teacher), fold, fold)
    # The teacher says NORMAL of all; of these labels half are another.
    assert np.bincount(fold.classes).tolist() == [len(fold) // 2] * 2
    teacher.unlink()
    assert start(teacher).state.finished, "who has learnt needs the teacher no more"
    last = run.read_history()[-1]
    assert float(last["accuracy"]) == 1
    assert float(last["val_accuracy"]) == 0.5


def test_the_command_line_says_what_is_wrong_with_a_teacher(tmp_path: Path, phantom_sets: Path) -> None:
    manifest = tmp_path / "manifest.csv"
    write_manifest(manifest, [Entry("a.png", "NORMAL", "a", "train", "")])
    words = ["fit", "--task", "xray", "--data", phantom_sets / "chest_xray", "--manifest", manifest]
    words += ["--recipe", "distilled", "--weights", "none", "--teacher", "gone.xml", "--out", tmp_path / "run"]
    result = CliRunner().invoke(app, list(map(str, words)))
    assert isinstance(result.exception, WeightsUnavailable)
    assert "no teacher at gone.xml" in str(result.exception)
    assert not (tmp_path / "run").exists()
