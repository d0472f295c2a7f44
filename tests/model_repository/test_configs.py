"""The two profiles of every model say the same, and what tasks.py says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from densescan.tasks import (
    CLASS_INDEX_NAME,
    ENCODED_NAME,
    HEATMAP_NAME,
    IMAGE_SHAPE,
    INPUT_NAME,
    MAX_BATCH_SIZE,
    OPERATING_POINT_PARAMETER,
    OUTPUT_NAME,
    TASKS,
    Task,
)
from server.repository import config_path, read_config

ROOT = Path(__file__).resolve().parents[2] / "model_repository"
MODELS = sorted(path.name for path in ROOT.iterdir() if path.is_dir())
NETWORKS = {model: task for task in TASKS.values() for model in (task.classifier, task.gradcam)}
each_model = pytest.mark.parametrize("model", MODELS)
each_network = pytest.mark.parametrize("model", NETWORKS)
both_profiles = pytest.mark.parametrize("profile", ["gpu", "cpu"])
each_task = pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))


def config(model: str, profile: str) -> Any:
    return read_config(config_path(ROOT / model, profile))  # type: ignore[arg-type]


def tensors(side: Any) -> list[tuple[Any, ...]]:
    return [
        (tensor.name, tensor.data_type, tuple(tensor.dims), getattr(tensor, "format", None), tensor.is_shape_tensor)
        for tensor in side
    ]


def test_the_repository_serves_the_designs_models() -> None:
    kinds = ("classifier", "gradcam", "decoder", "ensemble")
    assert sorted(getattr(task, kind) for task in TASKS.values() for kind in kinds) == MODELS


@each_model
def test_both_profiles_are_there_and_have_the_same_inputs_and_outputs(model: str) -> None:
    assert (ROOT / model / "configs/cpu.pbtxt").is_file()
    gpu, cpu = config(model, "gpu"), config(model, "cpu")
    assert tensors(gpu.input) == tensors(cpu.input)
    assert tensors(gpu.output) == tensors(cpu.output)
    assert (gpu.name, gpu.max_batch_size) == (cpu.name, cpu.max_batch_size) == (model, MAX_BATCH_SIZE)
    assert list(gpu.output[0].label_filename) == list(cpu.output[0].label_filename)


@each_task
@both_profiles
def test_a_classifier_has_one_input_and_one_output_so_that_a_stock_image_client_works(task: Task, profile: str) -> None:
    found = config(task.classifier, profile)
    (image,), (answer,) = found.input, found.output
    assert (image.name, tuple(image.dims)) == (INPUT_NAME, IMAGE_SHAPE)
    assert (image.data_type, image.format) == (found.input[0].data_type, image.FORMAT_NHWC)
    assert (answer.name, tuple(answer.dims)) == (OUTPUT_NAME, (len(task.labels),))


@each_task
@both_profiles
def test_a_gradient_model_takes_a_class_and_adds_a_map(task: Task, profile: str) -> None:
    found = config(task.gradcam, profile)
    assert {tensor.name: tuple(tensor.dims) for tensor in found.input} == {
        INPUT_NAME: IMAGE_SHAPE,
        CLASS_INDEX_NAME: (1,),
    }
    assert {tensor.name: tuple(tensor.dims) for tensor in found.output} == {
        OUTPUT_NAME: (len(task.labels),),
        HEATMAP_NAME: (7, 7),
    }


@each_task
def test_an_ensemble_decodes_and_then_classifies(task: Task) -> None:
    found = config(task.ensemble, "cpu")
    assert [tensor.name for tensor in found.input] == [ENCODED_NAME]
    assert [step.model_name for step in found.ensemble_scheduling.step] == [task.decoder, task.classifier]


@each_task
def test_labels_are_those_of_the_task_in_their_order(task: Task) -> None:
    for model in (task.classifier, task.gradcam, task.ensemble):
        assert (ROOT / model / "labels.txt").read_text().split() == list(task.labels)


@each_model
@both_profiles
def test_every_queue_is_bounded_and_refuses(model: str, profile: str) -> None:
    found = config(model, profile)
    if found.platform == "ensemble":
        return
    policy = found.dynamic_batching.default_queue_policy
    assert found.HasField("dynamic_batching")
    assert 0 < policy.max_queue_size <= 1024
    assert policy.timeout_action == policy.REJECT
    assert 0 < policy.default_timeout_microseconds <= 10_000_000
    assert policy.allow_timeout_override  # ignored by Triton where the default is zero


@each_model
@both_profiles
def test_every_model_is_warm_at_one_and_at_the_largest_batch(model: str, profile: str) -> None:
    found = config(model, profile)
    if found.platform != "ensemble":
        assert sorted(warmup.batch_size for warmup in found.model_warmup) == [1, MAX_BATCH_SIZE]


@each_task
def test_on_a_cpu_a_full_batch_is_of_sizes_that_the_network_is_compiled_for(task: Task) -> None:
    served = config(task.classifier, "cpu")
    compiled = [int(size) for size in served.parameters["FIXED_BATCH_SIZES"].string_value.split(",")]
    preferred = list(served.dynamic_batching.preferred_batch_size)
    assert preferred == list(range(max(compiled), MAX_BATCH_SIZE + 1, max(compiled)))


@each_task
def test_on_a_cpu_a_network_tells_its_own_tasks_decoder_what_it_takes(task: Task) -> None:
    served = config(task.classifier, "cpu")
    assert served.parameters["FLOW_FROM"].string_value == task.decoder
    assert "FLOW_FROM" not in config(task.gradcam, "cpu").parameters  # its pictures come from callers


@both_profiles
def test_the_decoders_differ_in_their_names_alone(profile: str) -> None:
    xray, mri = (config(task.decoder, profile) for task in TASKS.values())
    mri.name = xray.name
    assert xray == mri
    for path in (ROOT / "xray_decoder").rglob("*"):
        if path.is_file() and path.suffix != ".pbtxt" and "__pycache__" not in path.parts:
            assert path.read_bytes() == (ROOT / "mri_decoder" / path.relative_to(ROOT / "xray_decoder")).read_bytes()


@each_network
def test_each_profile_has_its_backend_and_file(model: str) -> None:
    gpu, cpu = config(model, "gpu"), config(model, "cpu")
    assert (gpu.backend, gpu.default_model_filename) == ("onnxruntime", "model.onnx")
    assert (cpu.backend, cpu.default_model_filename) == ("densescan_openvino", "model.xml")
    assert all(group.kind == group.KIND_GPU for group in gpu.instance_group)
    assert all(group.kind == group.KIND_CPU for group in cpu.instance_group)


@each_network
def test_tensorrt_knows_the_batch_sizes_and_keeps_its_engines(model: str) -> None:
    (accelerator,) = config(model, "gpu").optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.name == "tensorrt"
    options = dict(accelerator.parameters)
    assert f"{INPUT_NAME}:1x224x224x3" in options["trt_profile_min_shapes"]
    assert f"{INPUT_NAME}:{MAX_BATCH_SIZE}x224x224x3" in options["trt_profile_max_shapes"]
    assert options["trt_engine_cache_enable"] == "true"
    assert options["trt_engine_cache_prefix"] == model
    assert options["trt_force_sequential_engine_build"] == "true"
    assert "precision_mode" not in options  # TensorRT 11 has none: FP16 stands in the graph


@each_network
def test_no_two_versions_of_a_network_share_the_engine_cache(model: str) -> None:
    """An engine is found by its file and the names in the network, which versions have in common."""
    assert config(model, "gpu").version_policy.latest.num_versions == 1


@each_network
def test_the_operating_point_stands_where_a_finding_is_decided_and_alike(model: str) -> None:
    gpu, cpu = config(model, "gpu").parameters, config(model, "cpu").parameters
    if NETWORKS[model].positive is None:
        assert OPERATING_POINT_PARAMETER not in gpu
        assert OPERATING_POINT_PARAMETER not in cpu
    else:
        values = {parameters[OPERATING_POINT_PARAMETER].string_value for parameters in (gpu, cpu)}
        assert len(values) == 1
        assert 0 < float(values.pop()) < 1
        classifier = config(NETWORKS[model].classifier, "cpu").parameters
        assert classifier[OPERATING_POINT_PARAMETER] == cpu[OPERATING_POINT_PARAMETER]
