"""Which files the command line means: by name, by pattern, by folder; and what is in them."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import typer

from .dicom import is_dicom
from .errors import InvalidImage
from .images import ImageSource, frames

_DICOM: Final = frozenset({".dcm", ".dicom", ".ima", ""})
_SUFFIXES: Final = frozenset(
    {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".jp2", ".j2k", ".pgm", ".ppm", ".pnm"}
)


def expand(files: Iterable[Path]) -> list[Path]:
    """The files, with each pattern and each folder replaced by the pictures that it stands for, sorted.

    Raises:
        typer.BadParameter: A pattern matches nothing, or a folder holds no picture.
    """
    paths: list[Path] = []
    for file in files:
        if file.is_dir():
            paths += _in_folder(file)
        elif glob.has_magic(str(file)) and not file.exists():
            paths += _matching(file)  # quoted, or in a shell that leaves patterns to the program
        else:
            paths.append(file)
    return paths


def sources(paths: Iterable[Path]) -> Iterator[ImageSource]:
    """The files as they are to be classified: each frame of a DICOM series for itself, else the path."""
    for path in paths:
        if _is_dicom(path):
            yield from _frames(path)
        else:
            yield path


def _frames(path: Path) -> Iterator[ImageSource]:
    try:
        yield from frames(path)
    except InvalidImage as error:
        yield error  # in its place, and not the end of the run


def _in_folder(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.rglob("*") if path.is_file() and _looks_like_a_picture(path))
    if not found:
        raise typer.BadParameter(f"no pictures in the folder {folder}", param_hint="FILE")
    return found


def _matching(pattern: Path) -> list[Path]:
    found = sorted(Path(name) for name in glob.glob(str(pattern), recursive=True))
    files = [path for path in found if path.is_file()]
    if not files:
        raise typer.BadParameter(f"no file matches {pattern}", param_hint="FILE")
    return files


def _looks_like_a_picture(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES or _is_dicom(path)


def _is_dicom(path: Path) -> bool:
    if path.suffix.lower() not in _DICOM:
        return False
    try:
        with path.open("rb") as file:
            return is_dicom(file.read(132))
    except (OSError, ValueError):
        return False
