from __future__ import annotations

import html
import json
from pathlib import Path

import numpy as np
from PIL import Image

from densescan.tasks import MRI, RESEARCH_ONLY, XRAY
from training import metrics, published, report
from training.manifest import Entry

RNG = np.random.default_rng(0)
CLASSES = RNG.integers(0, 4, 60)
PROBABILITIES = RNG.dirichlet([1, 1, 1, 1], 60).astype(np.float32)
FIGURES = {
    "task": "mri",
    "fold": "val",
    "network": "a <network>",
    "manifest_sha256": "0" * 64,
    **metrics.evaluate(
        MRI, CLASSES, PROBABILITIES, [Entry(f"{n}.png", "", str(n), "val", "") for n in range(60)], resamples=20
    ),
}
HISTORY = [
    {"phase": phase, "loss": "0.7", "val_loss": "0.8", "accuracy": "0.6", "val_accuracy": "0.5"}
    for phase in ("head", "head", "top")
]


def test_a_report_is_figures_for_machines_and_a_page_with_its_pictures_inside(tmp_path: Path) -> None:
    page = report.write_report(tmp_path, MRI, FIGURES, CLASSES, PROBABILITIES, HISTORY)
    text = page.read_text(encoding="utf-8")
    assert json.loads((tmp_path / "report.json").read_text())["accuracy"] == FIGURES["accuracy"]
    assert text.count("data:image/png;base64") == 5
    assert RESEARCH_ONLY in text
    assert "a &lt;network&gt;" in text
    for label in MRI.labels:
        assert f"<td>{label}</td>" in text
    for name in ("confusion_matrix", "roc", "precision_recall", "reliability", "training_curves"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert np.ptp(np.asarray(picture.convert("L"))) > 100
    assert not list(tmp_path.glob("*.part*"))


def test_without_a_history_no_curves_are_drawn(tmp_path: Path) -> None:
    report.write_report(tmp_path, MRI, FIGURES, CLASSES, PROBABILITIES, [])
    assert not (tmp_path / "training_curves.png").exists()


def test_the_headline_has_its_interval() -> None:
    rows = dict(report.summary_rows(FIGURES))
    low, high = FIGURES["intervals_95"]["accuracy"]
    assert rows["accuracy"] == f"{FIGURES['accuracy']:.4f} ({low:.4f} to {high:.4f})"


def test_a_table_for_a_model_card_has_every_figure() -> None:
    table = report.markdown(MRI, FIGURES)
    assert table.startswith("| brain MRI slice, fold `val` | |\n| --- | --- |\n")
    for name, value in report.summary_rows(FIGURES):
        assert f"| {name} | {value} |" in table
    for label in MRI.labels:
        assert f"| {label}: precision, recall, F1, images |" in table


def test_the_page_has_subgroups_the_worst_mistakes_and_published_figures(tmp_path: Path) -> None:
    figures = {
        **FIGURES,
        "families": {"glioma, stored <grey>": {"images": 30, "recall": 0.8, "interval_95": [0.7, 0.9]}},
        "family_pairs": {
            "a against b": {"auroc": 0.9, "images": [30, 40], "interval_95": [0.85, 0.95]},
            "a against c": {"auroc": 0.99, "images": [30, 40]},
        },
        "worst_family": {"pair": "a against b", "auroc": 0.9, "interval_95": [0.8, 0.94]},
    }
    sheet = Image.new("RGB", (40, 30), "red")
    text = report.write_report(tmp_path, MRI, figures, CLASSES, PROBABILITIES, [], mistakes=sheet).read_text()
    assert "<td>glioma, stored &lt;grey&gt;</td><td>0.8000 (0.7000 to 0.9000) of 30 classified rightly</td>" in text
    assert "<td>worst family AUROC: a against b</td><td>0.9000 (0.8000 to 0.9400)</td>" in text
    assert "<td>original report</td><td>random split with copies</td><td>0.977</td><td>not reported</td>" in text
    assert html.escape(published.CAVEAT) in text
    assert (tmp_path / "families.png").is_file()
    with Image.open(tmp_path / "mistakes.png") as picture:
        assert picture.size == (40, 30)
    assert 'alt="mistakes"' in text
    assert "worst family AUROC" in report.markdown(MRI, figures)


def test_each_class_has_its_areas_and_intervals_on_the_page(tmp_path: Path) -> None:
    text = report.write_report(tmp_path, MRI, FIGURES, CLASSES, PROBABILITIES, []).read_text()
    for label in MRI.labels:
        values = FIGURES["classes"][label]
        for name in ("precision", "recall", "f1", "auroc", "auprc"):
            low, high = values["intervals_95"][name]
            assert f"<td>{values[name]:.4f} ({low:.4f} to {high:.4f})</td>" in text


def test_beside_published_figures_ours_are_those_at_the_operating_point() -> None:
    figures = {
        "fold": "val",
        "images": 10,
        "auroc": 0.95,
        "accuracy": 0.5,
        "classes": {"NORMAL": {"recall": 0.4}, "PNEUMONIA": {"recall": 0.6}},
        "intervals_95": {"sensitivity at the operating point": [0.9, 1.0], "accuracy": [0.4, 0.6]},
    }
    at = {"threshold": 0.2, "sensitivity": 0.97, "specificity": 0.8, "accuracy": 0.9}
    ours = published.of_report(XRAY, {**figures, "operating_point": at})
    assert [ours.shown(name) for name in published.COLUMNS] == ["0.900", "0.970 (0.900 to 1.000)", "0.800", "0.950"]
    without = published.of_report(XRAY, figures)
    assert [without.shown(name) for name in published.COLUMNS] == ["0.500 (0.400 to 0.600)", "0.600", "0.400", "0.950"]
