"""The model repository: read and checked before the start, and narrowed or adapted where that is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from google.protobuf import text_format  # type: ignore[import-untyped]
from tritonclient.grpc import model_config_pb2

from .errors import ServerStartError

Profile = Literal["cpu", "gpu"]
ModelConfig: TypeAlias = Any
"""Triton's own message; protobuf makes the class at import, where no type checker sees it."""

_DEFAULT_FILENAMES = {"densescan_openvino": "model.xml", "onnxruntime": "model.onnx", "python": "model.py"}


@dataclass(frozen=True)
class RepositoryModel:
    """One model of a repository, with the config that a profile chooses."""

    folder: Path
    config: ModelConfig

    @property
    def name(self) -> str:
        """Its name, which is its folder's."""
        return self.folder.name

    @property
    def versions(self) -> tuple[int, ...]:
        """Its version folders, ascending."""
        return tuple(sorted(int(path.name) for path in self.folder.iterdir() if path.is_dir() and path.name.isdigit()))

    @property
    def steps(self) -> tuple[str, ...]:
        """The models that an ensemble calls."""
        return tuple(step.model_name for step in self.config.ensemble_scheduling.step)

    @property
    def weights(self) -> Path | None:
        """The file it is loaded from, in its newest version; None for an ensemble."""
        if self.config.platform == "ensemble":
            return None
        filename = self.config.default_model_filename or _DEFAULT_FILENAMES.get(self.config.backend, "model")
        return self.folder / str(self.versions[-1] if self.versions else 1) / filename


def config_path(folder: Path, profile: Profile) -> Path:
    """The config file that Triton reads for a profile: its own if there is one, else ``config.pbtxt``."""
    special = folder / "configs" / f"{profile}.pbtxt"
    return special if special.is_file() else folder / "config.pbtxt"


def read_config(path: Path) -> ModelConfig:
    """Parse one config file.

    Raises:
        ServerStartError: It is not a model config; the message names the file, line and column.
    """
    try:
        message = model_config_pb2.ModelConfig()  # type: ignore[attr-defined]
        return text_format.Parse(path.read_text(encoding="utf-8"), message)
    except text_format.ParseError as error:
        raise ServerStartError(f"{path}:{error}", "correct the config file") from error


def read_repository(repository: Path, profile: Profile, names: Sequence[str] = ()) -> list[RepositoryModel]:
    """The models to serve: all of them, or those named and the ones that those call.

    Raises:
        ServerStartError: The folder, a model or its weights are missing.
    """
    if not repository.is_dir():
        raise ServerStartError(f"there is no model repository at {repository}", "name it with --model-repository")
    folders = sorted(path for path in repository.iterdir() if (path / "config.pbtxt").is_file())
    models = {path.name: RepositoryModel(path, read_config(config_path(path, profile))) for path in folders}
    if not models:
        raise ServerStartError(
            f"{repository} holds no model: no folder in it has a config.pbtxt", "name another with --model-repository"
        )
    chosen = [models[name] for name in _with_steps(names, models)] if names else list(models.values())
    _check_weights(chosen)
    return chosen


def overlay(models: Iterable[RepositoryModel], into: Path, *, gpu_to_cpu: bool) -> Path:
    """A repository of links to some models.

    Args:
        models: The models it shall hold.
        into: A folder that does not exist yet.
        gpu_to_cpu: Have the instances that ask for a GPU run on the CPU; nothing else of a config is changed.

    Returns:
        `into`.
    """
    into.mkdir(parents=True)
    for model in models:
        if gpu_to_cpu and _moved_to_cpu(model.config):
            _link_with_config(model, into / model.name)
        else:
            (into / model.name).symlink_to(model.folder.resolve())
    return into


def asks_for_gpu(model: RepositoryModel) -> bool:
    """Whether an instance of the model is to run on a GPU, which Triton refuses to load without one."""
    return any(group.kind == group.KIND_GPU for group in model.config.instance_group)


def _moved_to_cpu(config: ModelConfig) -> bool:
    moved = False
    for group in config.instance_group:
        if group.kind == group.KIND_GPU:
            group.kind = group.KIND_CPU
            group.ClearField("gpus")
            moved = True
    return moved


def _link_with_config(model: RepositoryModel, folder: Path) -> None:
    folder.mkdir()
    for path in model.folder.resolve().iterdir():
        if path.name not in ("config.pbtxt", "configs"):
            (folder / path.name).symlink_to(path)
    (folder / "config.pbtxt").write_text(text_format.MessageToString(model.config), encoding="utf-8")


def _with_steps(names: Sequence[str], models: dict[str, RepositoryModel]) -> list[str]:
    wanted: dict[str, None] = {}
    queue = list(names)
    while queue:
        name = queue.pop(0)
        if name not in models:
            raise ServerStartError(f"there is no model {name!r}", f"choose among {', '.join(sorted(models))}")
        if name not in wanted:
            wanted[name] = None
            queue.extend(models[name].steps)
    return sorted(wanted)


def _check_weights(models: Sequence[RepositoryModel]) -> None:
    missing = [model for model in models if model.weights and not model.weights.is_file()]
    if not missing:
        return
    files = "".join(f"\n  {model.weights}" for model in missing)
    raise ServerStartError(
        f"{len(missing)} of {len(models)} models have no weights:{files}",
        "write them with `python -m training export` (`--help` shows how),"
        " or serve only the models that have theirs: --model NAME",
    )
