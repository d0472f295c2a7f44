from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from densescan.tasks import XRAY
from training import layouts, splits
from training.layouts import ImageFile
from training.manifest import of_fold

from .conftest import save_noise


def image(path: str, group: str, label: str = "NORMAL", split: str = "train") -> ImageFile:
    return ImageFile(path, label, split, group)


@settings(deadline=None, max_examples=40)
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


def test_duplicates_are_not_used() -> None:
    images = [image("a.png", "p1"), image("b.png", "p2")]
    entries, _ = splits.make_split(images, {"a.png": "same", "b.png": "same"}, ratios=(1.0, 0.0, 0.0))
    assert [entry.path for entry in of_fold(entries, "train")] == ["a.png"]
