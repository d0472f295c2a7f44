"""The backend directory that tritonserver is started with, composed of the wheel's parts and our own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .environment import Installation

BACKENDS = Path(__file__).with_name("backends")
_SHARED = tuple(
    BACKENDS / "densescan_openvino" / name for name in ("batched_backend.py", "answer_counts.py", "decoder_backlog.py")
)


def compose_backend_directory(installation: Installation, into: Path) -> Path:
    """Lay out ``python`` with this Python's stub beside it, and every backend of ours.

    Args:
        installation: Where the wheel's parts are.
        into: A folder that does not exist yet.

    Returns:
        `into`.
    """
    python = into / "python"
    python.mkdir(parents=True)
    for part in (
        installation.python_backend / "libtriton_python.so",
        installation.python_backend / "triton_python_backend_utils.py",
        installation.stub,
    ):
        _place(part, python / part.name)
    for model in sorted(BACKENDS.glob("*/model.py")):
        copy_backend(model.parent.name, into)
    return into


def _place(part: Path, at: Path) -> None:
    """Have the same file at another place.

    Not by a symbolic link: Triton refuses a backend that leads out of the backend directory. And rather by a hard link
    than by a copy: a program that was being written a moment ago cannot always be started ("Text file busy").
    """
    try:
        os.link(part, at)
    except OSError:  # another file system, or one without hard links
        shutil.copy(part, at)


def copy_backend(name: str, into: Path) -> Path:
    """Copy one of our backends into a backend directory, complete with the modules that all of them share."""
    folder = into / name
    folder.mkdir(parents=True)
    for source in {*(BACKENDS / name).glob("*.py"), *_SHARED}:
        shutil.copy(source, folder)
    return folder
