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
from training.recipes import SCRATCH, Augmentation


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


def test_what_teaches_is_asked_about_the_very_images_that_the_pupil_sees(fold: Fold) -> None:
    asked = []

    def teach(images: np.ndarray) -> np.ndarray:
        asked.append(images)
        return np.tile(np.array([[0.25, 0.75]], np.float32), (len(images), 1))

    options = {"augmentation": SCRATCH.augmentation, "mixup": 0.4, "weights": class_weights(fold.classes, 2)}
    plain, taught = batches(fold, **options), batches(fold, teach=teach, **options)
    for ours, theirs in zip(taught[1], plain[1], strict=True):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    np.testing.assert_array_equal(taught[1][0], plain[1][0])
    np.testing.assert_array_equal(asked[0], plain[1][0])
    np.testing.assert_array_equal(taught[1][1], np.tile(np.array([[0.25, 0.75]], np.float32), (5, 1)))
    np.testing.assert_array_equal(taught[1][2], plain[1][2])


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


def mixed(fold: Fold, mixup: float = 0.4, **options: object) -> Batches:
    weights = np.array([1.5, 0.5], np.float32)
    return batches(fold, augmentation=Augmentation(), mixup=mixup, weights=weights, seed=3, **options)


def test_mixed_images_are_shares_of_two_and_targets_and_weights_are_the_same_shares(fold: Fold) -> None:
    plain, both = mixed(fold, mixup=0), mixed(fold)
    met = []
    for index in range(len(plain)):
        (grey, targets, weights), (mixed_grey, mixed_targets, mixed_weights) = plain[index], both[index]
        assert (mixed_grey.shape, mixed_grey.dtype) == (grey.shape, np.uint8)
        assert (mixed_targets.dtype, mixed_weights.dtype) == (np.float32, np.float32)
        np.testing.assert_allclose(mixed_targets.sum(axis=1), 1, atol=1e-6)
        # Where the neighbour is of another class, the target tells the share.
        neighbour = np.roll(np.arange(len(grey)), 1)
        for place in np.flatnonzero((targets != targets[neighbour]).any(axis=1)):
            share = float(mixed_targets[place] @ targets[place])
            other = neighbour[place]
            expected = share * grey[place].astype(float) + (1 - share) * grey[other]
            np.testing.assert_allclose(mixed_grey[place], expected, atol=0.51)
            np.testing.assert_allclose(
                mixed_weights[place], share * weights[place] + (1 - share) * weights[other], rtol=1e-5
            )
            met.append(share)
    assert len(met) > 3
    assert min(met) < 0.5 < max(met)


def test_mixing_none_leaves_whole_classes(fold: Fold) -> None:
    for index in range(len(mixed(fold, mixup=0))):
        targets = mixed(fold, mixup=0)[index][1]
        np.testing.assert_array_equal(np.sort(targets, axis=1), np.tile([0, 1], (len(targets), 1)))


def test_a_resumed_training_mixes_as_an_uninterrupted_one_and_each_epoch_anew(fold: Fold) -> None:
    whole = mixed(fold)
    first = whole[0]
    whole.on_epoch_end()
    resumed = mixed(fold, epoch=1)
    for index in range(len(whole)):
        for a, b in zip(whole[index], resumed[index], strict=True):
            np.testing.assert_array_equal(a, b)
    assert (whole[0][1] != first[1]).any()


def test_the_larger_the_parameter_the_more_images_are_mixed(fold: Fold) -> None:
    def purity(mixup: float) -> float:
        sequence = mixed(fold, mixup=mixup)
        largest = []
        for _ in range(10):
            largest += [sequence[index][1].max(axis=1) for index in range(len(sequence))]
            sequence.on_epoch_end()
        return float(np.concatenate(largest).mean())

    assert 1 >= purity(0.05) > purity(0.4) > purity(4.0)
