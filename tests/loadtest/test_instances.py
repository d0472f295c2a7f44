from __future__ import annotations

from pathlib import Path

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
def test_networks_on_the_cpu_share_one_set_of_cores(name: str) -> None:
    config = read_config(config_path(MODEL_REPOSITORY / name, "cpu"))
    (group,) = config.instance_group
    (resource,) = group.rate_limiter.resources
    assert (resource.name, resource.count) == ("cores", 1)
    assert getattr(resource, "global")


def test_every_launcher_has_triton_mind_the_resources() -> None:
    root = Path(MODEL_REPOSITORY).parent
    for launcher in ("server/embedded.py", "docker/serve.py"):
        assert '"--rate-limit=execution_count"' in (root / launcher).read_text(encoding="utf-8")
