"""Networks that teach another one: their answer about a picture takes its label's place.

The mean answer of several networks is better than each one's, and so is the mean over a picture and its mirror image;
one network can learn to answer like that (Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network,
2015). The teachers see the very picture that the pupil sees, changed and mixed alike (Beyer et al., Knowledge
distillation: A good teacher is patient and consistent, CVPR 2022).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from densescan.tasks import IMAGE_SIZE

from . import predictors
from .network import WeightsUnavailable
from .recipes import Recipe


class Teachers:
    """Some networks as one.

    Args:
        paths: Files as `predictors.open_model` opens them. An OpenVINO ``.xml`` is by far the quickest on CPU cores.
        mirrored: Ask them about each picture's mirror image, too.

    Raises:
        ValueError: A file is no network.
    """

    def __init__(self, paths: Sequence[Path], *, mirrored: bool = True) -> None:
        self._mirrored = mirrored
        self._networks = [predictors.open_model(path) for path in paths]

    def __call__(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """The mean answer about pictures uint8 [n, 224, 224, 3]: float32 [n, classes]."""
        seen = [images, np.ascontiguousarray(images[:, :, ::-1])] if self._mirrored else [images]
        answers = [network(some) for network in self._networks for some in seen]
        mean: npt.NDArray[np.float32] = np.mean(answers, axis=0, dtype=np.float32)
        return mean


def record(paths: Sequence[Path], recipe: Recipe, before: Sequence[Mapping[str, str]] = ()) -> list[dict[str, str]]:
    """What a run's folder keeps of its teachers: where each stood, and the SHA-256 of its files.

    Args:
        paths: Of the teachers.
        recipe: By which they are to teach.
        before: What the folder of a finished run keeps: one of these needs its file no more.

    Raises:
        WeightsUnavailable: There is no such file.
        ValueError: The recipe trains at sizes that no teacher can be asked about.
    """
    if paths and (sizes := sorted({phase.size for phase in recipe.phases} - {IMAGE_SIZE})):
        raise ValueError(
            f"teachers answer about pictures of {IMAGE_SIZE} px, and the recipe {recipe.name} has phases of "
            f"{', '.join(map(str, sizes))}: train by another first, then by distilled with --weights and --teacher"
        )
    gone = {one["path"]: one["sha256"] for one in before if not Path(one["path"]).is_file()}
    return [{"path": (name := path.as_posix()), "sha256": gone.get(name) or _hash(path)} for path in paths]


def hashes(settings: Mapping[str, Any]) -> list[str]:
    """SHA-256 of each teacher in a run's settings; runs of before there were any have none."""
    return [teacher["sha256"] for teacher in settings.get("teachers", [])]


def _hash(path: Path) -> str:
    """Of a file; of an OpenVINO network, of both of its files."""
    if not path.is_file():
        raise WeightsUnavailable(f"no teacher at {path}: --teacher takes a trained .keras, .onnx or .xml file")
    files = [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
