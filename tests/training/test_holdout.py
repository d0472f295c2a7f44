"""A manifest without one family in training."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from densescan.tasks import XRAY
from training.holdout import hold_out
from training.manifest import Entry, of_fold, read_manifest, write_manifest
from training.research_cli import app

NAMED = {
    "person1_bacteria_1": ("person1", "train"),
    "person1_virus_7": ("person1", "train"),
    "person2_virus_8": ("person2", "val"),
    "person3_virus_9": ("person3", "official"),
    "person4_bacteria_2": ("person4", "test"),
    "IM-0001-0001": ("IM-0001", "train"),
}
ENTRIES = [
    Entry(f"x/{stem}.jpeg", "NORMAL" if stem.startswith("IM") else "PNEUMONIA", group, fold, "")
    for stem, (group, fold) in NAMED.items()
]
FAMILIES = ["bacteria", "virus", "virus", "virus", "bacteria", "IM"]


def folds(entries: list[Entry]) -> dict[str, str]:
    return {entry.path[2:-5]: entry.fold for entry in entries}


def test_the_family_stands_in_test_alone_and_the_rest_where_it_was() -> None:
    changed, shared = hold_out(ENTRIES, FAMILIES, "virus")
    before = {stem: fold for stem, (_, fold) in NAMED.items()}
    assert folds(changed) == {**before, "person1_virus_7": "test", "person2_virus_8": "test"}
    assert shared == 1


def test_strictly_no_patient_number_stands_on_both_sides() -> None:
    changed, shared = hold_out(ENTRIES, FAMILIES, "virus", strict=True)
    assert "person1_bacteria_1" not in folds(changed)
    assert shared == 1
    trained = {entry.group for entry in changed if entry.fold in ("train", "val")}
    assert not trained & {entry.group for entry in changed if entry.fold == "test"}


@pytest.mark.parametrize("family", ["fungus", ""])
def test_an_unknown_family_names_those_there_are(family: str) -> None:
    with pytest.raises(ValueError, match=r"there are IM \(1\), bacteria \(2\), virus \(3\)"):
        hold_out(ENTRIES, FAMILIES, family)


def test_the_command_writes_another_manifest_and_says_what_is_next(tmp_path: Path) -> None:
    write_manifest(tmp_path / "all.csv", ENTRIES)
    target = tmp_path / "no-bacteria.csv"
    words = ("holdout", "--task", "xray", "--manifest", tmp_path / "all.csv", "--family", "bacteria", "--out", target)
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == 0, result.output
    entries = read_manifest(target, XRAY.labels)
    assert {entry.path for entry in of_fold(entries, "test")} == {
        "x/person1_bacteria_1.jpeg",
        "x/person4_bacteria_2.jpeg",
    }
    assert "with the same patient number, left in train and val" in result.output
    assert f"fit --task xray --manifest {target}" in result.output.replace("\n", "")


def without_grey_slices(folder: Path, *slices: tuple[str, str]) -> tuple[dict[str, str], str]:
    """Slices of a mode and a group each, from which the command holds the grey ones out: their folds, what it said."""
    entries = []
    (folder / "glioma").mkdir()
    for number, (mode, group) in enumerate(slices):
        name = f"glioma/{number}.png"
        Image.new(mode, (4, 4)).save(folder / name)
        entries.append(Entry(name, "glioma", group, "train", ""))
    write_manifest(folder / "all.csv", entries)
    words = ("holdout", "--task", "mri", "--data", folder, "--manifest", folder / "all.csv")
    result = CliRunner().invoke(app, list(map(str, (*words, "--family", "stored grey", "--out", folder / "m.csv"))))
    assert result.exit_code == 0, result.output
    return {entry.path: entry.fold for entry in read_manifest(folder / "m.csv", ("glioma",))}, result.output


def test_slices_are_held_out_by_how_their_files_store_grey(tmp_path: Path) -> None:
    folds, _ = without_grey_slices(tmp_path, ("L", "a"), ("RGB", "b"), ("RGB", "c"))
    assert list(folds.values()) == ["test", "train", "train"]


def test_a_slice_that_is_nearly_equal_to_one_held_out_is_not_trained_on(tmp_path: Path) -> None:
    """Slices are grouped because they are alike, not by a number that two patients may share."""
    folds, said = without_grey_slices(tmp_path, ("L", "twins"), ("RGB", "twins"), ("RGB", "another"))
    assert "images of other families in its groups, left out: 1" in said
    assert folds == {"glioma/0.png": "test", "glioma/2.png": "train"}
