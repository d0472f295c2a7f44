"""``operating-point`` from the command line, on phantoms and with a tiny network."""

from __future__ import annotations

from pathlib import Path

import openvino
import pytest
from typer.testing import CliRunner

from densescan.tasks import OPERATING_POINT_PARAMETER, XRAY
from server.repository import config_path, read_config
from training import conversion, exporting, layouts
from training.manifest import Entry, manifest_hash, write_manifest
from training.research_cli import app
from training.runs import RunError, write_json

from .gradcam_networks import tiny_classifier


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory, phantom_sets: Path, model_repository: Path) -> Path:
    """A repository with version 1 of the X-ray classifier, and the manifest that it is of."""
    root = tmp_path_factory.mktemp("released")
    images = layouts.find_images(XRAY, layouts.find_data(XRAY, phantom_sets), None)
    write_manifest(root / "manifest.csv", [Entry(image.path, image.label, image.path, "val", "") for image in images])
    classifier = tiny_classifier(XRAY)
    exporting.copy_configs(XRAY, model_repository, root / "models")
    version = root / "models" / XRAY.classifier / "1"
    version.mkdir()
    conversion.to_saved_model(classifier, version / exporting.SAVED_MODEL)
    conversion.to_onnx(classifier, root / "fp32.onnx")
    openvino.save_model(openvino.convert_model(root / "fp32.onnx"), version / exporting.INT8)
    card = {"manifest_sha256": manifest_hash(root / "manifest.csv"), "validation": {}}
    write_json(version / exporting.CARD, {**card, "sha256": exporting.hashes(version)})
    return root


def served(root: Path) -> set[str]:
    homes = [root / "models" / name for name in (XRAY.classifier, XRAY.gradcam)]
    configs = [read_config(config_path(home, profile)) for home in homes for profile in ("cpu", "gpu")]
    return {config.parameters[OPERATING_POINT_PARAMETER].string_value for config in configs}


def run(root: Path, data: Path, *arguments: str, task: str = "xray") -> str:
    words = ["operating-point", "--task", task, "--data", str(data), "--manifest", str(root / "manifest.csv")]
    result = CliRunner().invoke(app, [*words, "--model-repository", str(root / "models"), *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_a_look_writes_nothing(released: Path, phantom_sets: Path) -> None:
    before, card = served(released), exporting.read_card(released / "models" / XRAY.classifier / "1")
    assert "operating point: " in run(released, phantom_sets, "--look")
    assert served(released) == before
    assert exporting.read_card(released / "models" / XRAY.classifier / "1") == card


def test_every_config_and_the_card_get_the_one_threshold(released: Path, phantom_sets: Path) -> None:
    run(released, phantom_sets, "--sensitivity", "0.8")
    version = released / "models" / XRAY.classifier / "1"
    card = exporting.read_card(version)
    threshold = card["operating_point"]["threshold"]
    assert served(released) == {f"{threshold:.6g}"}
    assert card["operating_point"]["wanted_sensitivity"] == 0.8
    assert {form: card["validation"][form]["operating_point"]["threshold"] for form in ("fp32", "int8")} == {
        "fp32": threshold,
        "int8": threshold,
    }
    assert card["sha256"] == exporting.hashes(version), "the weights are as they were"


def test_a_task_without_one_and_a_repository_without_weights_say_so(
    released: Path, phantom_sets: Path, tmp_path: Path, model_repository: Path
) -> None:
    with pytest.raises(ValueError, match="no operating point"):
        run(released, phantom_sets, task="mri")
    exporting.copy_configs(XRAY, model_repository, tmp_path / "models")
    (tmp_path / "manifest.csv").write_bytes((released / "manifest.csv").read_bytes())
    with pytest.raises(RunError, match="write them with: python -m training export"):
        run(tmp_path, phantom_sets)
