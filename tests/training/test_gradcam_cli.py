"""explain-check and explain-samples from the command line, on phantoms and with a tiny network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import openvino
import pytest
from PIL import Image
from typer.testing import CliRunner

from densescan.tasks import MRI, XRAY, Task
from training import conversion, explain_check, explain_page, explain_samples, gradcam, layouts
from training.explain_cli import app
from training.manifest import Entry, write_manifest
from training.runs import Run, RunError

from .gradcam_networks import tiny_classifier


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, phantom_sets: Path) -> Path:
    """A run and a repository with version 3 of the gradient model, of each task."""
    root = tmp_path_factory.mktemp("exported")
    for task in (MRI, XRAY):
        classifier = tiny_classifier(task)
        run = Run(root / "runs" / task.name / "tiny")
        run.save_state()
        classifier.save(run.best_model)
        images = layouts.find_images(task, layouts.find_data(task, phantom_sets), None)
        entries = [Entry(image.path, image.label, image.path, "val", "") for image in images]
        write_manifest(run.manifest, entries)
        write_manifest(root / "runs" / task.name / "manifest.csv", entries)
        version = root / "model_repository" / task.gradcam / "3"
        version.mkdir(parents=True)
        conversion.to_onnx(classifier, root / "fp32.onnx")
        openvino.save_model(openvino.convert_model(root / "fp32.onnx"), root / "fp32.xml")
        gradcam.onto_openvino(
            root / "fp32.xml", gradcam.to_onnx_head(classifier, conversion.OPSET), version / explain_check.INT8
        )
    (root / "model_repository" / XRAY.gradcam / "config.pbtxt").write_text(
        'parameters { key: "operating_point" value { string_value: "0.25" } }'
    )
    return root


def run(folder: Path, *arguments: object) -> str:
    result = CliRunner().invoke(app, [*map(str, arguments), "--model-repository", str(folder / "model_repository")])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("task", [MRI, XRAY], ids=["mri", "xray"])
def test_samples_are_four_with_every_class_among_them(
    task: Task, exported: Path, phantom_sets: Path, tmp_path: Path
) -> None:
    manifest = exported / "runs" / task.name / "manifest.csv"
    run(
        exported,
        "explain-samples",
        "--task",
        task.name,
        "--data",
        phantom_sets,
        "--manifest",
        manifest,
        "--out",
        tmp_path,
    )
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 1 + explain_samples.SAMPLES
    assert all(any(label in name for name in names) for label in task.labels)
    with Image.open(tmp_path / f"gradcam_{task.name}.png") as sheet:
        assert sheet.height > 4 * 300


def test_a_check_writes_figures_curves_examples_and_a_page(exported: Path, phantom_sets: Path, tmp_path: Path) -> None:
    output = run(
        exported,
        *("explain-check", "--task", "mri", "--data", phantom_sets, "--run", exported / "runs/mri/tiny"),
        *("--images", 3, "--out", tmp_path),
    )
    assert "deletion AUC, Grad-CAM" in output
    sheets = {f"examples-{label}.png" for label in MRI.labels}
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "figures.json", "curves.png", *sheets}
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["images"] == 12
    assert figures["of_each_class"] == dict.fromkeys(MRI.labels, 3)
    assert figures["model"] == "mri_gradcam version 3, int8"
    assert figures["int8_against_fp32"]["mean_correlation"] > 0.99  # both forms hold the same network
    assert abs(figures["randomised_weights"]["everything"]["mean_correlation"]) < 0.9
    page = (tmp_path / "README.md").read_text()
    assert "What Grad-CAM cannot tell" in page
    for what, value, _ in explain_page.table(figures):
        assert f"| {what} | {value} |" in page


def test_the_figures_are_recorded_in_a_document_that_has_a_place_for_them(
    exported: Path, phantom_sets: Path, tmp_path: Path
) -> None:
    document = tmp_path / "page.md"
    document.write_text("before\n<!-- explain-check mri: begin -->\nold\n<!-- explain-check mri: end -->\nafter\n")
    words = ["explain-check", "--task", "mri", "--data", phantom_sets, "--run", exported / "runs/mri/tiny"]
    run(exported, *words, "--images", 2, "--out", tmp_path / "page", "--record", document)
    text = document.read_text()
    assert text.startswith("before\n<!--")
    assert text.endswith("-->\nafter\n")
    assert "\nold\n" not in text
    figures = json.loads((tmp_path / "page/figures.json").read_text())
    for what, value, _ in explain_page.table(figures):
        assert f"| {what} | {value} |" in text
    document.write_text("no place")
    with pytest.raises(ValueError, match="explain-check mri: begin"):
        run(exported, *words, "--images", 2, "--out", tmp_path / "page", "--record", document)
    assert document.read_text() == "no place"


@pytest.mark.slow
def test_without_a_run_the_released_network_is_judged_against_its_own_weights_in_fp32(
    phantom_sets: Path, tmp_path: Path
) -> None:
    repository = Path(__file__).parents[2] / "model_repository"
    entries = [
        Entry(image.path, image.label, image.path, "val", "")
        for image in layouts.find_images(XRAY, layouts.find_data(XRAY, phantom_sets), None)
    ]
    write_manifest(tmp_path / "manifest.csv", entries)
    words = ("explain-check", "--task", "xray", "--data", phantom_sets, "--manifest", tmp_path / "manifest.csv")
    run(repository.parent, *words, "--images", 1, "--out", tmp_path / "page")
    figures = json.loads((tmp_path / "page/figures.json").read_text())
    newest = explain_check.newest_version(repository, XRAY).name
    assert figures["model"] == f"xray_gradcam version {newest}, int8"
    assert figures["int8_against_fp32"]["mean_correlation"] > 0.8  # of other weights: near 0


def test_without_a_run_and_without_the_savedmodel_it_asks_for_the_run(exported: Path, phantom_sets: Path) -> None:
    manifest = exported / "runs/mri/manifest.csv"
    with pytest.raises(RunError, match="--run"):
        run(exported, "explain-check", "--task", "mri", "--data", phantom_sets, "--manifest", manifest)


def test_the_samples_are_decided_at_the_operating_point_beside_the_model(exported: Path) -> None:
    versions = {task: explain_check.newest_version(exported / "model_repository", task) for task in (MRI, XRAY)}
    assert explain_samples.operating_point(XRAY, versions[XRAY]) == 0.25
    assert explain_samples.operating_point(MRI, versions[MRI]) is None


def test_the_newest_version_is_taken_by_its_number(tmp_path: Path) -> None:
    for number in ("9", "10"):
        (tmp_path / MRI.gradcam / number).mkdir(parents=True)
    with pytest.raises(RunError, match="training export --task mri"):
        explain_check.newest_version(tmp_path, MRI)
    (tmp_path / MRI.gradcam / "10" / explain_check.INT8).write_text("")
    assert explain_check.newest_version(tmp_path, MRI).name == "10"


def test_shuffling_starts_at_the_last_layer_and_ends_with_all_of_them() -> None:
    classifier = tiny_classifier(MRI)
    stages = explain_check.stages(classifier)
    assert next(iter(stages)) == "last layer"
    shuffled = [layer.name for layers in stages.values() for layer in layers]
    assert sorted(shuffled) == sorted(layer.name for layer in classifier.layers if layer.weights)
    assert len(set(shuffled)) == len(shuffled)


@pytest.mark.slow
def test_of_densenet_every_layer_is_shuffled_once() -> None:
    from training.network import build_classifier

    classifier = build_classifier(MRI, size=32)
    stages = explain_check.stages(classifier)
    assert list(stages) == ["last layer", "head", "head and last block", "everything"]
    assert sum(len(layer.weights) for layers in stages.values() for layer in layers) == len(classifier.weights)
    assert len(stages["head and last block"]) > 60


def test_images_are_chosen_equally_from_each_class() -> None:
    from training.data import Fold

    classes = np.array([0] * 50 + [1] * 3 + [2] * 20 + [3] * 1, np.int64)
    fold = Fold(np.zeros((len(classes), 1, 1), np.uint8), classes, tuple([None] * len(classes)))  # type: ignore[arg-type]
    chosen = explain_samples.choose(fold, 4, 8)
    assert np.bincount(classes[chosen], minlength=4).tolist() == [3, 2, 2, 1]
    assert len(set(chosen.tolist())) == 8
    assert len(explain_samples.choose(fold, 4, 500)) == len(classes)
