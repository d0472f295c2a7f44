from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace

import pytest

from densescan.tasks import IMAGE_SIZE, MRI, TASKS, XRAY, Task
from training.recipes import ORIGINAL, RECIPES, Recipe, get_recipe


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


def test_an_unknown_name_lists_those_that_exist() -> None:
    with pytest.raises(ValueError, match="'best': choose one of original, scratch, release, longer, smoke"):
        get_recipe("best", XRAY)


def test_an_unknown_key_is_not_ignored() -> None:
    with pytest.raises(ValueError, match="cutmix"):
        Recipe.from_dict({**ORIGINAL.to_dict(), "cutmix": 0.2})


def test_a_run_of_before_the_newest_keys_is_still_read() -> None:
    old = get_recipe("scratch", XRAY).to_dict()
    del old["mixup"], old["after"]
    del old["augmentation"]["equalise"]
    assert Recipe.from_dict(old) == get_recipe("scratch", XRAY)


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_the_release_goes_on_from_scratch_at_the_same_network(task: Task) -> None:
    release = get_recipe("release", task)
    scratch = get_recipe(release.after, task)
    assert (release.weights, scratch.weights) == ("recipe", "none")
    assert release.dense_units == scratch.dense_units
    assert release.seed != scratch.seed, "the same seed would show the same variants again"
    assert release.mixup > 0
    # What differs is told by these: everything else that helped is kept.
    kept = {"name", "weights", "phases", "augmentation", "mixup", "after", "seed"}
    same = [name for name in release.to_dict() if name not in kept]
    assert [getattr(release, name) for name in same] == [getattr(scratch, name) for name in same]
    assert replace(release.augmentation, equalise=0) == scratch.augmentation


def test_every_recipe_that_starts_from_another_names_one_that_exists_and_there_is_no_circle() -> None:
    for task in TASKS.values():
        for name in RECIPES:
            met = [name]
            while (recipe := get_recipe(met[-1], task)).weights == "recipe":
                assert recipe.after not in met
                met.append(recipe.after)


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        get_recipe("scratch", MRI).seed = 1  # type: ignore[misc]
