from __future__ import annotations

from pathlib import Path

import pytest

from densescan.tasks import MRI, XRAY
from training import layouts
from training.layouts import DataNotFound

from .conftest import save_noise


def test_the_kaggle_chest_layout_is_read_with_its_splits(tmp_path: Path) -> None:
    save_noise(tmp_path / "train/NORMAL/IM-0115-0001.png", 0)
    save_noise(tmp_path / "test/PNEUMONIA/person1_virus_6.png", 1)
    found = {image.path: (image.label, image.split, image.group) for image in layouts.find_images(XRAY, tmp_path)}
    assert found == {
        "train/NORMAL/IM-0115-0001.png": ("NORMAL", "train", "IM-0115"),
        "test/PNEUMONIA/person1_virus_6.png": ("PNEUMONIA", "test", "person1"),
    }


def test_plain_class_folders_are_read_and_case_does_not_matter(tmp_path: Path) -> None:
    for seed, label in enumerate(("Glioma", "MENINGIOMA", "notumor", "pituitary")):
        save_noise(tmp_path / label / "a.PNG", seed)
    found = layouts.find_images(MRI, tmp_path)
    assert [image.label for image in found] == ["glioma", "meningioma", "notumor", "pituitary"]
    assert {image.split for image in found} == {""}


def test_other_files_and_hidden_ones_are_left_alone(tmp_path: Path) -> None:
    for label in XRAY.labels:
        save_noise(tmp_path / label / "a.png", 0)
        (tmp_path / label / "Thumbs.db").write_bytes(b"")
        (tmp_path / label / "._a.png").write_bytes(b"")
    assert len(layouts.find_images(XRAY, tmp_path)) == 2


@pytest.mark.parametrize(
    ("stem", "patient"),
    [
        ("person12_bacteria_46", "person12"),
        ("person12_virus_47", "person12"),
        ("NORMAL2-IM-0927-0001", "NORMAL2-IM-0927"),
        ("IM-0927-0001-0002", "IM-0927"),
        ("nih_00001303_001", "nih_00001303"),
        ("my_own_film", None),
    ],
)
def test_a_film_name_tells_the_patient(stem: str, patient: str | None) -> None:
    assert layouts.patient_of(XRAY, stem) == patient
    assert layouts.patient_of(MRI, stem) is None


@pytest.mark.parametrize(
    ("path", "family", "domain"),
    [
        ("train/PNEUMONIA/person1_bacteria_2.jpeg", "bacteria", ""),
        ("train/PNEUMONIA/person1_virus_2.jpeg", "virus", ""),
        ("train/NORMAL/NORMAL2-IM-0927-0001.jpeg", "NORMAL2-IM", ""),
        ("train/NORMAL/IM-0115-0001.jpeg", "IM", ""),
        ("adult_films/NORMAL/nih_00001303_001.jpeg", "adult", "adult"),
        ("NORMAL/person_of_mine.png", "", ""),
    ],
)
def test_a_film_name_tells_its_family_and_domain(path: str, family: str, domain: str) -> None:
    assert (layouts.family_of(path), layouts.domain_of(path)) == (family, domain)


def test_a_group_pattern_of_ones_own_wins(tmp_path: Path) -> None:
    save_noise(tmp_path / "NORMAL/p7_a.png", 0)
    save_noise(tmp_path / "PNEUMONIA/p8_b.png", 1)
    groups = {image.group for image in layouts.find_images(XRAY, tmp_path, r"^(?P<group>p\d+)_")}
    assert groups == {"p7", "p8"}
    with pytest.raises(ValueError, match="no regular expression"):
        layouts.find_images(XRAY, tmp_path, "(")


def test_a_missing_class_names_what_was_expected(tmp_path: Path) -> None:
    save_noise(tmp_path / "NORMAL/a.png", 0)
    with pytest.raises(DataNotFound, match=r"no images of PNEUMONIA.*folders named NORMAL, PNEUMONIA"):
        layouts.find_images(XRAY, tmp_path)


def test_the_data_are_found_by_the_variable_and_else_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataNotFound, match="set DENSESCAN_DATA"):
        layouts.find_data(XRAY, None)
    (tmp_path / "sets/chest_xray").mkdir(parents=True)
    monkeypatch.setenv("DENSESCAN_DATA", str(tmp_path / "sets"))
    assert layouts.find_data(XRAY, None) == tmp_path / "sets/chest_xray"
    with pytest.raises(DataNotFound, match="is no folder"):
        layouts.find_data(XRAY, tmp_path / "elsewhere")
