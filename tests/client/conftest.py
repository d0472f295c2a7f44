from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from densescan.phantoms import draw_phantom

from .fake_server import FakeTriton


@pytest.fixture
def fake() -> Iterator[FakeTriton]:
    server = FakeTriton()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def film() -> Image.Image:
    """A synthetic chest film, 256 x 256."""
    return draw_phantom("xray", size=256)


@pytest.fixture(scope="session")
def pixels(film: Image.Image) -> npt.NDArray[np.uint8]:
    return np.asarray(film)


@pytest.fixture
def film_path(film: Image.Image, tmp_path: Path) -> Path:
    path = tmp_path / "film.png"
    film.save(path)
    return path
