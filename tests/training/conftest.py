from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from densescan.phantoms import draw_phantom
from densescan.tasks import CHANNELS, TASKS

if TYPE_CHECKING:
    import keras

Draw = Callable[..., Path]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs land in the test's own folder, and no data set of the machine's is found by accident."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DENSESCAN_DATA", raising=False)


@pytest.fixture
def shallow_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A DenseNet of one layer a block in place of DenseNet-121, which TensorFlow takes half a minute to compile.

    For tests of what is done with a network; those of the network itself, and the one that trains it from the command
    line, take the whole.
    """
    from keras.src.applications.densenet import DenseNet

    from training import network

    def build(size: int, weights: str) -> keras.Model:
        assert weights != "imagenet"
        shape = (size, size, CHANNELS)
        return DenseNet([1, 1, 1, 1], include_top=False, weights=None, input_shape=shape, name=network.BACKBONE)

    monkeypatch.setattr(network, "_backbone", build)


def save_noise(path: Path, seed: int, side: int = 40) -> Path:
    """A picture that no other seed makes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="session")
def phantom_sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small data sets in the Kaggle layout, of drawn pictures that a network can learn to tell by brightness."""
    root = tmp_path_factory.mktemp("data")
    splits = {"xray": root / "chest_xray/train", "mri": root / "brain_mri/Training"}
    for task in TASKS.values():
        for index, label in enumerate(task.labels):
            for number in range(12):
                picture = np.asarray(draw_phantom(task, seed=100 * index + number, size=128), dtype=np.float32)
                level = 0.3 + 0.7 * index / (len(task.labels) - 1)
                path = splits[task.name] / label / f"{label}_{number:02d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray((picture * level).astype(np.uint8)).save(path)
    return root
