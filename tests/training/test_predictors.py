"""Networks as one kind of thing."""

from __future__ import annotations

from pathlib import Path

import pytest

from training import predictors


@pytest.mark.parametrize("name", ["a.onnx", "a.xml", "a.keras"])
def test_a_damaged_network_is_named_whatever_its_runtime_says(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"no network")
    with pytest.raises(ValueError, match=rf"{name} cannot be opened: "):
        predictors.open_model(tmp_path / name)


def test_another_file_is_no_network(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    for path in (tmp_path / "a.png", tmp_path / "missing.onnx", tmp_path):
        with pytest.raises(ValueError, match="is no network: expected"):
            predictors.open_model(path)
