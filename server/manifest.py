"""Are the weights on this disk the ones that were released? Checked before anything is served.

Exporting writes ``model.json`` into a version's folder, with the SHA-256 of every other file there. A file that
differs, lacks or was added is found here. Of a model with a card, each version with weights must have one; a model
without any is not checked, as it is nobody's release. The standard library is all that this module needs: the container
runs it as it is.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

CARD = "model.json"
_UNLISTED = (CARD, ".gitkeep")
_WEIGHTS = ("model.xml", "model.bin", "model.onnx", "model.savedmodel", "model.plan")


class ManifestError(RuntimeError):
    """What lies on the disk is not what was released; the message names every file."""


def version_folders(models: Iterable[Path]) -> list[Path]:
    """The version folders of models that have a card."""
    return sorted(card.parent for model in models for card in model.glob(f"[0-9]*/{CARD}"))


def check_versions(models: Iterable[Path]) -> list[Path]:
    """Compare every version that has a card with it.

    Args:
        models: Folders of models.

    Returns:
        The version folders that were checked.

    Raises:
        ManifestError: Files are not the released ones, or a card cannot be read.
    """
    models = list(models)
    folders = version_folders(models)
    problems = [f"{folder / name}: {problem}" for folder in folders for name, problem in differences(folder).items()]
    released = {folder.parent for folder in folders}
    problems += [f"{folder / CARD}: is missing" for model in sorted(released) for folder in _without_card(model)]
    if problems:
        raise ManifestError("these are not the released weights:\n  " + "\n  ".join(problems))
    return folders


def _without_card(model: Path) -> list[Path]:
    """The versions of a model that have weights and no card; Triton serves the newest whether or not it has one."""
    return sorted(
        folder
        for folder in model.glob("[0-9]*")
        if not (folder / CARD).is_file() and any((folder / name).exists() for name in _WEIGHTS)
    )


def differences(folder: Path) -> dict[str, str]:
    """What is wrong with one version's files, by path relative to `folder`; empty: nothing.

    The version's folder may be a link, and a file may be one, since what it leads to is what is compared.

    Raises:
        ManifestError: A folder cannot be listed.
    """
    try:
        expected = json.loads((folder / CARD).read_text(encoding="utf-8"))["sha256"]
        listed = {str(name): str(digest) for name, digest in expected.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return {CARD: f"cannot be read ({type(error).__name__})"}
    present = {path.relative_to(folder).as_posix() for path in entries(folder)}
    found = dict.fromkeys(sorted(listed.keys() - present), "is missing")
    for name in sorted(present - listed.keys()):
        if name not in _UNLISTED:
            found[name] = "was not released"
    for name in sorted(listed.keys() & present):
        if not (folder / name).is_file() or sha256(folder / name) != listed[name]:
            found[name] = "has been changed"
    return found


def entries(folder: Path) -> Iterator[Path]:
    """Whatever lies below a folder, but for folders: files, links, and links to folders, which are not followed.

    Raises:
        ManifestError: A folder cannot be listed. What cannot be listed may be read all the same, by its name.
    """
    for above, folders, files in os.walk(folder, onerror=_cannot_be_listed):
        links = [name for name in folders if os.path.islink(os.path.join(above, name))]
        yield from (Path(above, name) for name in (*links, *files))


def _cannot_be_listed(error: OSError) -> NoReturn:
    raise ManifestError(f"{error.filename} cannot be listed: {error.strerror}") from error


def sha256(path: Path) -> str:
    """The digest of one file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
