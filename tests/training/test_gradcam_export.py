from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from densescan.tasks import MRI, XRAY
from training import conversion, explainers, exporting, exporting_gradcam, gradcam, predictors

from .gradcam_networks import noise, tiny_classifier


@dataclasses.dataclass(frozen=True)
class Converted:
    """A tiny classifier and its gradient model in every form."""

    classifier: Any
    folder: Path
    checks: dict[str, exporting_gradcam.MapCheck]

    @property
    def forms(self) -> dict[str, tuple[predictors.Predictor, explainers.Explainer]]:
        """Classifier and gradient model by form."""
        f = self.folder
        saved, explained = f / "model.savedmodel", f / "gradcam"
        return {
            "SavedModel": (predictors.saved_model(saved), explainers.saved_model(saved)),
            "FP32": (predictors.onnx_file(f / "fp32.onnx"), explainers.onnx_file(explained / "fp32.onnx")),
            "FP16": (predictors.onnx_file(f / "model.onnx"), explainers.onnx_file(explained / "model.onnx")),
            "int8": (predictors.openvino_file(f / "model.xml"), explainers.openvino_file(explained / "model.xml")),
        }


FORMS = ("SavedModel", "FP32", "FP16", "int8")


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    folder = tmp_path_factory.mktemp("converted")
    (folder / "gradcam").mkdir()
    classifier = tiny_classifier(MRI)
    conversion.to_saved_model(classifier, folder / "model.savedmodel")
    conversion.to_fp16(conversion.to_onnx(classifier, folder / "fp32.onnx"), folder / "model.onnx")
    conversion.to_int8(folder / "fp32.onnx", folder / "model.xml", noise(8, seed=5))
    return Converted(classifier, folder, {check.form: check for check in convert(classifier, folder)})


def convert(classifier: Any, folder: Path) -> list[exporting_gradcam.MapCheck]:
    return exporting_gradcam.convert_and_check(
        classifier,
        saved_model=folder / "model.savedmodel",
        onnx_forms={
            "FP32": (folder / "fp32.onnx", folder / "gradcam/fp32.onnx"),
            "FP16": (folder / "model.onnx", folder / "gradcam/model.onnx"),
        },
        int8=(folder / "model.xml", folder / "gradcam/model.xml"),
        grey=noise(6),
    )


# The forms


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("batch", [1, 3, 8])
def test_each_form_answers_the_probabilities_of_its_classifier(converted: Converted, form: str, batch: int) -> None:
    classify, explain = converted.forms[form]
    images = noise(batch, seed=batch)
    probabilities, maps = explainers.explain(explain, images)
    # OpenVINO may add up in another order; one that computed in another precision would be off by 1e-4.
    np.testing.assert_allclose(
        probabilities, predictors.predict(classify, images), rtol=0, atol=1e-5 if form == "int8" else 0
    )
    assert (maps.shape, maps.dtype) == ((batch, 7, 7), np.float32)


@pytest.mark.parametrize(("form", "tolerance"), [("SavedModel", 1e-4), ("FP32", 1e-4), ("FP16", 0.05)])
def test_each_form_draws_the_maps_of_keras_for_every_class(converted: Converted, form: str, tolerance: float) -> None:
    reference = explainers.keras_model(converted.classifier)
    _, explain = converted.forms[form]
    images = noise(8, seed=2)
    for index in range(len(MRI.labels)):
        expected, got = (explainers.explain(one, images, index)[1] for one in (reference, explain))
        np.testing.assert_allclose(got, expected, atol=tolerance)


def test_the_int8_maps_are_those_of_keras_but_for_rounding(converted: Converted) -> None:
    reference = explainers.keras_model(converted.classifier)
    images = noise(8, seed=2)
    for index in range(len(MRI.labels)):
        expected, got = (explainers.explain(one, images, index)[1] for one in (reference, converted.forms["int8"][1]))
        assert np.median(explainers.correlations(expected, got)) > 0.99


