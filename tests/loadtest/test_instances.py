from __future__ import annotations

import pytest

from densescan.tasks import TASKS
from server.repository import Profile, config_path, read_config

from ..conftest import MODEL_REPOSITORY

MODELS = sorted(path.name for path in MODEL_REPOSITORY.iterdir() if (path / "config.pbtxt").is_file())
NETWORKS = [name for task in TASKS.values() for name in (task.classifier, task.gradcam) if name in MODELS]


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_with_a_bounded_queue_has_an_instance_to_spare(name: str, profile: Profile) -> None:
    """With one alone, a request that comes while it sends its answers lies until the batcher looks again: 0.5 s."""
    config = read_config(config_path(MODEL_REPOSITORY / name, profile))
    if config.HasField("dynamic_batching") and config.dynamic_batching.default_queue_policy.max_queue_size:
        assert sum(group.count for group in config.instance_group) >= 2


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_on_the_cpu_neither_wait_for_one_another_nor_take_each_others_cores(name: str) -> None:
    """What an instance does alone and in company is the backend's to decide: see `densescan_openvino`."""
    config = read_config(config_path(MODEL_REPOSITORY / name, "cpu"))
    (group,) = config.instance_group
    assert not group.HasField("rate_limiter")
    threads = {key: config.parameters[key].string_value for key in ("INFERENCE_NUM_THREADS", "SHARED_NUM_THREADS")}
    assert set(threads.values()) <= {"0", ""}
