from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from server.manifest import CARD, ManifestError, check_versions, differences, sha256

from .released import release


@pytest.fixture
def version(tmp_path: Path) -> Path:
    folder = tmp_path / "models/xray/1"
    (folder / "model.savedmodel/variables").mkdir(parents=True)
    (folder / "model.xml").write_text("<net/>")
    (folder / "model.savedmodel/variables/data").write_bytes(bytes(3_000_000))
    release(folder)
    return folder


def models(version: Path) -> list[Path]:
    return list(version.parents[1].iterdir())


def test_released_files_pass(version: Path) -> None:
    assert check_versions(models(version)) == [version]


def test_a_model_without_a_card_is_not_checked(version: Path) -> None:
    (version / CARD).unlink()
    assert check_versions(models(version)) == []


@pytest.mark.parametrize("weights", ["model.xml", "model.onnx", "model.savedmodel"])
def test_a_version_that_lacks_its_card_beside_one_that_has_it_is_refused(version: Path, weights: str) -> None:
    """Or whoever adds a newer version without a card has it served."""
    added = version.with_name("2")
    (added / weights).mkdir(parents=True)
    with pytest.raises(ManifestError, match=rf"2/{CARD}: is missing"):
        check_versions(models(version))


def test_a_version_folder_without_weights_needs_no_card(version: Path) -> None:
    """A decoder's program, or the empty folder of an ensemble."""
    version.with_name("2").mkdir()
    (version.with_name("2") / "model.py").touch()
    assert check_versions(models(version)) == [version]


@pytest.mark.parametrize(
    ("spoil", "name", "problem"),
    [
        (lambda folder: (folder / "model.xml").write_text("<net />"), "model.xml", "has been changed"),
        (lambda folder: (folder / "model.xml").unlink(), "model.xml", "is missing"),
        (lambda folder: (folder / "model.py").write_text("evil"), "model.py", "was not released"),
        (
            lambda folder: (folder / "model.savedmodel/variables/data").write_bytes(bytes(2_999_999) + b"\1"),
            "model.savedmodel/variables/data",
            "has been changed",
        ),
        (lambda folder: (folder / "more").symlink_to(folder.parent), "more", "was not released"),
        (lambda folder: (folder / "more").symlink_to("nowhere"), "more", "was not released"),
        (lambda folder: os.mkfifo(folder / "more"), "more", "was not released"),
        (
            lambda folder: (folder / "model.xml").unlink() or os.mkfifo(folder / "model.xml"),
            "model.xml",
            "has been changed",
        ),
    ],
)
def test_whatever_differs_is_named(version: Path, spoil: Callable[[Path], object], name: str, problem: str) -> None:
    spoil(version)
    assert differences(version) == {name: problem}
    with pytest.raises(ManifestError, match=f"{name}: {problem}"):
        check_versions(models(version))


def test_a_version_may_be_a_link_and_is_compared_as_what_it_leads_to(version: Path) -> None:
    again = version.with_name("2")
    again.symlink_to(version.name)
    assert check_versions(models(version)) == [version, again]
    (version / "model.xml").write_text("<net />")
    assert differences(again) == {"model.xml": "has been changed"}


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"sha256": 3}', "\x00"])
def test_a_card_that_cannot_be_read_refuses_the_version(version: Path, text: str) -> None:
    (version / CARD).write_text(text)
    with pytest.raises(ManifestError, match=f"{CARD}: cannot be read"):
        check_versions(models(version))


def test_the_digests_are_those_that_exporting_writes(version: Path) -> None:
    exporting = pytest.importorskip("training.exporting")
    assert json.loads((version / CARD).read_text())["sha256"] == exporting.hashes(version)
    assert exporting.CARD == CARD


def test_a_digest_is_sha_256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_what_keeps_a_folder_in_git_is_nobodys_addition(version: Path) -> None:
    (version / ".gitkeep").touch()
    assert differences(version) == {}
    assert check_versions(models(version)) == [version]
