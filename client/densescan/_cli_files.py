"""Which files the command line means: by name, by pattern, by folder; and what is in them."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import typer

from ._encoded import picture_suffixes
from ._options import Options
from .dicom import DicomFile, is_dicom
from .errors import InvalidImage
from .images import ImageSource, pictures_of, read_bytes

_DICOM: Final = frozenset({".dcm", ".dicom", ".ima"})


def expand(files: Iterable[Path], say: Callable[[str], None]) -> list[Path]:
    """The files, with each pattern and each folder replaced by the pictures that it stands for, sorted.

    Args:
        files: As the user names them.
        say: Told of files in a folder that are not taken.

    Raises:
        typer.BadParameter: A pattern matches nothing, or a folder holds no picture.
    """
    paths: list[Path] = []
    for file in files:
        if os.path.isdir(file):  # unlike Path.is_dir, it takes names of any length
            paths += _in_folder(file, say)
        elif glob.has_magic(str(file)) and not os.path.exists(file):
            paths += _matching(file)  # quoted, or in a shell that leaves patterns to the program
        else:
            paths.append(file)
    return paths


class Sources:
    """The pictures in files: each frame of a DICOM series for itself, else the path.

    Args:
        paths: The files.
        options: Those of the client, for its limits.

    Attributes:
        total: How many pictures there are, as far as is known: a series counts as one until it is opened.
    """

    def __init__(self, paths: Sequence[Path], options: Options) -> None:
        self._paths = paths
        self._options = options
        self.total = len(paths)

    def __iter__(self) -> Iterator[ImageSource]:
        for path in self._paths:
            if _is_dicom(path):
                yield from self._frames(path)
            else:
                yield path

    def _frames(self, path: Path) -> Iterator[ImageSource]:
        left = 1
        try:
            file = DicomFile.open(read_bytes(path, max_bytes=self._options.max_file_bytes), str(path))
            left = file.frames
            self.total += left - 1
            for picture in pictures_of(file, str(path), self._options.max_pixels):
                yield picture
                left -= 1
        except InvalidImage as error:
            self.total -= left - 1  # the frames behind a damaged one cannot be reached
            yield error  # in its place, and not the end of the run


def stem(source: str) -> str:
    """The name of a picture without folder and suffix, with the number of its frame: ``series-007``."""
    file, _, number = source.rpartition("#")
    if not (file and number.isdecimal()):
        file, number = source, ""
    path = Path(file)
    # DICOM files are often named by their UID: in 1.2.840 nothing is a suffix.
    name = path.stem if _is_named_a_picture(path) else path.name
    return f"{name}-{int(number):03}" if number else name


def _in_folder(folder: Path, say: Callable[[str], None]) -> list[Path]:
    found: list[Path] = []
    others: list[Path] = []
    for path in sorted(folder.rglob("*")):
        # A link that leads nowhere is a picture that is missed. What begins with a dot is the file system's.
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and (os.path.isfile(path) or not os.path.exists(path)):
            (found if _looks_like_a_picture(path) else others).append(path)
    if not found:
        raise typer.BadParameter(f"no pictures in the folder {folder}", param_hint="FILE")
    if others:
        say(f"not taken from {folder}, as they are not called pictures: {len(others)} files, such as {others[0]}")
    return found


def _matching(pattern: Path) -> list[Path]:
    found = sorted(Path(name) for name in glob.glob(str(pattern), recursive=True))
    files = [path for path in found if os.path.isfile(path)]
    if not files:
        raise typer.BadParameter(f"no file matches {pattern}", param_hint="FILE")
    return files


def _looks_like_a_picture(path: Path) -> bool:
    return _is_named_a_picture(path) or _is_dicom(path)


def _is_named_a_picture(path: Path) -> bool:
    return path.suffix.lower() in picture_suffixes() | _DICOM


def _is_dicom(path: Path) -> bool:
    """Told by its content, whatever it is called; a pipe is not read, because that would empty it."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return is_dicom(file.read(132))
    except (OSError, ValueError):
        return False