@pytest.mark.parametrize("form", FORMS)
def test_in_each_form_minus_one_is_the_most_probable_class_and_another_index_draws_nothing(
    converted: Converted, form: str
) -> None:
    _, explain = converted.forms[form]
    images = noise(5, seed=3)
    probabilities, predicted = explainers.explain(explain, images)
    np.testing.assert_array_equal(predicted, explainers.explain(explain, images, probabilities.argmax(axis=1))[1])
    for index in (-2, len(MRI.labels), 2**31 - 1):
        same, empty = explainers.explain(explain, images, index)
        np.testing.assert_array_equal(same, probabilities)
        assert not empty.any()


def test_the_savedmodel_has_a_signature_of_its_own(converted: Converted) -> None:
    import tensorflow as tf

    signatures = tf.saved_model.load(str(converted.folder / "model.savedmodel")).signatures
    assert set(signatures) == {"serving_default", "gradcam"}
    inputs = signatures["gradcam"].structured_input_signature[1]
    assert {name: (spec.dtype, spec.shape.as_list()) for name, spec in inputs.items()} == {
        "image": (tf.uint8, [None, 224, 224, 3]),
        "class_index": (tf.int32, [None, 1]),
    }
    assert set(signatures["gradcam"].structured_outputs) == {"probabilities", "heatmap"}


def test_the_onnx_forms_have_the_names_types_and_free_batch_that_the_configs_declare(converted: Converted) -> None:
    for name in ("fp32.onnx", "model.onnx"):
        graph = onnx.load(converted.folder / "gradcam" / name).graph
        assert [(value.name, value.type.tensor_type.elem_type) for value in (*graph.input, *graph.output)] == [
            ("image", onnx.TensorProto.UINT8),
            ("class_index", onnx.TensorProto.INT32),
            ("probabilities", onnx.TensorProto.FLOAT),
            ("heatmap", onnx.TensorProto.FLOAT),
        ]
        assert {value.type.tensor_type.shape.dim[0].dim_param for value in (*graph.input, *graph.output)} == {"batch"}


def test_the_classifier_itself_answers_nothing_but_probabilities(converted: Converted) -> None:
    graph = onnx.load(converted.folder / "fp32.onnx").graph
    assert [value.name for value in graph.output] == ["probabilities"]


# The checks


def test_the_checks_say_how_alike_the_maps_are(converted: Converted) -> None:
    assert list(converted.checks) == ["SavedModel", "ONNX FP32", "ONNX FP16", "OpenVINO int8"]
    for check in converted.checks.values():
        assert check.images == 6
        assert check.probabilities_differ <= 1e-5
        assert 0.99 < check.least_correlation <= check.mean_correlation <= 1 + 1e-9


def test_maps_of_another_network_are_refused(converted: Converted) -> None:
    with pytest.raises(exporting_gradcam.GradientModelDiffers, match="SavedModel"):
        convert(tiny_classifier(MRI, seed=99), converted.folder)


def test_probabilities_of_another_network_are_refused() -> None:
    maps = np.random.default_rng(0).random((3, 7, 7), np.float32)
    good = exporting_gradcam.compare_maps("ONNX FP32", maps, maps)
    exporting_gradcam._judge(good)
    for field, value in (("probabilities_differ", 0.1), ("largest_difference", float("nan"))):
        with pytest.raises(exporting_gradcam.GradientModelDiffers):
            exporting_gradcam._judge(dataclasses.replace(good, **{field: value}))


def test_a_network_without_the_named_tensors_is_refused(converted: Converted, tmp_path: Path) -> None:
    import openvino

    model = openvino.Core().read_model(converted.folder / "model.xml")
    for op in model.get_ops():
        for port in op.outputs():
            if "features" in port.get_names():
                port.set_names({"other"})
    openvino.save_model(model, tmp_path / "other.xml")
    head = gradcam.to_onnx_head(converted.classifier, conversion.OPSET)
    with pytest.raises(ValueError, match="no tensor named 'features'"):
        gradcam.onto_openvino(tmp_path / "other.xml", head, tmp_path / "out.xml")


def test_correlation_of_empty_maps() -> None:
    empty, other = np.zeros((1, 7, 7)), np.arange(49.0).reshape(1, 7, 7)
    pairs = [(empty, empty, 1), (empty, other, 0), (other, empty, 0), (other, other * 3 + 1, 1), (other, -other, -1)]
    for first, second, expected in pairs:
        assert explainers.correlations(first, second)[0] == pytest.approx(expected)


