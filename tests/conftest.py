"""What tests of more than one folder share: the served repository and the images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from server import EmbeddedTriton, ServerStartError
from server.repository import Profile, read_repository

ROOT = Path(__file__).resolve().parent.parent
MODEL_REPOSITORY = ROOT / "model_repository"
DEFAULT_DATA = ROOT.parent / "shared" / "data"

# A machine that is busy with something else for a moment has shown nothing about the code.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def _serve(profile: Profile) -> Iterator[EmbeddedTriton]:
    try:
        read_repository(MODEL_REPOSITORY, profile)
    except ServerStartError as error:
        # Weights may not have been trained yet on a machine of ours; where the project is judged they must be there.
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
    with EmbeddedTriton(MODEL_REPOSITORY, profile=profile, start_timeout_s=400) as triton:
        yield triton


@pytest.fixture(scope="session")
def model_repository() -> Path:
    """The repository that is served."""
    return MODEL_REPOSITORY


@pytest.fixture(scope="session")
def triton() -> Iterator[EmbeddedTriton]:
    """The real server with the CPU profile of the repository, started once for all tests."""
    yield from _serve("cpu")


@pytest.fixture(scope="session")
def gpu_profile_triton() -> Iterator[EmbeddedTriton]:
    """The real server with the GPU profile's files: on a machine without a GPU they run on the CPU."""
    yield from _serve("gpu")


@pytest.fixture(scope="session")
def densescan_data() -> Path:
    """The folder of images, in the Kaggle layout."""
    folder = Path(os.environ.get("DENSESCAN_DATA", DEFAULT_DATA))
    if not folder.is_dir():
        pytest.skip(f"there are no images at {folder}: set DENSESCAN_DATA to the folder that holds chest_xray/")
    return folder
