"""Real, tiny trainings: a shallow DenseNet on 32x32 pictures."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from densescan.tasks import XRAY
from training import commands, fitting, layouts, network
from training.cli import app
from training.data import Fold, load_fold
from training.manifest import Entry, write_manifest
from training.network import WeightsUnavailable
from training.recipes import SMOKE, Phase
from training.runs import Run, RunError, write_json

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shallow_backbone")]

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


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file that stands for weights: what a run records of it does not depend on what is in it."""
    path = tmp_path / "start.keras"
    path.write_bytes(b"some weights")
    return path


def begun(run: Run) -> Run:
    run.state.epoch = 1
    run.save_state()
    return run


def test_a_run_records_what_was_in_the_file_it_began_with(tmp_path: Path, manifest: Path, weights: Path) -> None:
    run = fitting.start_run(tmp_path / "run", XRAY, RECIPE, str(weights), manifest)
    settings = fitting.read_settings(run)
    assert settings["weights"] == str(weights)
    assert settings["weights_sha256"] == hashlib.sha256(b"some weights").hexdigest()
    for name in ("none", "imagenet"):
        assert (
            fitting.read_settings(fitting.start_run(tmp_path / name, XRAY, RECIPE, name, manifest))["weights_sha256"]
            is None
        )


def test_a_run_is_not_resumed_from_a_file_that_was_changed_since(tmp_path: Path, manifest: Path, weights: Path) -> None:
    begun(fitting.start_run(tmp_path / "run", XRAY, RECIPE, str(weights), manifest))
    weights.write_bytes(b"other weights")
    with pytest.raises(RunError, match=r"began with the weights .*start\.keras of SHA-256 .* the file was changed"):
        fitting.start_run(tmp_path / "run", XRAY, RECIPE, str(weights), manifest)
    weights.write_bytes(b"some weights")
    assert fitting.start_run(tmp_path / "run", XRAY, RECIPE, str(weights), manifest).state.epoch == 1


def test_a_run_is_resumed_from_the_same_file_wherever_it_stands_now(
    tmp_path: Path, manifest: Path, weights: Path
) -> None:
    fitting.start_run(tmp_path / "run", XRAY, RECIPE, str(weights), manifest)
    moved = weights.rename(tmp_path / "moved.keras")
    run = fitting.start_run(tmp_path / "run", XRAY, RECIPE, str(moved), manifest)
    settings = fitting.read_settings(run)
    assert settings["weights"] == str(moved), "the training reads it from there"
    assert settings["versions"]
    assert settings["started"]


def test_a_run_that_has_begun_needs_the_file_no_more_and_one_that_has_not_does(
    tmp_path: Path, manifest: Path, weights: Path
) -> None:
    run = fitting.start_run(tmp_path / "run", XRAY, RECIPE, str(weights), manifest)
    weights.unlink()
    with pytest.raises(WeightsUnavailable, match="no weights at"):
        fitting.start_run(tmp_path / "run", XRAY, RECIPE, str(weights), manifest)
    begun(run)
    assert fitting.start_run(tmp_path / "run", XRAY, RECIPE, str(weights), manifest).state.epoch == 1


def test_no_folder_is_made_or_emptied_for_weights_that_are_not_there(tmp_path: Path, manifest: Path) -> None:
    with pytest.raises(WeightsUnavailable, match="no weights at"):
        fitting.start_run(tmp_path / "run", XRAY, RECIPE, "gone.keras", manifest)
    assert not (tmp_path / "run").exists()
    run = fitting.start_run(tmp_path / "run", XRAY, RECIPE, "none", manifest)
    with pytest.raises(WeightsUnavailable, match="no weights at"):
        fitting.start_run(tmp_path / "run", XRAY, RECIPE, "gone.keras", manifest, overwrite=True)
    assert run.settings.is_file()


@pytest.mark.parametrize("which", ["weights", "teacher", "manifest"])
def test_overwriting_deletes_nothing_that_the_training_needs(
    tmp_path: Path, manifest: Path, weights: Path, which: str
) -> None:
    folder = tmp_path / "run"
    fitting.start_run(folder, XRAY, RECIPE, "none", manifest)
    inside = folder / "needed.keras"
    inside.write_bytes((manifest if which == "manifest" else weights).read_bytes())
    with pytest.raises(RunError, match=r"--overwrite would delete .*needed\.keras"):
        fitting.start_run(
            folder,
            XRAY,
            replace(RECIPE, phases=(replace(RECIPE.phases[0], size=224),)),
            str(inside) if which == "weights" else "none",
            inside if which == "manifest" else manifest,
            [inside] if which == "teacher" else [],
            overwrite=True,
        )
    assert inside.is_file()
    fitting.start_run(folder, XRAY, RECIPE, "none", manifest, overwrite=True)
    assert not inside.exists()


def test_a_run_of_before_the_hash_was_recorded_is_resumed_by_the_files_name(
    tmp_path: Path, manifest: Path, weights: Path
) -> None:
    run = begun(fitting.start_run(tmp_path / "run", XRAY, RECIPE, str(weights), manifest))
    settings = fitting.read_settings(run)
    del settings["weights_sha256"]
    write_json(run.settings, settings)
    weights.write_bytes(b"whatever")
    assert fitting.start_run(tmp_path / "run", XRAY, RECIPE, str(weights), manifest).state.epoch == 1
    with pytest.raises(RunError, match="another weights"):
        fitting.start_run(tmp_path / "run", XRAY, RECIPE, "elsewhere.keras", manifest)


def test_a_loss_that_is_no_number_ends_the_training_with_advice(
    tmp_path: Path, manifest: Path, folds: dict[str, Fold]
) -> None:
    wild = replace(RECIPE, phases=(Phase("only", epochs=1, learning_rate=1e30, size=32),), batch_size=2)
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


def test_a_share_of_the_starting_weights_is_kept_at_the_end(
    tmp_path: Path, manifest: Path, folds: dict[str, Fold]
) -> None:
    weights = tmp_path / "trained.keras"
    network.build_classifier(XRAY, size=32, dense_units=RECIPE.dense_units).save(weights)

    def trained(share: float) -> list[np.ndarray]:
        recipe = replace(RECIPE, start_share=share)
        run = fitting.start_run(tmp_path / f"share-{share}", XRAY, recipe, str(weights), manifest)
        fitting.fit(run, folds["train"], folds["val"])
        return network.load_model(run.best_model).get_weights()

    def distance(ours: list[np.ndarray], others: list[np.ndarray]) -> float:
        return max(float(np.abs(one - other).max()) for one, other in zip(ours, others, strict=True))

    start = network.build_classifier(XRAY, dense_units=RECIPE.dense_units, weights=str(weights)).get_weights()
    assert distance(trained(0.0), start) > 100 * distance(trained(0.9999), start)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--recipe", "finished"], "name it with --weights"),
        (["--recipe", "distilled"], "name it with --weights"),
        (["--recipe", "distilled", "--weights", "none"], "with --teacher"),
    ],
)
def test_a_recipe_that_goes_on_from_others_wants_them_named(
    words: list[str], told: str, tmp_path: Path, manifest: Path, phantom_sets: Path
) -> None:
    folder = phantom_sets / "chest_xray"
    fit = ["fit", "--task", "xray", "--data", str(folder), "--manifest", str(manifest), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, [*fit, *words])
    assert told in str(result.exception)
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_not_there_is_told_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"there is no training at .*typo"):
        commands.newest_run(XRAY, tmp_path / "typo")
