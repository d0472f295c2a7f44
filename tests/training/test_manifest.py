from __future__ import annotations

from pathlib import Path

import pytest

from densescan.tasks import MRI, XRAY
from training import manifest
from training.manifest import (
    Entry,
    ManifestError,
    manifest_hash,
    read_manifest,
    trained_on,
    warn_if_trained_on,
    write_manifest,
)

ENTRIES = [
    Entry("train/NORMAL/a, b.png", "NORMAL", "p1", "train", "00ff"),
    Entry("train/PNEUMONIA/ü.png", "PNEUMONIA", "p2", "val", "11ee", "train/PNEUMONIA/c.png"),
]


def test_what_is_written_is_read_and_names_the_columns(tmp_path: Path) -> None:
    path = tmp_path / "new/manifest.csv"
    write_manifest(path, ENTRIES)
    assert read_manifest(path, XRAY.labels) == ENTRIES
    assert path.read_text(encoding="utf-8").splitlines()[0] == "path,class,group,fold,sha256,duplicate_of"
    assert [entry.name for entry in path.parent.iterdir()] == ["manifest.csv"]


def test_the_name_of_a_picture_keeps_its_bytes_whatever_their_encoding(tmp_path: Path) -> None:
    name = b"train/NORMAL/R\xf6ntgen.png"
    write_manifest(tmp_path / "a.csv", [Entry(name.decode(errors="surrogateescape"), "NORMAL", "p", "val", "00")])
    assert name in (tmp_path / "a.csv").read_bytes()
    (entry,) = read_manifest(tmp_path / "a.csv", XRAY.labels)
    assert entry.path.encode(errors="surrogateescape") == name


def test_the_hash_follows_the_content(tmp_path: Path) -> None:
    write_manifest(tmp_path / "a.csv", ENTRIES)
    write_manifest(tmp_path / "b.csv", ENTRIES)
    write_manifest(tmp_path / "c.csv", ENTRIES[:1])
    assert manifest_hash(tmp_path / "a.csv") == manifest_hash(tmp_path / "b.csv") != manifest_hash(tmp_path / "c.csv")


def test_a_missing_manifest_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="python -m training split"):
        read_manifest(tmp_path / "none.csv", XRAY.labels)


def test_another_tasks_manifest_is_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path / "a.csv", ENTRIES)
    with pytest.raises(ManifestError, match="another task"):
        read_manifest(tmp_path / "a.csv", MRI.labels)


@pytest.mark.parametrize("text", ["", "path,class\na,NORMAL\n"])
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ManifestError, match="is no manifest"):
        read_manifest(tmp_path / "a.csv", XRAY.labels)


def test_an_unknown_fold_is_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path / "a.csv", [Entry("a.png", "NORMAL", "p", "holdout", "00")])
    with pytest.raises(ManifestError, match="holdout"):
        read_manifest(tmp_path / "a.csv", XRAY.labels)


def test_a_network_that_has_seen_the_pictures_is_told_by_the_manifest_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(manifest.log, "warning", lambda message, *values: said.append(message % values))
    network = tmp_path / "best.keras"
    elsewhere = [Entry("films/x.png", "NORMAL", "p", "val", entry.sha256) for entry in ENTRIES]
    assert trained_on(network, elsewhere, XRAY.labels) == 0
    write_manifest(tmp_path / "manifest.csv", ENTRIES)
    assert trained_on(network, elsewhere, XRAY.labels) == 1
    warn_if_trained_on(network, elsewhere[1:], XRAY.labels)
    assert said == []
    warn_if_trained_on(network, elsewhere, XRAY.labels)
    assert "best.keras was trained on 1 of these 2 pictures" in said[0]
