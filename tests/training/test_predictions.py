"""The CSV of every image's answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from densescan.tasks import MRI, XRAY
from training import predictions
from training.manifest import Entry
from training.predictions import Predictions

ENTRIES = (Entry("a, b/IM-1-1.png", "NORMAL", "IM-1", "val", "abc"), Entry("x/2.png", "PNEUMONIA", "2", "val", "def"))
PROBABILITIES = np.array([[0.25, 0.75], [1 / 3, 2 / 3]], np.float32)


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    written = Predictions(ENTRIES, np.array([0, 1]), ("IM", ""), PROBABILITIES, np.array([0.125, np.nan]))
    written.write(tmp_path / "p.csv", XRAY)
    again = predictions.read(tmp_path / "p.csv", XRAY.labels)
    assert [(entry.path, entry.label, entry.group) for entry in again.entries] == [
        (entry.path, entry.label, entry.group) for entry in ENTRIES
    ]
    assert again.classes.tolist() == [0, 1]
    assert again.families == ("IM", "")
    assert again.probabilities == pytest.approx(PROBABILITIES, abs=1e-7)
    assert again.corrupted_error == pytest.approx([0.125, np.nan], nan_ok=True)
    assert not list(tmp_path.glob("*.part*"))


def test_where_nothing_was_corrupted_there_is_no_such_column(tmp_path: Path) -> None:
    Predictions(ENTRIES, np.array([0, 1]), ("", ""), PROBABILITIES).write(tmp_path / "p.csv", XRAY)
    assert predictions.read(tmp_path / "p.csv", XRAY.labels).corrupted_error is None


def test_another_task_s_file_says_so(tmp_path: Path) -> None:
    Predictions(ENTRIES, np.array([0, 1]), ("", ""), PROBABILITIES).write(tmp_path / "p.csv", XRAY)
    with pytest.raises(ValueError, match="holds no predictions of glioma"):
        predictions.read(tmp_path / "p.csv", MRI.labels)
