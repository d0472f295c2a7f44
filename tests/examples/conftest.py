from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from densescan import Client
from densescan.phantoms import draw_phantom
from densescan.tasks import MAX_BATCH_SIZE, TASKS
from server import EmbeddedTriton
from tests.client.quick_models import write_repository

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="session")
def quick_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedTriton]:
    """The real server, the real decoders and ensembles; only the networks are stand-ins, for the mean brightness."""
    root = write_repository(tmp_path_factory.mktemp("examples"), slow_s=0, max_batch_size=MAX_BATCH_SIZE)
    for name in (name for task in TASKS.values() for name in (task.decoder, task.ensemble)):
        shutil.copytree(ROOT / "model_repository" / name, root / name)
    with EmbeddedTriton(root, exit_timeout_s=2) as triton:
        yield triton


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.png"
    image: Image.Image = draw_phantom("xray", size=256)
    image.save(path)
    return path


@pytest.fixture(scope="session")
def expected(quick_server: EmbeddedTriton, film: Path) -> dict[str, float]:
    """What the SDK answers for the film."""
    with Client(quick_server.grpc_url) as client:
        return dict(client.classify_xray(film).probabilities)
