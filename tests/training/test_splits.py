from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from densescan.tasks import XRAY
from training import layouts, leakage, splits
from training.layouts import ImageFile
from training.manifest import Entry, of_fold
from training.near_duplicates import Pair

from .conftest import save_noise


def image(path: str, group: str, label: str = "NORMAL", split: str = "train") -> ImageFile:
    return ImageFile(path, label, split, group)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 20)), min_size=1, max_size=60), st.integers(0, 3))
def test_no_patient_and_no_picture_is_in_two_folds(members: list[tuple[int, int]], seed: int) -> None:
    images = [image(f"{place}.png", f"patient{patient}") for place, (patient, _) in enumerate(members)]
    hashes = {f"{place}.png": f"picture{picture}" for place, (_, picture) in enumerate(members)}
    entries, report = splits.make_split(images, hashes, seed=seed)
    for attribute in ("group", "sha256"):
        folds: dict[str, set[str]] = {}
        for entry in entries:
            folds.setdefault(getattr(entry, attribute), set()).add(entry.fold)
        assert all(len(where) == 1 for where in folds.values())
    assert report.duplicates == len(members) - len({picture for _, picture in members})
    assert sum(1 for entry in entries if not entry.duplicate_of) == len({picture for _, picture in members})


def many(count: int = 200) -> tuple[list[ImageFile], dict[str, str]]:
    images = [image(f"{n:03d}.png", f"p{n // 2}", XRAY.labels[n % 4 == 0]) for n in range(count)]
    return images, {entry.path: f"h{entry.path}" for entry in images}


def test_the_same_seed_cuts_alike_and_another_otherwise() -> None:
    images, hashes = many()
    first, _ = splits.make_split(images, hashes, seed=1)
    again, _ = splits.make_split(list(reversed(images)), hashes, seed=1)
    other, _ = splits.make_split(images, hashes, seed=2)
    assert first == again
    assert first != other


def test_each_class_is_cut_by_the_ratios() -> None:
    images, hashes = many(400)
    entries, _ = splits.make_split(images, hashes, ratios=(0.7, 0.15, 0.15))
    counts = Counter((entry.fold, entry.label) for entry in entries)
    for label in XRAY.labels:
        total = sum(counts[fold, label] for fold in splits.TRAINABLE)
        for fold, share in zip(splits.TRAINABLE, (0.7, 0.15, 0.15), strict=True):
            assert counts[fold, label] / total == pytest.approx(share, abs=0.03)


def test_the_published_test_set_stays_apart_and_keeps_the_picture_that_leaked() -> None:
    images = [image("a.png", "p1"), image("b.png", "p1", split="test"), image("c.png", "p2")]
    entries, report = splits.make_split(images, {"a.png": "same", "b.png": "same", "c.png": "other"})
    by_path = {entry.path: entry for entry in entries}
    assert (by_path["b.png"].fold, by_path["b.png"].duplicate_of) == ("official", "")
    assert (by_path["a.png"].fold, by_path["a.png"].duplicate_of) == ("official", "b.png")
    assert by_path["c.png"].fold != "official"
    assert report.leaked == 1


def test_equal_pictures_of_two_classes_are_left_out_and_named() -> None:
    images = [image("a.png", "p1"), image("b.png", "p2", "PNEUMONIA"), image("c.png", "p3")]
    entries, report = splits.make_split(images, {"a.png": "same", "b.png": "same", "c.png": "other"})
    assert [entry.path for entry in entries] == ["c.png"]
    assert report.conflicts == [["a.png", "b.png"]]


@pytest.mark.parametrize("ratios", [(0.5, 0.2, 0.2), (1.2, -0.1, -0.1)])
def test_ratios_that_do_not_add_up_are_refused(ratios: tuple[float, float, float]) -> None:
    images, hashes = many()
    with pytest.raises(ValueError, match="add up"):
        splits.make_split(images, hashes, ratios=ratios)


def test_duplicates_are_equal_pixels_however_stored_and_damaged_files_are_named(tmp_path: Path) -> None:
    first = save_noise(tmp_path / "NORMAL/a.png", 0)
    shutil.copy(first, tmp_path / "NORMAL/b.png")
    from PIL import Image

    Image.open(first).convert("RGB").save(tmp_path / "PNEUMONIA.bmp")
    (tmp_path / "PNEUMONIA").mkdir()
    shutil.move(tmp_path / "PNEUMONIA.bmp", tmp_path / "PNEUMONIA/c.bmp")
    (tmp_path / "PNEUMONIA/d.png").write_bytes(b"not a picture")
    done: list[int] = []
    scan = splits.scan_images(layouts.find_images(XRAY, tmp_path), tmp_path, lambda: done.append(1))
    assert len(set(scan.hashes.values())) == 1
    assert sorted(scan.hashes) == sorted(scan.fingerprints) == ["NORMAL/a.png", "NORMAL/b.png", "PNEUMONIA/c.bmp"]
    assert [path for path, _ in scan.unreadable] == ["PNEUMONIA/d.png"]
    assert len(done) == 4


