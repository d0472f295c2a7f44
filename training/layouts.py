"""Where a data set's images are, what their folders say, and which patient a file name tells.

Works on the Kaggle downloads as they come, ``chest_xray/{train,val,test}/<class>/`` and
``brain_mri/{Training,Testing}/<class>/``, and on any ``<split>/<class>/`` or ``<class>/`` folder.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from densescan._encoded import picture_suffixes
from densescan.tasks import Task

log = logging.getLogger(__name__)

FOLDERS = {"xray": ("chest_xray",), "mri": ("brain_mri", "brain-tumor-mri-dataset")}
"""What the unpacked Kaggle downloads are called."""

OFFICIAL_TEST = frozenset({"test", "testing"})
"""Split folders that were published as the test set: never trained on, kept as fold ``official``."""

# One patient's films share what these match. Bacterial and viral films of one number are taken as
# one patient, which at worst joins two patients; the numbers of IM- and NORMAL2-IM- are separate.
_PATIENT = {
    "xray": (
        re.compile(r"(?P<group>person\d+)_(?:bacteria|virus)_"),
        re.compile(r"(?P<group>NORMAL2-IM-\d+)-"),
        re.compile(r"(?P<group>IM-\d+)-"),
        re.compile(r"(?P<group>nih_\d+)_"),
    ),
    "mri": (),
}


# What a file name tells of where the picture is from; the first that matches, else the empty family.
_FAMILIES = (
    ("adult", re.compile(r"nih_\d")),
    ("bacteria", re.compile(r"person\d+_bacteria_")),
    ("virus", re.compile(r"person\d+_virus_")),
    ("NORMAL2-IM", re.compile(r"NORMAL2-IM-")),
    ("IM", re.compile(r"IM-")),
)
_OTHER_HOSPITAL = "adult"


class DataNotFound(Exception):
    """There are no images where they were looked for; the message says where to get them."""


@dataclass(frozen=True)
class ImageFile:
    """One image of a data set, before it was opened.

    Attributes:
        path: Relative to the data folder, with forward slashes.
        label: Name of its class folder.
        split: Name of the split folder above, lower case; empty where there is none. A published test folder further
            up wins over the folder right above.
        group: What must stay in one fold: the patient where the name tells, else the path.
    """

    path: str
    label: str
    split: str
    group: str


def find_data(task: Task, given: Path | None) -> Path:
    """The folder of a task's images: `given`, or the Kaggle folder below DENSESCAN_DATA.

    Raises:
        DataNotFound: It does not exist.
    """
    if given is not None:
        if given.is_dir():
            return given
        raise DataNotFound(f"{given} is no folder. Pass --data the folder that holds <class>/ or <split>/<class>/.")
    roots = [Path(root) for root in (os.environ.get("DENSESCAN_DATA"), "data", "../shared/data") if root]
    for root in roots:
        for name in FOLDERS[task.name]:
            if (root / name).is_dir():
                return root / name
    looked = ", ".join(str(root / FOLDERS[task.name][0]) for root in roots)
    raise DataNotFound(
        f"no images for the {task.title} task (looked for {looked}). Unpack the data set and pass --data FOLDER, "
        "or set DENSESCAN_DATA to the folder that holds chest_xray/ and brain_mri/."
    )


def patient_of(task: Task, stem: str) -> str | None:
    """The patient that a file name tells, or None."""
    for pattern in _PATIENT[task.name]:
        if match := pattern.match(stem):
            return match["group"]
    return None


def family_of(path: str) -> str:
    """The family of films that a file's name tells: ``bacteria``, ``IM``, ``adult`` and so on; else empty."""
    name = path.rpartition("/")[2]
    return next((family for family, pattern in _FAMILIES if pattern.match(name)), "")


def domain_of(path: str) -> str:
    """Which hospital's film a file is, as far as its name tells: ``adult``, or empty for the set's own."""
    return _OTHER_HOSPITAL if family_of(path) == _OTHER_HOSPITAL else ""


def is_official(path: str) -> bool:
    """Whether a path relative to the data folder leads through a published test folder."""
    return _published(path.split("/")[:-2]) is not None


def _published(folders: Iterable[str]) -> str | None:
    """The first of some folders that was published as a test set, in lower case."""
    return next((name for folder in folders if (name := folder.lower()) in OFFICIAL_TEST), None)


