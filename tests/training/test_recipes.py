from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace

import pytest

from densescan.tasks import IMAGE_SIZE, MRI, TASKS, XRAY, Task
from server.embedded import DEFAULT_REPOSITORY
from training.explain_check import newest_version
from training.exporting import read_card
from training.recipes import ORIGINAL, RECIPES, Recipe, changed, get_recipe


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_json(name: str, task: Task) -> None:
    recipe = get_recipe(name, task)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_the_original_is_the_reports_training() -> None:
    head, top_half = ORIGINAL.phases
    assert (head.trainable, top_half.trainable) == ("head", "top_half")
    assert top_half.learning_rate == pytest.approx(head.learning_rate / 10)
    assert (ORIGINAL.dense_units, ORIGINAL.dropout, ORIGINAL.weights) == (512, 0.5, "imagenet")
    how = ORIGINAL.augmentation
    assert (how.rotation, how.shift, how.zoom, how.flip) == (20, 0.10, 0.20, True)
    assert (how.noise, how.blur, how.erase, how.gamma) == (0, 0, 0, 1)


def test_every_training_worth_serving_ends_at_the_served_size() -> None:
    for name in set(RECIPES) - {"smoke"}:
        for task in TASKS.values():
            assert get_recipe(name, task).phases[-1].size == IMAGE_SIZE


@pytest.mark.parametrize("name", ["dropout", "label_smoothing", "rarest_domain"])
@pytest.mark.parametrize("share", ["1", "-0.1"])
def test_what_is_no_share_is_refused(name: str, share: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is {share}.*from 0 to below 1"):
        changed(ORIGINAL, [f"{name}={share}"])


@pytest.mark.parametrize(
    "change",
    [
        *("batch_size=0", "dense_units=-1", "phases.0.epochs=0", "phases.0.size=0", "phases.1.learning_rate=0"),
        *("weight_decay=-0.1", "mixup=-1", "max_images=-2"),
    ],
)
def test_a_number_that_nothing_can_be_trained_by_is_refused_before_an_hour_of_loading(change: str) -> None:
    name, value = change.split("=")
    expected = f"--set {change}: {name.rpartition('.')[2]} is {value}.*expected (a number above 0|0 or more)"
    with pytest.raises(ValueError, match=expected):
        changed(ORIGINAL, [change])


def test_an_unknown_name_lists_those_that_exist() -> None:
    known = "original, scratch, release, longer, distilled, finished, short, smoke"
    with pytest.raises(ValueError, match=f"'best': choose one of {known}"):
        get_recipe("best", XRAY)


def test_an_unknown_key_is_not_ignored() -> None:
    with pytest.raises(ValueError, match="cutmix"):
        Recipe.from_dict({**ORIGINAL.to_dict(), "cutmix": 0.2})


def test_a_run_of_before_the_newest_keys_is_still_read() -> None:
    old = get_recipe("scratch", XRAY).to_dict()
    del old["mixup"], old["augmentation"]["equalise"]
    old["after"] = "original"  # a recipe once named the one that it went on from
    assert Recipe.from_dict(old) == get_recipe("scratch", XRAY)


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_recipes_are_compared_by_what_the_release_is_trained_by_only_shorter(task: Task) -> None:
    short, release = get_recipe("short", task), get_recipe("release", task)
    assert replace(short, name="release", phases=release.phases) == release
    epochs = [sum(phase.epochs for phase in recipe.phases) for recipe in (short, release)]
    assert epochs[0] * 4 <= epochs[1] + 4


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_the_network_that_ships_was_trained_by_a_recipe_that_is_here(task: Task) -> None:
    trained = Recipe.from_dict(read_card(newest_version(DEFAULT_REPOSITORY, task, task.classifier))["recipe"])
    recipe = get_recipe(trained.name, task)
    # A processor decides the precision; a card of before recipes asked for weights and teachers says none of that.
    asks = {"weights": recipe.weights, "taught": recipe.taught}
    assert replace(trained, precision=recipe.precision, **asks) == recipe


@pytest.mark.parametrize(
    ("change", "read"),
    [
        ("mixup=0", lambda recipe: recipe.mixup == 0),
        ("augmentation.noise=20", lambda recipe: recipe.augmentation.noise == 20),
        ("augmentation.flip=false", lambda recipe: recipe.augmentation.flip is False),
        ("phases.1.epochs=3", lambda recipe: recipe.phases[1].epochs == 3),
        ("phases.0.schedule=constant", lambda recipe: recipe.phases[0].schedule == "constant"),
    ],
)
def test_one_value_of_a_recipe_is_changed_and_no_other(change: str, read: Callable[[Recipe], bool]) -> None:
    release = get_recipe("release", XRAY)
    other = changed(release, [change])
    assert read(other)
    assert not read(release)
    before, after = (json.dumps(recipe.to_dict()).replace(", ", "\n").split() for recipe in (release, other))
    assert len(before) == len(after)
    assert sum(one != another for one, another in zip(before, after, strict=True)) == 1


@pytest.mark.parametrize(
    "change",
    ["mixup", "mixup=", "mixup=much", "cutmix=0.2", "augmentation.sharpen=1", "phases.9.epochs=3",
     "phases.0.epochs=2.5", "augmentation=3", "batch_size=true", "augmentation.flip=1",
     "phases.0.schedule=cosin", "phases.0.keep=lsat", "precision=float8", "phases.1.epochs=100", "phases.1.name=128px",
     "phases.first.epochs=3", "phases=[]"],
)  # fmt: skip
def test_a_change_that_does_not_fit_is_refused_with_what_would(change: str) -> None:
    with pytest.raises(ValueError, match=f"--set {re.escape(change)}: "):
        changed(get_recipe("release", XRAY), [change])


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        get_recipe("scratch", MRI).seed = 1  # type: ignore[misc]
