from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from densescan.tasks import MRI, XRAY
from training import audit, audit_page, layouts, leakage, near_duplicates, splits
from training.audit import AS_WRITTEN, BY_EQUAL, BY_FILE, Audit
from training.leakage import Leak
from training.manifest import Entry, write_manifest
from training.near_duplicates import Pair

from .test_near_duplicates import texture

RATIOS = (0.5, 0.25, 0.25)


def entry(path: str, fold: str, label: str = "NORMAL", duplicate_of: str = "") -> Entry:
    return Entry(path, label, path, fold, f"hash of {path}", duplicate_of)


# What leaks


def test_equal_and_nearly_equal_pictures_are_counted_apart_and_each_once() -> None:
    where = {"a": "val", "b": "val", "c": "val", "d": "val", "e": "train", "f": "train", "g": "test"}
    labels = {**dict.fromkeys("abcdefg", "NORMAL"), "d": "PNEUMONIA"}
    hashes = {**{path: path for path in "abcdefg"}, "a": "e"}  # a equals e
    pairs = [Pair("a", "e", 1.0, False), Pair("b", "e", 0.97, False), Pair("b", "f", 0.96, True)]
    pairs += [Pair("c", "g", 0.99, False), Pair("c", "d", 0.99, False), Pair("d", "z", 0.99, False)]
    found = leakage.between("val", "train", where, labels, hashes, pairs)
    assert found == [Leak("val", "train", "NORMAL", 3, 1, 1), Leak("val", "train", "PNEUMONIA", 1, 0, 0)]
    assert found[0].share == pytest.approx(2 / 3)
    assert leakage.summed(found) == Leak("val", "train", "all", 4, 1, 1)


def test_the_folders_of_a_set_are_compared_from_the_larger_to_the_smaller() -> None:
    images = [layouts.ImageFile(f"{split}/{n}", "NORMAL", split, "p") for split, n in [("train", 1), ("train", 2)]]
    images += [
        layouts.ImageFile("test/3", "NORMAL", "test", "p"),
        layouts.ImageFile("test/broken", "NORMAL", "test", "p"),
    ]
    hashes = {"train/1": "same", "train/2": "other", "test/3": "same"}
    assert leakage.between_folders(images, hashes, []) == [Leak("test", "train", "NORMAL", 1, 1, 0)]
    assert leakage.between_folders(images[:2], hashes, []) == [], "one folder leaks into none"


def test_duplicates_that_are_not_used_do_not_leak() -> None:
    entries = [entry("a", "train"), entry("b", "val", duplicate_of="a"), entry("c", "val")]
    hashes = {"a": "same", "b": "same", "c": "other"}
    assert leakage.between_folds(entries, hashes, []) == [Leak("val", "train", "NORMAL", 1, 0, 0)]


def test_a_twin_leaks_whichever_of_the_pair_is_held_out_and_into_the_official_test_as_well() -> None:
    b = "test/NORMAL/b.png"
    entries = [entry("a", "train"), entry(b, "official"), entry("c", "val"), entry("d", "train")]
    hashes = {path: path for path in ("a", b, "c", "d")}
    pairs = [Pair("a", b, 0.97, False), Pair("c", "d", 0.97, False)]
    assert leakage.between_folds(entries, hashes, pairs) == [
        Leak("val", "train", "NORMAL", 1, 0, 1),
        Leak("official", "train", "NORMAL", 1, 0, 1),
    ]


def test_an_empty_class_has_no_share() -> None:
    assert Leak("val", "train", "NORMAL", 0, 0, 0).share == 0


# A data set with all that can be wrong