# Installing


def test_both_models_get_the_number_after_the_newest_of_either(tmp_path: Path) -> None:
    homes = tmp_path / "a", tmp_path / "b"
    for home, versions in zip(homes, (("1", "3"), ("2", "10", "configs")), strict=True):
        for version in versions:
            (home / version).mkdir(parents=True)
    assert exporting.next_version(*homes) == 11
    assert exporting.next_version(homes[0]) == 4


def test_what_a_killed_export_left_is_deleted_and_what_another_is_making_is_not(tmp_path: Path) -> None:
    for name in ("left", "running"):
        (tmp_path / f".export-{name}/version").mkdir(parents=True)
    (tmp_path / "1").mkdir()
    with exporting._held(tmp_path / ".export-running"):
        exporting._remove_leftovers(tmp_path)
        assert sorted(os.listdir(tmp_path)) == [".export-running", "1"]
    exporting._remove_leftovers(tmp_path)
    assert os.listdir(tmp_path) == ["1"]


def test_when_one_folder_cannot_be_installed_none_is(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        (folder / "weights").write_text(folder.name)
    taken = tmp_path / "home/2"
    (taken / "already here").mkdir(parents=True)
    with pytest.raises(OSError, match=r"not empty|exists"):
        exporting.install({first: tmp_path / "home/1", second: taken})
    assert sorted(os.listdir(tmp_path / "home")) == ["2"]
    assert (first / "weights").read_text() == "first"
    exporting.install({first: tmp_path / "home/1", second: tmp_path / "home/3"})
    assert sorted(os.listdir(tmp_path / "home")) == ["1", "2", "3"]


def test_a_saved_model_that_cannot_be_written_is_an_error_of_the_disk(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot be written"):
        conversion.to_saved_model(tiny_classifier(MRI), tmp_path / "file/model.savedmodel")


def test_told_to_end_between_two_parts_neither_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "version").mkdir()
    for name in ("new.pbtxt", "config.pbtxt"):
        (tmp_path / name).write_text(name)

    def told(source: Path, target: Path) -> None:
        raise SystemExit(143)

    monkeypatch.setattr(exporting.shutil, "copymode", told)
    with pytest.raises(SystemExit):
        exporting.install({tmp_path / "version": tmp_path / "1", tmp_path / "new.pbtxt": tmp_path / "config.pbtxt"})
    assert sorted(os.listdir(tmp_path)) == ["config.pbtxt", "new.pbtxt", "version"]


@pytest.mark.parametrize("fails", ["a file", "a folder"])
def test_when_one_part_cannot_be_installed_a_config_is_as_it_was(tmp_path: Path, fails: str) -> None:
    staged, home = tmp_path / "staged", tmp_path / "home"
    (staged / "version").mkdir(parents=True)
    (staged / "new.pbtxt").write_text("new")
    (home / "2").mkdir(parents=True)
    (home / "2/weights").touch()
    config = home / "config.pbtxt"
    config.write_text("old")
    config.chmod(0o640)
    good = {staged / "version": home / "1", staged / "new.pbtxt": config}
    bad = {"a file": {staged / "none.pbtxt": config}, "a folder": {staged: home / "2"}}[fails]
    with pytest.raises(OSError, match=r"No such file|not empty|exists"):
        exporting.install({**good, **bad})
    assert config.read_text() == "old"
    assert sorted(os.listdir(home)) == ["2", "config.pbtxt"]
    (staged / "new.pbtxt").write_text("new")
    exporting.install(good)
    assert (config.read_text(), oct(config.stat().st_mode)[-3:]) == ("new", "640")
    assert sorted(os.listdir(home)) == ["1", "2", "config.pbtxt"]


def test_the_configs_of_both_models_are_copied_without_weights(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in (XRAY.classifier, XRAY.gradcam):
        (source / name / "1").mkdir(parents=True)
        (source / name / "config.pbtxt").write_text("")
    exporting.copy_configs(XRAY, source, tmp_path / "target")
    assert sorted(path.name for path in (tmp_path / "target").iterdir()) == [XRAY.classifier, XRAY.gradcam]
    assert not list((tmp_path / "target").glob("*/1"))
