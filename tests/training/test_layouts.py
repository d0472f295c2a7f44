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


def test_the_folder_of_the_variable_comes_before_those_beside_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for root in ("data", "sets"):
        (tmp_path / root / "chest_xray").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DENSESCAN_DATA", raising=False)
    assert layouts.find_data(XRAY, None) == Path("data/chest_xray")
    monkeypatch.setenv("DENSESCAN_DATA", str(tmp_path / "sets"))
    assert layouts.find_data(XRAY, None) == tmp_path / "sets/chest_xray"


def test_a_published_test_folder_is_one_however_far_up_it_stands(tmp_path: Path) -> None:
    for label in XRAY.labels:
        save_noise(tmp_path / f"test/site_a/{label}/a.png", 0)
        save_noise(tmp_path / f"site_b/{label}/a.png", 1)
    found = {image.path: image.split for image in layouts.find_images(XRAY, tmp_path)}
    assert {path for path, split in found.items() if split in layouts.OFFICIAL_TEST} == {
        f"test/site_a/{label}/a.png" for label in XRAY.labels
    }
    assert all(layouts.is_official(path) == path.startswith("test/") for path in found)


def test_what_is_not_taken_is_told(tmp_path: Path) -> None:
    for label in XRAY.labels:
        (tmp_path / label).mkdir()
        (tmp_path / label / "a.dcm").write_bytes(b"")
    with pytest.raises(DataNotFound, match=r"Not taken, DICOM files .*: 2\."):
        layouts.find_images(XRAY, tmp_path)
    for label in XRAY.labels:
        save_noise(tmp_path / label / "a.png", 0)
    save_noise(tmp_path / "NORMAL/patient9/b.png", 1)
    assert len(layouts.find_images(XRAY, tmp_path)) == 2
    (deeper,) = (count for what, count in layouts.passed_over(XRAY, tmp_path).items() if "below a class folder" in what)
    assert deeper == 1
    save_noise(tmp_path / "NORMAL/c.pgm", 2)
    save_noise(tmp_path / ".Trash-1000/NORMAL/z.png", 3)
    for name in ("d.xyz", "e", ".hidden"):
        (tmp_path / "NORMAL" / name).touch()
    assert len(layouts.find_images(XRAY, tmp_path)) == 3
    (others,) = (count for what, count in layouts.passed_over(XRAY, tmp_path).items() if what.startswith("other files"))
    assert others == 2


def test_a_linked_set_is_read_and_a_link_in_a_circle_ends(tmp_path: Path) -> None:
    for label in XRAY.labels:
        save_noise(tmp_path / "elsewhere" / label / "a.png", 0)
    data = tmp_path / "data"
    data.mkdir()
    (data / "set").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (data / "again").symlink_to(data, target_is_directory=True)
    assert [image.path for image in layouts.find_images(XRAY, data)] == ["set/NORMAL/a.png", "set/PNEUMONIA/a.png"]


def test_a_link_to_the_published_test_folder_does_not_take_its_place(tmp_path: Path) -> None:
    for label in XRAY.labels:
        save_noise(tmp_path / f"test/{label}/a.png", 0)
        save_noise(tmp_path / f"train/{label}/a.png", 1)
    (tmp_path / "held_out").symlink_to(tmp_path / "test", target_is_directory=True)
    assert {image.split for image in layouts.find_images(XRAY, tmp_path)} == {"test", "train"}


def test_a_group_pattern_that_matches_no_name_is_refused(tmp_path: Path) -> None:
    """Or every file would be a group of its own, and patients would stand in several folds."""
    for label in XRAY.labels:
        save_noise(tmp_path / label / "p7.png", 0)
    with pytest.raises(ValueError, match=r"matches no file's name, such as 'p7'"):
        layouts.find_images(XRAY, tmp_path, r"patient\d+")
    with pytest.raises(ValueError, match="matches no file's name"):
        layouts.find_images(XRAY, tmp_path, r"\d*")  # which finds nothing, at the beginning of each


def test_a_group_pattern_is_found_wherever_it_stands_and_is_the_whole_match_without_a_group(tmp_path: Path) -> None:
    for number, label in enumerate(XRAY.labels):
        save_noise(tmp_path / label / f"film_p{number}_left.png", number)
    assert {image.group for image in layouts.find_images(XRAY, tmp_path, r"p\d+")} == {"p0", "p1"}


def test_names_that_a_group_pattern_leaves_out_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(layouts.log, "warning", lambda message, *values: said.append(message % values))
    for label in XRAY.labels:
        save_noise(tmp_path / label / "patient7_1.png", 0)
    save_noise(tmp_path / "NORMAL/Patient8_1.png", 1)
    layouts.find_images(XRAY, tmp_path, r"patient\d+")
    assert said == ["--group matches 2 of 3 names; the others, such as 'Patient8_1', are a group each"]
