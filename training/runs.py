"""A run's folder: everything needed to resume a training, to repeat it and to judge it.

``manifest.csv``      the data, as it was when the training began
``run.json``          task, recipe, starting weights, manifest hash, versions
``state.json``        where the training stands; written last, so that it never points to a torn file
``history.csv``       one line an epoch
``checkpoints/``      the newest checkpoint with its optimiser, what each phase handed on
``best.keras``        the result
``training_curves.png``, ``tensorboard/``  the same epochs, to look at
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO

from densescan.tasks import Task


class RunError(Exception):
    """The run's folder does not fit what was asked; the message says what to do."""


def write_aside(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, then rename it: `path` is never half-written, and nothing else is left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.stem}.part{path.suffix}")
    try:
        write(aside)
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a page or a document, all or nothing; bytes in a picture's name that are no text are shown as escapes."""
    write_aside(path, lambda aside: aside.write_text(text, encoding="utf-8", errors="backslashreplace"))


def open_table(path: Path, mode: Literal["r", "w"] = "r") -> TextIO:
    """Open a CSV file; names of pictures keep their bytes, whatever their encoding."""
    return path.open(mode, newline="", encoding="utf-8", errors="surrogateescape")


def to_json(data: Mapping[str, Any]) -> str:
    """`data` as readable JSON; what is no number, for which JSON has no word, is null."""
    return json.dumps(_with_nulls(data), indent=2, allow_nan=False)


def _with_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_nulls(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_with_nulls(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write `data` as readable JSON, all or nothing."""
    write_text(path, to_json(data) + "\n")


@dataclass
class State:
    """Where a training stands.

    Attributes:
        phase: Index of the phase under way.
        epoch: Epochs of that phase that are done.
        best: Lowest validation loss of that phase; None before its first epoch.
        waited: Epochs since then.
        last: File name of the newest checkpoint.
        finished: The training is complete.
    """

    phase: int = 0
    epoch: int = 0
    best: float | None = None
    waited: int = 0
    last: str | None = None
    finished: bool = False


@dataclass
class Run:
    """The folder of one training."""

    folder: Path
    state: State = field(default_factory=State)

    @property
    def manifest(self) -> Path:
        """Copy of the manifest that the training began with."""
        return self.folder / "manifest.csv"

    @property
    def settings(self) -> Path:
        """Task, recipe, weights, versions."""
        return self.folder / "run.json"

    @property
    def history(self) -> Path:
        """One line an epoch."""
        return self.folder / "history.csv"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.folder / "checkpoints"

    @property
    def best_model(self) -> Path:
        """The result of a finished training."""
        return self.folder / "best.keras"

    def phase_best(self, name: str) -> Path:
        """Best weights of a phase."""
        return self.checkpoints / f"{name}-best.keras"

    def load_state(self) -> None:
        """Read where the training stands; a new folder stands at the beginning."""
        path = self.folder / "state.json"
        if path.is_file():
            self.state = State(**json.loads(path.read_text(encoding="utf-8")))

    def save_state(self) -> None:
        """Write where the training stands."""
        write_json(self.folder / "state.json", asdict(self.state))

    def append_history(self, row: Mapping[str, object]) -> None:
        """Add an epoch's line; one repeated after an interruption replaces its first line and what came after it."""
        rows = [old for old in self.read_history() if not _from_here(old, row)]
        rows.append({key: str(value) for key, value in row.items()})

        def write(path: Path) -> None:
            with open_table(path, "w") as file:
                writer = csv.DictWriter(file, list(row), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)

        write_aside(self.history, write)

    def read_history(self) -> list[dict[str, str]]:
        """The epochs so far, in order."""
        if not self.history.is_file():
            return []
        with open_table(self.history) as file:
            return list(csv.DictReader(file))


def _from_here(old: Mapping[str, str], new: Mapping[str, object]) -> bool:
    return old["phase"] == str(new["phase"]) and int(old["epoch"]) >= int(str(new["epoch"]))


def default_folder(task: Task, recipe: str) -> Path:
    """Where a training's folder stands unless the user says otherwise."""
    return Path("runs") / task.name / recipe
