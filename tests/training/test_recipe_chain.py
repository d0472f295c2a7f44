"""A recipe that goes on from another's network: which trainings are run, in which folders, from which weights."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from densescan.tasks import XRAY
from training import commands, fitting, layouts, network, recipes
from training.data import Fold
from training.manifest import Entry, write_manifest
from training.network import WeightsUnavailable
from training.recipes import FROM_RECIPE, SMOKE, Phase
from training.runs import Run, RunError, write_aside

FIRST = replace(SMOKE, name="first", phases=(Phase("32px", epochs=1, learning_rate=1e-3, size=32),))
SECOND = replace(FIRST, name="second", weights=FROM_RECIPE, after="first", seed=1)

Fit = Callable[..., None]


@pytest.fixture(autouse=True)
def _two_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(recipes.RECIPES, "first", FIRST)
    monkeypatch.setitem(recipes.RECIPES, "second", SECOND)


@pytest.fixture
def fit(phantom_sets: Path, tmp_path: Path) -> Fit:
    """`commands.fit` on a manifest of phantoms, half of them for validation."""
    data = phantom_sets / "chest_xray"
    entries = [
        Entry(image.path, image.label, image.group, ("train", "val")[place % 2], "")
        for place, image in enumerate(layouts.find_images(XRAY, data))
    ]
    write_manifest(tmp_path / "manifest.csv", entries)

    def call(recipe: str, weights: str | None = None, out: Path | None = None, *, overwrite: bool = False) -> None:
        commands.fit(XRAY, data, tmp_path / "manifest.csv", recipe, weights, out, overwrite=overwrite)

    return call


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, str]]:
    """The trainings that were run, as folder and starting weights; each writes a file in place of a network."""
    done: list[tuple[Path, str]] = []

    def fake_fit(run: Run, train: Fold, val: Fold) -> None:
        done.append((run.folder, fitting.read_settings(run)["weights"]))
        text = f"network {len(done)} of {run.folder.name}"
        write_aside(run.best_model, lambda aside: aside.write_text(text))
        run.state.phase, run.state.finished = 1, True
        run.save_state()

    monkeypatch.setattr(fitting, "fit", fake_fit)
    monkeypatch.setattr(
        network, "build_classifier", lambda task, *, weights, dense_units: network.weights_hash(weights)
    )
    return done


RUNS = Path("runs/xray")


def test_the_recipe_before_is_run_first_and_its_network_is_the_start(fit: Fit, trained: list[tuple[Path, str]]) -> None:
    fit("second")
    start = RUNS / "first/best.keras"
    assert trained == [(RUNS / "first", "none"), (RUNS / "second", start.as_posix())]
    settings = fitting.read_settings(Run(RUNS / "second"))
    assert settings["weights_sha256"] == hashlib.sha256(start.read_bytes()).hexdigest()


def test_a_finished_first_training_is_used_and_not_repeated(fit: Fit, trained: list[tuple[Path, str]]) -> None:
    fit("first")
    fit("second")
    fit("second")
    assert [folder.name for folder, _ in trained] == ["first", "second"]


def test_weights_of_ones_own_skip_it(fit: Fit, trained: list[tuple[Path, str]], tmp_path: Path) -> None:
    (tmp_path / "mine.keras").write_bytes(b"weights")
    fit("second", "mine.keras")
    fit("second", "none", Path("elsewhere/second"))
    assert trained == [(RUNS / "second", "mine.keras"), (Path("elsewhere/second"), "none")]
    assert not (RUNS / "first").exists()


def test_the_first_training_stands_beside_the_folder_that_was_asked_for(
    fit: Fit, trained: list[tuple[Path, str]]
) -> None:
    fit("second", out=Path("mine/a"))
    fit("second", out=Path("mine/b"))
    assert [folder.as_posix() for folder, _ in trained] == ["mine/first", "mine/a", "mine/b"]
    with pytest.raises(ValueError, match="is the folder of the recipe first"):
        fit("second", out=Path("mine/first"))


def test_overwriting_the_second_keeps_the_first(fit: Fit, trained: list[tuple[Path, str]]) -> None:
    fit("second")
    fit("second", overwrite=True)
    assert [folder.name for folder, _ in trained] == ["first", "second", "second"]


def test_a_second_training_that_has_begun_needs_the_first_no_more(fit: Fit, trained: list[tuple[Path, str]]) -> None:
    fit("second")
    shutil.rmtree(RUNS / "first")
    fit("second")
    assert [folder.name for folder, _ in trained] == ["first", "second"]


def test_a_first_network_trained_anew_is_another_start(fit: Fit, trained: list[tuple[Path, str]]) -> None:
    fit("second")
    fit("first", overwrite=True)
    with pytest.raises(RunError, match="the file was changed, or is another"):
        fit("second")
    fit("second", overwrite=True)
    assert [folder.name for folder, _ in trained] == ["first", "second", "first", "second"]


def test_a_first_training_of_other_data_says_which_command_mends_it(
    fit: Fit, trained: list[tuple[Path, str]], tmp_path: Path
) -> None:
    fit("first")
    lines = (tmp_path / "manifest.csv").read_text().splitlines()
    (tmp_path / "manifest.csv").write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(RunError, match=r"second goes on from first.*another manifest_sha256.*goes with --recipe first"):
        fit("second")
    assert not (RUNS / "second").exists()


def test_a_recipe_that_goes_on_from_none_cannot_be_asked_to(fit: Fit, trained: list[tuple[Path, str]]) -> None:
    with pytest.raises(ValueError, match="the recipe first goes on from no other"):
        fit("first", FROM_RECIPE)


def test_weights_that_are_not_there_end_it_before_anything_is_read(fit: Fit, trained: list[tuple[Path, str]]) -> None:
    with pytest.raises(WeightsUnavailable, match="no weights at"):
        fit("second", "gone.keras")
    assert trained == []
    assert not (RUNS / "second").exists()


@pytest.mark.slow
def test_both_are_really_trained(fit: Fit) -> None:
    fit("second")
    first, second = (network.load_model(RUNS / name / "best.keras") for name in ("first", "second"))
    assert len(Run(RUNS / "second").read_history()) == 1
    # Adam moves no weight by more than about its rate a step, and there are two: the second began where the first
    # ended. Another start lies up to .085 off: Glorot's bound for this kernel, sqrt(6 / (7 * 7 * (3 + 64))), twice.
    kernels = [
        model.get_layer(network.BACKBONE).get_layer("conv1_conv").get_weights()[0]
        for model in (first, second, network.build_classifier(XRAY, size=32))
    ]
    moved, apart = (abs(kernel - kernels[0]).max() for kernel in kernels[1:])
    assert 0 < moved < 0.02 < 0.06 < apart
