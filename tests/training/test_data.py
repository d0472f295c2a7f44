from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from densescan.errors import InvalidImage
from densescan.preprocessing import preprocess
from densescan.tasks import XRAY
from training import layouts
from training.batches import Batches
from training.data import Fold, class_weights, load_fold, repeated, shrink
from training.manifest import Entry
from training.recipes import SCRATCH


@pytest.fixture(scope="module")
def fold(phantom_sets: Path) -> Fold:
    folder = phantom_sets / "chest_xray"
    images = layouts.find_images(XRAY, folder)
    entries = [Entry(image.path, image.label, image.group, "train", "") for image in images]
    return load_fold(entries, XRAY.labels, folder)


def batches(fold: Fold, **options: object) -> Batches:
    return Batches(fold, size=64, batch_size=5, labels=2, **options)  # type: ignore[arg-type]


def test_a_training_image_is_the_sdks_preprocessed_image(fold: Fold, phantom_sets: Path) -> None:
    for index in (0, len(fold) - 1):
        tensor = preprocess(phantom_sets / "chest_xray" / fold.entries[index].path)
        np.testing.assert_array_equal(np.repeat(fold.grey[index][..., None], 3, axis=-1), tensor)


def test_a_missing_file_of_the_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidImage, match=r"gone\.png: no such file"):
        load_fold([Entry("gone.png", "NORMAL", "p", "train", "")], XRAY.labels, tmp_path)


def test_class_weights_are_scikit_learns_balanced_ones() -> None:
    classes = np.array([0] * 943 + [1] * 2702)
    expected = compute_class_weight("balanced", classes=np.array([0, 1]), y=classes)
    np.testing.assert_allclose(class_weights(classes, 2), expected, rtol=1e-6)


def test_validation_sees_every_image_once_unchanged_and_in_order(fold: Fold) -> None:
    sequence = batches(fold)
    images = np.concatenate([sequence[index][0] for index in range(len(sequence))])
    np.testing.assert_array_equal(images[..., 0], shrink(fold.grey, 64))
    targets = np.concatenate([sequence[index][1] for index in range(len(sequence))])
    np.testing.assert_array_equal(targets.argmax(axis=1), fold.classes)


def test_training_batches_are_whole_shuffled_anew_and_weighted(fold: Fold) -> None:
    weights = class_weights(fold.classes, 2)
    sequence = batches(fold, augmentation=SCRATCH.augmentation, weights=weights)
    first = sequence[0]
    assert len(sequence) == len(fold) // 5
    assert [part.shape for part in first] == [(5, 64, 64, 3), (5, 2), (5,)]
    np.testing.assert_array_equal(first[2], weights[first[1].argmax(axis=1)])
    sequence.on_epoch_end()
    assert (sequence[0][0] != first[0]).any()


def test_a_resumed_training_draws_what_an_uninterrupted_one_would_have(fold: Fold) -> None:
    whole = batches(fold, augmentation=SCRATCH.augmentation, seed=3)
    whole.on_epoch_end()
    resumed = batches(fold, augmentation=SCRATCH.augmentation, seed=3, epoch=1)
    for index in range(len(whole)):
        for a, b in zip(whole[index], resumed[index], strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_rare_domain_is_shown_until_it_makes_up_its_share_but_not_endlessly() -> None:
    domains = [""] * 900 + ["adult"] * 100
    chosen = repeated(domains, 0.25)
    counts = np.bincount(chosen, minlength=1000)
    assert set(counts[:900]) == {1}
    assert set(counts[900:]) == {3}
    assert np.bincount(repeated([""] * 900 + ["adult"] * 5, 0.25)).max() == 6
    np.testing.assert_array_equal(np.sort(repeated(domains, 0.0)), np.arange(1000))
