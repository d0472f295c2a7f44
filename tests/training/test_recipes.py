from __future__ import annotations

import json
from dataclasses import FrozenInstanceError

import pytest

from densescan.tasks import IMAGE_SIZE, MRI, TASKS, XRAY
from training.recipes import ORIGINAL, RECIPES, Recipe, get_recipe


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_json(name: str, task: object) -> None:
    recipe = get_recipe(name, task)  # type: ignore[arg-type]
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
    with pytest.raises(ValueError, match=r"unknown recipe 'best': choose one of original, scratch, smoke"):
        get_recipe("best", XRAY)


def test_an_unknown_key_is_not_ignored() -> None:
    with pytest.raises(ValueError, match="mixup"):
        Recipe.from_dict({**ORIGINAL.to_dict(), "mixup": 0.2})


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        get_recipe("scratch", MRI).seed = 1  # type: ignore[misc]
