from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from densescan.tasks import MRI, RESEARCH_ONLY
from training import metrics, report
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
    assert text.count("data:image/png;base64") == 4
    assert RESEARCH_ONLY in text
    assert "a &lt;network&gt;" in text
    for label in MRI.labels:
        assert f"<td>{label}</td>" in text
    for name in ("confusion_matrix", "roc", "reliability", "training_curves"):
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
