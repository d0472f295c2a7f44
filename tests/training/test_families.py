"""Each family of pictures against each, and the worst pair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densescan.tasks import MRI, XRAY
from training import families, metrics, resampling
from training.manifest import Entry

STEMS = {
    "bacteria": "person{n}_bacteria_1",
    "virus": "person{n}_virus_2",
    "IM": "IM-{n:04d}-0001",
    "NORMAL2-IM": "NORMAL2-IM-{n:04d}-0001",
}
LEVEL = {"bacteria": 0.9, "virus": 0.6, "IM": 0.1, "NORMAL2-IM": 0.5}
"""Mean probability of pneumonia: viral films and NORMAL2-IM overlap, nothing else does."""


def films(adults: bool = True) -> tuple[np.ndarray, np.ndarray, list[Entry]]:
    names, classes, score = [], [], []
    rng = np.random.default_rng(0)
    for family, stem in STEMS.items():
        for number in range(30):
            names.append(f"x/{stem.format(n=number)}.jpeg")
            classes.append(int(family in ("bacteria", "virus")))
            score.append(np.clip(LEVEL[family] + rng.normal(0, 0.08), 0, 1))
    for number in range(40 if adults else 0):
        names.append(f"x/nih_{number:08d}_001.jpeg")
        classes.append(number % 2)
        score.append(rng.random())
    entries = [Entry(name, XRAY.labels[label], name, "val", "") for name, label in zip(names, classes, strict=True)]
    return np.array(classes), np.stack([1 - np.array(score), score], axis=1).astype(np.float32), entries


def test_every_pneumonia_family_meets_every_normal_family() -> None:
    figures = metrics.evaluate(XRAY, *films(), resamples=50)
    ill, normal = ("bacteria", "virus", "adult"), ("IM", "NORMAL2-IM", "adult")
    assert set(figures["family_pairs"]) == {f"{first} against {second}" for first in ill for second in normal}
    assert figures["family_pairs"]["bacteria against IM"]["images"] == [30, 30]
    assert figures["family_pairs"]["bacteria against IM"]["auroc"] == 1.0


def test_the_worst_family_is_of_own_films_and_with_others_named_apart() -> None:
    figures = metrics.evaluate(XRAY, *films(), resamples=200)
    pairs, own, all_ = (figures[name] for name in ("family_pairs", "worst_family", "worst_family_with_other_hospitals"))
    assert own["pair"] == "virus against NORMAL2-IM"
    assert own["auroc"] == pairs[own["pair"]]["auroc"] == min(v["auroc"] for k, v in pairs.items() if "adult" not in k)
    assert "adult" in all_["pair"]
    assert all_["auroc"] == min(pair["auroc"] for pair in pairs.values())
    low, high = own["interval_95"]
    assert low < own["auroc"] < high


def test_the_auroc_of_a_pair_is_of_its_films_alone() -> None:
    from sklearn.metrics import roc_auc_score

    classes, probabilities, entries = films()
    figures = metrics.evaluate(XRAY, classes, probabilities, entries, resamples=0)
    chosen = [place for place, entry in enumerate(entries) if "virus" in entry.path or "NORMAL2" in entry.path]
    expected = roc_auc_score(classes[chosen], probabilities[chosen, 1])
    assert figures["family_pairs"]["virus against NORMAL2-IM"] == {
        "auroc": pytest.approx(expected),
        "images": [30, 30],
    }


def test_without_other_hospitals_the_worst_is_named_once() -> None:
    figures = metrics.evaluate(XRAY, *films(adults=False), resamples=0)
    assert "worst_family" in figures
    assert "worst_family_with_other_hospitals" not in figures


def test_a_handful_of_films_is_no_family() -> None:
    classes, probabilities, entries = films(adults=False)
    few = [place for place, entry in enumerate(entries) if "virus" not in entry.path or place % 5 == 0]
    figures = metrics.evaluate(XRAY, classes[few], probabilities[few], [entries[place] for place in few], resamples=0)
    assert set(figures["family_pairs"]) == {"bacteria against IM", "bacteria against NORMAL2-IM"}


def test_names_that_tell_nothing_make_no_pairs() -> None:
    entries = [Entry(f"{place}.png", "", str(place), "val", "") for place in range(40)]
    classes = np.arange(40) % 2
    figures = metrics.evaluate(XRAY, classes, np.full((40, 2), 0.5, np.float32), entries, resamples=10)
    assert not {"families", "family_pairs", "worst_family"} & figures.keys()


def test_slices_are_told_apart_by_how_their_files_store_grey(tmp_path: Path) -> None:
    for mode, name in (("L", "a.png"), ("RGB", "b.png"), ("1", "c.png")):
        Image.new(mode, (4, 4)).save(tmp_path / name)
    entries = [Entry(name, "glioma", name, "val", "") for name in ("a.png", "b.png", "c.png")]
    assert families.names(MRI, entries, tmp_path) == ["stored grey", "stored RGB", ""]
    assert families.names(MRI, entries, None) == ["", "", ""]
    assert families.names(XRAY, entries, tmp_path) == ["", "", ""]


def test_of_several_classes_each_meets_the_rest_of_each_family() -> None:
    rng = np.random.default_rng(0)
    classes = np.arange(160) % 4
    named = ["stored grey" if place < 80 else "stored RGB" for place in range(160)]
    entries = [Entry(f"{place}.png", "", str(place), "val", "") for place in range(160)]
    probabilities = (rng.random((160, 4)) + 5 * np.eye(4)[classes]).astype(np.float32)
    # Pituitary slices stored in grey look like the others.
    probabilities[(classes == 3) & (np.arange(160) < 80), 3] = 0.5
    figures = metrics.evaluate(MRI, classes, probabilities, entries, resamples=0, families=named)
    assert len(figures["family_pairs"]) == 4 * 2 * 2
    assert figures["worst_family"]["pair"].startswith("pituitary stored grey against the rest")
    assert figures["families"]["glioma, stored RGB"]["images"] == 20


def test_a_pair_needs_ten_films_on_each_side_and_no_more() -> None:
    classes, _, entries = films(adults=False)
    counted: dict[str, int] = {}
    for least in (9, 10):
        chosen = [place for place in range(len(entries)) if "virus" not in entries[place].path]
        chosen += [place for place in range(len(entries)) if "virus" in entries[place].path][:least]
        some = [entries[place] for place in chosen]
        found = families.pairs(XRAY, classes[chosen], some, [families.family_of(entry.path) for entry in some])
        counted[str(least)] = sum(pair.first == "virus" for pair in found)
    assert counted == {"9": 0, "10": 2}


def test_under_a_resample_a_pair_is_weighted_by_its_own_films() -> None:
    classes, probabilities, entries = films(adults=False)
    found = families.pairs(XRAY, classes, entries, [families.family_of(entry.path) for entry in entries])
    weights = resampling.draw([entry.group for entry in entries], 20)
    drawn = families.separations(found, probabilities, weights)
    for pair, values in zip(found, drawn, strict=True):
        of_pair = weights * (pair.positive | pair.negative)
        assert values == pytest.approx(resampling.auroc(classes == 1, probabilities[:, 1], of_pair))


def test_the_interval_of_the_worst_is_that_of_the_smallest_in_each_resample() -> None:
    classes, probabilities, entries = films(adults=False)
    found = families.pairs(XRAY, classes, entries, [families.family_of(entry.path) for entry in entries])
    probabilities[:, 1] = np.random.default_rng(5).random(len(classes))  # no pair is the worst in every resample
    weights = resampling.draw([entry.group for entry in entries], 200)
    drawn = families.separations(found, probabilities, weights)
    worst = families.figures(found, probabilities, weights)["worst_family"]
    assert worst["interval_95"] == resampling.interval(drawn.min(axis=0))
    assert worst["interval_95"][1] < max(resampling.interval(values)[1] for values in drawn)