def names_tell_patients(task: Task) -> bool:
    """Whether the names of a data set's files tell the patient."""
    return bool(_PATIENT[task.name])


def find_images(task: Task, data: Path, group_pattern: str | None = None) -> list[ImageFile]:
    """Every image below `data` whose folder is one of the task's classes, sorted by path.

    Args:
        task: Its labels are the class folders; upper and lower case are alike.
        data: The data folder.
        group_pattern: A regular expression searched for in the file's stem; its group ``group``
            (or the whole match) says what must stay in one fold.

    Raises:
        DataNotFound: There are none, or a class has none.
        ValueError: `group_pattern` is no regular expression, or no name matches it.
    """
    try:
        own = re.compile(group_pattern) if group_pattern else None
    except re.error as error:
        raise ValueError(f"--group {group_pattern!r} is no regular expression: {error}") from error
    images = sorted(_walk(task, data, own), key=lambda image: image.path)
    missing = [label for label in task.labels if all(image.label != label for image in images)]
    if missing:
        others = "".join(f" Not taken, {what}: {count:,}." for what, count in passed_over(task, data).items())
        raise DataNotFound(
            f"no images of {', '.join(missing)} in {data}. Expected folders named "
            f"{', '.join(task.labels)} in it, or one level down in split folders such as train/ and test/.{others}"
        )
    if own is not None:
        alone = [image for image in images if _group(task, Path(image.path).stem, own) is None]
        if len(alone) == len(images):
            raise ValueError(f"--group {group_pattern!r} matches no file's name, such as {Path(images[0].path).stem!r}")
        if alone:
            log.warning(
                "--group matches %s of %s names; the others, such as %r, are a group each",
                *(f"{len(images) - len(alone):,}", f"{len(images):,}", Path(alone[0].path).stem),
            )
    return images


def passed_over(task: Task, data: Path) -> dict[str, int]:
    """What lies in the class folders and is not taken, in words, with its count: pictures deeper down, other files."""
    labels = {label.lower() for label in task.labels}
    found: Counter[str] = Counter()
    for folder, names in _folders(data):
        above = [part.lower() for part in folder.relative_to(data).parts]
        in_class = bool(above) and above[-1] in labels
        for name in names:
            suffix = Path(name).suffix.lower()
            if in_class and suffix in {".dcm", ".dicom"}:
                found["DICOM files (save them as PNG, with the window that they are read in)"] += 1
            elif in_class and suffix not in picture_suffixes():
                found["other files (pictures are known by how their names end)"] += 1
            elif suffix in picture_suffixes() and not in_class and labels & set(above):
                found["pictures in folders below a class folder (put them into it)"] += 1
    return dict(found)


def _folders(data: Path) -> Iterator[tuple[Path, list[str]]]:
    """Every folder below `data` with the names of its files: each once, and by a link only where nothing else leads."""
    seen: set[str] = set()
    waiting = [str(data)]
    while waiting:
        links = []
        for start in waiting:
            for folder, below, names in os.walk(start):
                if (real := os.path.realpath(folder)) in seen:
                    below.clear()
                    continue
                seen.add(real)
                below[:] = sorted(_visible(below))
                links += [path for path in (os.path.join(folder, name) for name in below) if os.path.islink(path)]
                yield Path(folder), _visible(names)
        waiting = links


def _visible(names: Iterable[str]) -> list[str]:
    """Without those that begin with a dot: what was deleted, and the system's own."""
    return [name for name in names if not name.startswith(".")]


def _walk(task: Task, data: Path, own: re.Pattern[str] | None) -> Iterator[ImageFile]:
    labels = {label.lower(): label for label in task.labels}
    for folder, names in _folders(data):
        label = labels.get(folder.name.lower())
        if label is None:
            continue
        above = folder.relative_to(data).parts[:-1]
        split = _published(above) or (above[-1].lower() if above else "")
        for name in names:
            file = folder / name
            if file.suffix.lower() in picture_suffixes():
                path = file.relative_to(data).as_posix()
                yield ImageFile(path, label, split, _group(task, file.stem, own) or path)


def _group(task: Task, stem: str, own: re.Pattern[str] | None) -> str | None:
    if own is None:
        return patient_of(task, stem)
    match = own.search(stem)
    if match is None:
        return None
    return match.groupdict().get("group") or match[0] or None  # nothing at all is what \d* finds everywhere