def test_a_hash_tells_shapes_apart() -> None:
    pixels = np.zeros((40, 60), np.uint8)
    assert splits.pixel_hash(pixels) != splits.pixel_hash(pixels.T)


def members_and_pairs(draw: st.DrawFn) -> tuple[list[ImageFile], dict[str, str], list[Pair]]:
    places = st.integers(0, 39)
    count = draw(st.integers(2, 40))
    images = [
        image(f"{n:02d}.png", f"p{draw(st.integers(0, 25))}", split=draw(st.sampled_from(["train", "train", "test"])))
        for n in range(count)
    ]
    hashes = {entry.path: f"picture{draw(st.integers(0, 30))}" for entry in images}
    twins = draw(st.lists(st.tuples(places, places), max_size=15))
    pairs = [Pair(f"{min(a, b):02d}.png", f"{max(a, b):02d}.png", 0.97, False) for a, b in twins if a != b]
    return images, hashes, pairs


SETS = st.composite(members_and_pairs)()


@settings(max_examples=60)
@given(SETS, st.integers(0, 3))
def test_nearly_equal_pictures_are_in_one_fold_and_one_group(
    drawn: tuple[list[ImageFile], dict[str, str], list[Pair]], seed: int
) -> None:
    images, hashes, pairs = drawn
    entries, report = splits.make_split(images, hashes, pairs=pairs, seed=seed)
    by_path = {entry.path: entry for entry in entries}
    for pair in pairs:
        if pair.first in by_path and pair.second in by_path:
            first, second = by_path[pair.first], by_path[pair.second]
            assert (first.fold, first.group) == (second.fold, second.group)
    assert report.pairs == pairs
    # No group is in two folds; only the published test set, which numbers its patients anew, may use a name again.
    folds = {(entry.group, entry.fold) for entry in entries}
    assert len(folds) == len({(group, fold == "official") for group, fold in folds})


@settings(max_examples=60)
@given(SETS, SETS, st.integers(0, 3))
def test_what_was_trained_on_before_is_never_measured_on(
    drawn: tuple[list[ImageFile], dict[str, str], list[Pair]],
    more: tuple[list[ImageFile], dict[str, str], list[Pair]],
    seed: int,
) -> None:
    images, hashes, pairs = drawn
    first, _ = splits.make_split(images, hashes, pairs=pairs[:1], seed=seed)
    before = {entry.sha256: entry.fold for entry in first}
    entries, _ = splits.make_split(images, hashes, pairs=[*pairs, *more[2]], before=before, seed=seed + 1)
    groups: dict[tuple[str, bool], set[str]] = {}
    for entry in entries:
        groups.setdefault((entry.group, entry.fold == "official"), set()).add(before[entry.sha256])
    for entry in entries:
        if before[entry.sha256] == "train":
            assert entry.fold in ("train", "official")
        if len(groups[entry.group, entry.fold == "official"]) == 1:
            assert entry.fold == before[entry.sha256], "a group that was wholly in one fold stays"


def test_only_new_groups_are_assigned_anew() -> None:
    images, hashes = many()
    first, _ = splits.make_split(images[:150], {path: hashes[path] for path in sorted(hashes)[:150]}, seed=1)
    before = {entry.sha256: entry.fold for entry in first}
    moved = [replace(image, path=f"chest_xray/{image.path}") for image in images]  # the folder above is the data now
    entries, _ = splits.make_split(
        moved, {f"chest_xray/{path}": hashes[path] for path in hashes}, before=before, seed=2
    )
    folds = {entry.sha256: entry.fold for entry in entries}
    assert {digest: folds[digest] for digest in before} == before
    assert {folds[digest] for digest in set(folds) - set(before)} == set(splits.TRAINABLE)


def test_a_picture_that_was_trained_on_stays_so_whatever_fold_an_equal_one_was_held_out_to() -> None:
    entries = [
        Entry("a.png", "PNEUMONIA", "p1", "train", "same"),
        Entry("b.png", "PNEUMONIA", "p1", "test", "same", "a.png"),
        Entry("c.png", "PNEUMONIA", "p2", "val", "other"),
    ]
    assert splits.folds_before(entries) == splits.folds_before(entries[::-1]) == {"same": "train", "other": "val"}


