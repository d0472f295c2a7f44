"""What a drill is held with: a repository, one of its models, pictures, and the right answer to each of them."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..embedded import EmbeddedTriton
from ..repository import Profile, overlay, read_repository

Pictures = npt.NDArray[np.uint8]
Answers = npt.NDArray[np.float32]
Expected = Mapping[str, Answers]
"""By version: the answers to all pictures, [pictures, classes]."""

TOLERANCE = 5e-3
"""Largest difference of a probability that a batch's size makes, with room; pictures differ by ten times that."""


@dataclass(frozen=True)
class Subject:
    """A model of a repository, and pictures [n, height, width, channels] that it answers differently."""

    repository: Path
    model: str
    pictures: Pictures
    expected: Expected


def prepare(repository: Path, model: str, *, count: int = 8) -> Subject:
    """Choose pictures and ask the model, quite alone, for its answers in every version."""
    (found,) = [entry for entry in read_repository(repository, "cpu", [model]) if entry.name == model]
    (dims,) = [tuple(entry.dims) for entry in found.config.input if entry.name == "image"]
    pictures = _pictures(dims, 16 * count)
    answers = {str(version): ask_alone(repository, model, version, pictures) for version in found.versions}
    chosen = _different(next(iter(answers.values())), count)
    return Subject(repository, model, pictures[chosen], {version: found[chosen] for version, found in answers.items()})


def ask_alone(repository: Path, model: str, version: int, pictures: Pictures, *, profile: Profile = "cpu") -> Answers:
    """A version's answers to pictures, each in a request of its own, from a server that does nothing else."""
    from tritonclient.grpc import InferenceServerClient

    serving = serving_version(repository, model, version, profile)
    with serving as triton, InferenceServerClient(triton.grpc_url) as client:  # type: ignore[no-untyped-call]
        answers = []
        for picture in pictures:
            answers.append(client.infer(model, [image_input(picture)], client_timeout=30).as_numpy("probabilities")[0])
    return np.stack(answers)


@contextlib.contextmanager
def serving_version(repository: Path, model: str, version: int, profile: Profile = "cpu") -> Iterator[EmbeddedTriton]:
    """A server of one version of one model."""
    with tempfile.TemporaryDirectory(prefix="densescan-drill-") as name:
        models = [entry for entry in read_repository(repository, profile, [model]) if entry.name == model]
        copy = overlay([], Path(name, "models"), gpu_to_cpu=False) / model
        copy.mkdir()
        for path in models[0].folder.resolve().iterdir():
            if not path.name.isdigit() or int(path.name) == version:
                (copy / path.name).symlink_to(path)
        with EmbeddedTriton(copy.parent, profile=profile, start_timeout_s=120) as triton:
            yield triton


def image_input(picture: Pictures) -> Any:
    """A request's input with one picture [height, width, channels]."""
    from tritonclient.grpc import InferInput

    image = InferInput("image", [1, *picture.shape], "UINT8")
    image.set_data_from_numpy(picture[None])
    return image


def _pictures(dims: tuple[int, ...], count: int) -> Pictures:
    """Pictures of every brightness and contrast, some with a bright half."""
    random = np.random.default_rng(11)
    levels = random.integers(0, 200, (count, 1, 1, dims[-1]))
    noise = random.integers(0, 56, (count, *dims))
    half = np.zeros((count, *dims), np.int64)
    half[::2, : dims[0] // 2] = random.integers(-120, 120, (len(half[::2]), 1, 1, 1))
    return np.clip(levels + noise + half, 0, 255).astype(np.uint8)


def _different(answers: Answers, count: int) -> list[int]:
    """Indices of answers no two of which could be taken for one another; at least two."""
    chosen: list[int] = []
    for index, answer in enumerate(answers):
        if all(np.abs(answer - answers[other]).max() > 10 * TOLERANCE for other in chosen):
            chosen.append(index)
    if len(chosen) < 2:
        raise RuntimeError("the model answers all pictures alike: mixed-up answers would not be noticed")
    return chosen[:count]