def save(path: Path, grey: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grey).save(path)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve patients a class, each film also mirrored; and copies in both folders, mislabelled ones, a damaged one."""
    folder = tmp_path_factory.mktemp("films")
    for place, label in enumerate(XRAY.labels):
        for number in range(12):
            grey = texture(100 * place + number, side=80)
            save(folder / "train" / label / f"{label}-{number:02d}.png", grey)
            save(folder / "train" / label / f"{label}-{number:02d}-turned.png", grey[:, ::-1])
        save(folder / "test" / label / "other.png", texture(500 + place, side=80))
    for number in range(4):
        shutil.copy(folder / f"train/NORMAL/NORMAL-{number:02d}.png", folder / f"test/NORMAL/again-{number}.png")
    save(folder / "test/PNEUMONIA/near.png", np.clip(1.1 * texture(103, side=80), 0, 255).astype(np.uint8))
    save(folder / "train/PNEUMONIA/mislabelled.png", texture(5, side=80)[:, ::-1] // 2 + 30)
    save(folder / "train/NORMAL/<b>.png", texture(900, side=80))
    save(folder / "train/PNEUMONIA/<b>.png", texture(900, side=80))
    (folder / "train/NORMAL/broken.png").write_bytes(b"no picture & none")
    return folder


def audited(folder: Path, near: float = 0.95, before: dict[str, str] | None = None) -> Audit:
    images = layouts.find_images(XRAY, folder)
    scan = splits.scan_images(images, folder)
    pairs = near_duplicates.find_pairs(scan.fingerprints, near) if near < 1 else []
    entries, report = splits.make_split(images, scan.hashes, pairs=pairs, before=before, ratios=RATIOS)
    report.unreadable = scan.unreadable
    return audit.audit(XRAY, images, scan, entries, report, near=near, ratios=RATIOS, seed=0, before=before)


@pytest.fixture(scope="module")
def found(films: Path) -> Audit:
    return audited(films)


def total(leaks: Sequence[Leak]) -> int:
    return sum(leak.equal + leak.near for leak in leaks)


def test_this_manifest_leaks_nothing_and_other_cuts_do(found: Audit) -> None:
    assert list(found.cuts) == [BY_FILE, BY_EQUAL, AS_WRITTEN]
    assert total(found.cuts[AS_WRITTEN]) == 0
    assert total(found.cuts[BY_EQUAL]) > 0
    assert total(found.cuts[BY_FILE]) > 0
    assert sum(leak.equal for leak in found.cuts[BY_EQUAL]) == 0
    assert 0 < sum(leak.equal for leak in found.cuts[BY_FILE]) <= 4


def test_a_manifest_of_equal_pixels_alone_is_told_what_it_leaks(films: Path) -> None:
    blind = audited(films, near=1)
    assert (blind.asked, blind.threshold) == (1, near_duplicates.THRESHOLD)
    assert total(blind.cuts[AS_WRITTEN]) == total(blind.cuts[BY_EQUAL]) > 0
    assert len(blind.pairs) > 20


def test_the_folders_that_the_set_came_with_are_judged_by_class(found: Audit) -> None:
    leaks = {(leak.held, leak.source, leak.label): (leak.equal, leak.near) for leak in found.folders}
    assert leaks["test", "train", "NORMAL"] == (4, 0)
    assert leaks["test", "train", "PNEUMONIA"] == (0, 1)


def test_the_mislabelled_picture_is_the_most_alike_of_two_classes(found: Audit) -> None:
    first = found.across[0]
    assert {first.first, first.second} & {"train/PNEUMONIA/mislabelled.png"}
    assert found.labels[first.first] != found.labels[first.second]


def test_pairs_are_of_pictures_that_are_used_and_the_mirrored_ones_are_counted(found: Audit) -> None:
    duplicates = {entry.path for entry in found.entries if entry.duplicate_of}
    assert duplicates
    assert not duplicates & {path for pair in found.pairs for path in (pair.first, pair.second)}
    # Each of the 24 films has its mirror image beside it; what else is alike is a brightened or mislabelled copy.
    counted = audit.figures(found)["near_duplicates"]
    assert counted["mirrored"] >= 24 > counted["pairs"] - counted["mirrored"]


def test_less_and_less_is_left_as_the_correlation_rises(found: Audit) -> None:
    assert next(iter(found.left)) == found.threshold
    assert total(found.left[found.threshold]) == 0
    counts = [total(leaks) for leaks in found.left.values()]
    assert counts == sorted(counts)


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.integers(0, 30), st.floats(0.8, 1)).filter(lambda pair: pair[0] < pair[1]),
        max_size=60,
        unique_by=lambda pair: pair[:2],
    ),
    st.sampled_from([0.9, 0.95, 0.99]),
)
def test_examples_are_of_their_band_and_show_no_picture_twice(
    drawn: list[tuple[int, int, float]], threshold: float
) -> None:
    labels = {f"{place:02d}": "ab"[place % 2] for place in range(31)}
    pairs = [Pair(f"{a:02d}", f"{b:02d}", value, False) for a, b, value in drawn]
    bands = audit._bands(pairs, labels, threshold)
    for band in bands:
        shown = [path for pair in band.examples for path in (pair.first, pair.second)]
        assert len(shown) == len(set(shown))
        assert len(band.examples) <= 6
        assert all(band.low <= pair.correlation <= band.high for pair in band.examples)
        assert bool(band.examples) == (band.same + band.other > 0)
    above = sum(band.same + band.other for band in bands if band.low >= threshold)
    assert above == sum(pair.correlation >= threshold for pair in pairs)
    upper, lower = audit._around(pairs, threshold)
    assert all(pair.correlation >= threshold for pair in upper)
    assert all(pair.correlation < threshold for pair in lower)
    if upper:
        assert upper[0].correlation == min(pair.correlation for pair in pairs if pair.correlation >= threshold)
    if lower:
        assert lower[0].correlation == max(pair.correlation for pair in pairs if pair.correlation < threshold)


def test_pairs_of_two_classes_are_among_the_examples_however_many_there_are_of_one() -> None:
    labels = {f"{place:02d}": "a" for place in range(40)} | {"39": "b"}
    pairs = [Pair(f"{place:02d}", f"{place + 1:02d}", 0.96, False) for place in range(0, 40, 2)]
    (band,) = (band for band in audit._bands(pairs, labels, 0.95) if band.examples)
    assert (band.same, band.other, len(band.examples)) == (19, 1, 6)
    assert band.examples[0] == pairs[-1]
    assert [*band.examples[1:]] != pairs[:5], "not those that stand first in the folders"


def test_too_many_pairs_below_the_threshold_are_not_gathered(monkeypatch: pytest.MonkeyPatch, found: Audit) -> None:
    assert audit._floor(found.survey, 0.95) == pytest.approx(0.95 - audit.BELOW)
    monkeypatch.setattr(audit, "MOST_PAIRS", 0)
    assert audit._floor(found.survey, 0.95) == 0.95


# The page


class Links(HTMLParser):
    """Gathers what a page would load, and the text of its cells."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]