def test_of_two_folds_of_before_validation_comes_before_test() -> None:
    images = [image("a.png", "p1"), image("b.png", "p2")]
    pair = Pair("a.png", "b.png", 0.99, True)
    entries, _ = splits.make_split(images, {"a.png": "1", "b.png": "2"}, pairs=[pair], before={"1": "test", "2": "val"})
    assert [entry.fold for entry in entries] == ["val", "val"]


def test_a_training_picture_nearly_equal_to_a_published_test_picture_goes_with_it() -> None:
    test, twin, same_patient, other = (f"{name}.png" for name in ("test/NORMAL/c", "train/NORMAL/a", "b", "d"))
    images = [image(twin, "p1"), image(same_patient, "p1"), image(test, "p9", split="test"), image(other, "p3")]
    hashes = {entry.path: entry.path for entry in images}
    entries, report = splits.make_split(images, hashes, pairs=[Pair(test, twin, 0.96, False)])
    folds = {entry.path: entry.fold for entry in entries}
    assert [folds[path] for path in (test, twin, same_patient)] == ["official"] * 3, "the whole patient goes"
    assert folds[other] != "official"
    assert [entry.path for entry in of_fold(entries, "official")] == [test], "figures of it are of what was published"
    (leak,) = [leak for leak in leakage.between_folds(entries, hashes, []) if leak.held == "official"]
    assert leak.pictures == 1
    assert report.leaked == 0


def test_a_group_is_named_after_the_first_of_those_that_were_joined() -> None:
    images = [image("z.png", "p1"), image("a.png", "p7"), image("m.png", "p7"), image("q.png", "p3")]
    hashes = {entry.path: entry.path for entry in images}
    entries, _ = splits.make_split(images, hashes, pairs=[Pair("m.png", "z.png", 0.96, False)])
    assert {entry.path: entry.group for entry in entries} == {
        "a.png": "p1",
        "m.png": "p1",
        "z.png": "p1",
        "q.png": "p3",
    }


def test_pairs_of_pictures_that_were_left_out_are_ignored() -> None:
    images = [image("a.png", "p1"), image("b.png", "p2", "PNEUMONIA"), image("c.png", "p3"), image("d.png", "p4")]
    hashes = {"a.png": "same", "b.png": "same", "c.png": "other", "d.png": "third"}
    pairs = [Pair("a.png", "c.png", 0.99, False), Pair("b.png", "d.png", 0.99, False)]
    entries, _ = splits.make_split(images, hashes, pairs=pairs)
    assert [entry.path for entry in entries] == ["c.png", "d.png"]
    assert entries[0].group != entries[1].group, "what was left out ties nothing together"


def test_without_pairs_and_before_the_manifest_is_that_of_earlier_versions() -> None:
    """A hash of the folds: an installed network's split can be made again by the same seed."""
    images, hashes = many()
    entries, _ = splits.make_split(images, hashes, seed=0)
    listed = "\n".join(f"{entry.path} {entry.group} {entry.fold}" for entry in entries)
    assert hashlib.sha256(listed.encode()).hexdigest()[:16] == "769da6d7b4bedad0"


def test_duplicates_are_not_used() -> None:
    images = [image("a.png", "p1"), image("b.png", "p2")]
    entries, _ = splits.make_split(images, {"a.png": "same", "b.png": "same"}, ratios=(1.0, 0.0, 0.0))
    assert [entry.path for entry in of_fold(entries, "train")] == ["a.png"]


def test_a_patients_number_alone_joins_no_training_film_with_the_published_test_set() -> None:
    """The chest set numbers its test patients anew."""
    images = [
        image("train/a.png", "person1"),
        image("train/b.png", "person1"),
        image("test/c.png", "person1", split="test"),
    ]
    entries, _ = splits.make_split(images, {each.path: each.path for each in images}, ratios=(1, 0, 0))
    assert {entry.path: entry.fold for entry in entries} == {
        "train/a.png": "train",
        "train/b.png": "train",
        "test/c.png": "official",
    }


def test_of_the_duplicates_those_on_both_sides_of_the_published_cut_have_leaked() -> None:
    images = [image(f"train/{name}.png", name) for name in "abc"] + [image("test/d.png", "d", split="test")]
    hashes = {"train/a.png": "one", "train/b.png": "one", "train/c.png": "two", "test/d.png": "two"}
    _, report = splits.make_split(images, hashes)
    assert (report.duplicates, report.leaked) == (2, 1)


def test_a_picture_that_could_not_be_read_is_in_no_fold() -> None:
    images = [image(f"{name}.png", name) for name in "abc"]
    entries, _ = splits.make_split(images, {"a.png": "one", "c.png": "two"})
    assert [entry.path for entry in entries] == ["a.png", "c.png"]
