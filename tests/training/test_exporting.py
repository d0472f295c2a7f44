"""A training that is exported whole, by the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from densescan.tasks import XRAY
from server.manifest import sha256
from training import exporting
from training.cli import app
from training.manifest import manifest_hash

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.usefixtures("shallow_backbone")
def test_a_training_is_installed_with_its_figures_its_threshold_and_where_both_come_from(
    tmp_path: Path, phantom_sets: Path
) -> None:
    repository, run = tmp_path / "repository", tmp_path / "runs/xray/smoke"
    exporting.copy_configs(XRAY, ROOT / "model_repository", repository)
    words = ["--task", "xray", "--data", str(phantom_sets / "chest_xray")]
    for command in (
        ["split", *words, "--no-audit", "--ratios", "40/40/20", "--near", "1"],
        ["fit", *words, "--recipe", "smoke"],
        ["export", *words, "--model-repository", str(repository)],
    ):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, (command, result.output, result.exception)
    folders = [repository / model / "1" for model in (XRAY.classifier, XRAY.gradcam)]
    for folder in folders:
        card = exporting.read_card(folder)
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert set(card["sha256"]) == files - {exporting.CARD}
        for name, digest in card["sha256"].items():
            assert sha256(folder / name) == digest
    card = exporting.read_card(folders[0])
    manifest = manifest_hash(run / "manifest.csv")
    assert card["manifest_sha256"] == card["operating_point"]["manifest_sha256"] == manifest
    assert card["operating_point"]["fold"] == "val"
    assert card["teachers_sha256"] == []
    assert card["recipe"]["name"] == "smoke"
    threshold = card["validation"]["int8"]["operating_point"]["threshold"]
    assert threshold == card["operating_point"]["threshold"]
    for folder in folders:
        config = (folder.parent / "config.pbtxt").read_text()
        assert f'string_value: "{threshold:.6g}"' in config, config