@pytest.fixture(scope="module")
def written(films: Path, found: Audit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    manifest = tmp_path_factory.mktemp("run") / "manifest.csv"
    write_manifest(manifest, found.entries)
    done: list[int] = []
    page = audit_page.write_audit(manifest, found, films, lambda: done.append(1))
    assert len(done) == len(found.paths()) > 10
    return page


def test_the_page_stands_beside_the_manifest_complete_and_alone(written: Path) -> None:
    names = {path.name for path in written.parent.iterdir()}
    sheets = {f"audit-{name}.png" for name in ("histogram", "threshold", "bands", "classes", "leaks")}
    assert names == {"manifest.csv", "audit.html", "audit.json"} | sheets
    for name in sheets:
        with Image.open(written.with_name(name)) as picture:
            assert picture.width > 800
            assert np.ptp(np.asarray(picture.convert("L"))) > 100
    links = Links()
    links.feed(written.read_text(encoding="utf-8"))
    assert len(links.sources) == len(sheets)
    assert all(source.startswith("data:image/png;base64,") for source in links.sources)


def test_the_page_tells_what_was_found(written: Path) -> None:
    text = re.sub(r"data:image/png;base64,[^\"]*", "", written.read_text(encoding="utf-8"))
    for what in (BY_FILE, BY_EQUAL, AS_WRITTEN, "train/NORMAL/broken.png", "equal pictures in several classes"):
        assert what in text
    assert "&lt;b&gt;.png" in text
    assert "<b>.png" not in text
    assert "research" in text.lower()


def test_the_figures_are_json_too(written: Path, found: Audit) -> None:
    figures = json.loads(written.with_name("audit.json").read_text())
    assert figures["folds"]["train"]["NORMAL"] > 0
    assert figures["conflicts"] == [["train/NORMAL/<b>.png", "train/PNEUMONIA/<b>.png"]]
    assert figures["near_duplicates"]["pairs"] == len(found.pairs)
    assert any("mislabelled" in pair["second"] for pair in figures["near_duplicates"]["across_classes"])
    assert sum(figures["histogram"]["different_classes"]) == found.survey.other.sum()
    assert set(figures["leaks_into_held_out_folds"]) == {BY_FILE, BY_EQUAL, AS_WRITTEN}


def test_a_manifest_of_another_name_keeps_its_own_audit(tmp_path: Path) -> None:
    first, usual = audit_page.names(tmp_path / "first.csv"), audit_page.names(tmp_path / "manifest.csv")
    assert first["page"].name == "first-audit.html"
    assert usual["page"].name == "audit.html"
    assert not set(first.values()) & set(usual.values())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("damaged", [False, True], ids=["nothing in common", "nothing but damaged files"])
def test_a_set_with_nothing_to_tell_has_a_page_too(tmp_path: Path, damaged: bool) -> None:
    """No pairs at all, empty folds, no test folder, and a sheet of an earlier audit."""
    for place, label in enumerate(MRI.labels):
        save(tmp_path / "set" / label / "a.png", texture(place, side=40))
        if damaged:
            (tmp_path / "set" / label / "a.png").write_bytes(b"")
    images = layouts.find_images(MRI, tmp_path / "set")
    scan = splits.scan_images(images, tmp_path / "set")
    entries, report = splits.make_split(images, scan.hashes, ratios=(1, 0, 0))
    found = audit.audit(MRI, images, scan, entries, report, near=0.95, ratios=(1, 0, 0), seed=0)
    (tmp_path / "audit-classes.png").write_bytes(b"of an earlier audit")
    page = audit_page.write_audit(tmp_path / "manifest.csv", found, tmp_path / "set")
    assert "The set came in one folder" in page.read_text(encoding="utf-8")
    assert not (tmp_path / "audit-classes.png").exists()
    assert found.pairs == []
    assert found.paths() == set()


def test_what_an_earlier_manifest_fixed_is_compared_with_the_same_fixed(films: Path) -> None:
    first = audited(films, near=1)
    before = {made.sha256: made.fold for made in first.entries}
    later = audited(films, before=before)
    assert later.cuts[BY_EQUAL] == first.cuts[AS_WRITTEN]
    assert total(later.cuts[AS_WRITTEN]) == 0
