"""From whatever a caller holds to 8-bit grey pictures, or an `InvalidImage` that says why not.

Limits are checked on the header, before any pixel is decoded.
"""

from __future__ import annotations

import inspect
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from ._encoded import decode, later
from ._levels import NotAPicture, check_not_constant, to_8_bits, without_channel
from ._limits import MAX_FILE_BYTES as MAX_FILE_BYTES
from ._limits import MAX_PIXELS as MAX_PIXELS
from ._limits import check_size
from ._modes import to_grey, upright
from .dicom import DicomFile, is_dataset, is_dicom
from .errors import InvalidImage

if TYPE_CHECKING:
    from pydicom import Dataset

ImageSource: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | npt.NDArray[np.generic]"
    " | Dataset | Picture | InvalidImage"
)
"""What `classify_*` and `explain_*` take."""

_ACCEPTED = "a path, bytes, a binary file object, a PIL image, a NumPy array, a pydicom Dataset or a Picture"

_SEVERAL = "the file holds several pictures and this is the first; densescan.frames gives all of them"


@dataclass(frozen=True, eq=False)
class Picture:
    """One decoded picture and what its file said of it; `classify_*` and `explain_*` take it as an image.

    Attributes:
        source: How it is named in results and errors.
        image: 8-bit grey (mode ``L``), upright.
        modality: What took it, such as ``DX`` or ``MR``, if DICOM said so; else empty.
        warnings: What to know before trusting a result, each in a sentence.
        full_size: Width and height in the file, in pixels, if the decoder left out detail; else None.
    """

    source: str
    image: Image.Image
    modality: str = ""
    warnings: tuple[str, ...] = ()
    full_size: tuple[int, int] | None = None


def describe(source: object) -> str:
    """How errors and results name `source`: a path as it is, anything else by its kind."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    if isinstance(source, Image.Image):
        return "<PIL image>"
    if isinstance(source, np.ndarray):
        return "<array>"
    if isinstance(source, (Picture, InvalidImage)):
        return source.source
    if is_dataset(source):
        return "<DICOM dataset>"
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "<bytes>"
    return str(getattr(source, "name", None) or f"<{type(source).__name__}>")


def read_bytes(source: ImageSource, *, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """The encoded file behind a path, bytes or a file object, at most `max_bytes` long.

    Raises:
        InvalidImage: It is missing, a directory, unreadable, empty or too long.
        TypeError: `source` is of no kind that holds encoded bytes.
    """
    name = describe(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
    elif isinstance(source, (str, os.PathLike)):
        data = _read_path(Path(source), name, max_bytes)
    elif inspect.iscoroutinefunction(getattr(source, "read", None)):
        raise InvalidImage(name, "the file object is read by awaiting: pass the bytes that `await file.read()` answers")
    elif hasattr(source, "read"):
        start = _place(source)
        try:
            data = _read_all(source, max_bytes + 1)
        except (OSError, ValueError) as error:  # ValueError: it is closed
            raise _unreadable(name, error) from error
        if not isinstance(data, bytes):
            raise InvalidImage(name, "the file object is open as text; open it with mode 'rb'")
        if not data and start:
            raise InvalidImage(name, "the file object has been read to its end; call its seek(0) first")
    else:
        instead = "what its open('rb') gives" if hasattr(source, "open") else _ACCEPTED  # as zipfile.Path has
        raise TypeError(f"cannot read an image from {type(source).__name__}: pass {instead}")
    if not data:
        raise InvalidImage(name, "the file is empty")
    if len(data) > max_bytes:
        raise InvalidImage(name, f"longer than the limit of {max_bytes:,} bytes (max_bytes)")
    return data


def _read_all(file: Any, most: int) -> Any:
    """What is left of a file object, `most` bytes of it: one without a buffer, as of a pipe, gives a part at a time."""
    data = part = file.read(most)
    while isinstance(part, bytes) and part and len(data) < most and isinstance(file, io.RawIOBase):
        part = file.read(most - len(data))
        data += part or b""
    return data


def _place(file: Any) -> int:
    """Where a file object stands; 0 where it does not know."""
    try:
        return int(file.tell())
    except (OSError, ValueError, AttributeError, TypeError):
        return 0


def _read_path(path: Path, name: str, max_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            # What is asked for is set aside beforehand, and the limit is large. Pipes and the like tell no size.
            size = os.fstat(file.fileno()).st_size or max_bytes
            return file.read(min(size, max_bytes) + 1)
    except FileNotFoundError as error:
        raise InvalidImage(name, "no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        if os.path.isdir(path):  # Path.is_dir raises where a name is too long or a folder closed
            raise InvalidImage(name, "is a directory; pass the files in it one by one") from error
        raise _unreadable(name, error) from error


def _unreadable(name: str, error: Exception) -> InvalidImage:
    return InvalidImage(name, f"cannot be read: {getattr(error, 'strerror', None) or error}")


def open_grey(
    source: ImageSource,
    *,
    at_least: int | None = None,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_FILE_BYTES,
) -> Image.Image:
    """`open_picture` without what the file says of it: an image of mode ``L``."""
    return open_picture(source, at_least=at_least, max_pixels=max_pixels, max_bytes=max_bytes).image


def open_picture(
    source: ImageSource,
    *,
    at_least: int | None = None,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_FILE_BYTES,
) -> Picture:
    """Decode `source` to 8-bit grey, upright and as a viewer shows it.

    Args:
        source: A path, bytes or a binary file object that holds a picture file or DICOM; a PIL
            image; a pydicom Dataset; a `Picture`, or an `InvalidImage` that reading one has met and
            that is raised again; or an array, [height, width] or [height,
            width, 1, 3 or 4], of uint8 0..255, uint16 0..65535, bool, float 0..1 or float 0..255.
        at_least: A JPEG or JPEG 2000 may be decoded at 1/2, 1/4 or 1/8 of its scale as long as
            both sides stay this long, in pixels; None decodes every pixel, except that a JPEG 2000
            of over 12.5 million is decoded at 1/2, because it takes many seconds otherwise.
        max_pixels: Refuse larger pictures before decoding them.
        max_bytes: Refuse longer files before decoding them.

    Raises:
        InvalidImage: The source is no picture, is damaged, holds several frames of DICOM, or is
            outside the limits.
        TypeError: The source is of a kind that is not accepted.
    """
    name = describe(source)
    if isinstance(source, InvalidImage):
        raise source
    if isinstance(source, Picture):
        return source
    if is_dataset(source):
        return _open_dicom(source, name, max_pixels)
    if isinstance(source, (np.ndarray, Image.Image)):
        return Picture(name, _grey(source, name, max_pixels))
    data = read_bytes(source, max_bytes=max_bytes)
    if is_dicom(data):
        return _open_dicom(data, name, max_pixels)
    image, several, full_size = decode(data, name, max_pixels=max_pixels, at_least=at_least)
    warnings = (_SEVERAL,) if several else ()
    return Picture(name, _grey(image, name, max_pixels), warnings=warnings, full_size=full_size)


def frames(
    source: ImageSource, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_FILE_BYTES
) -> Iterator[Picture | InvalidImage]:
    """Every picture of a multi-frame DICOM, an animation or a TIFF of several pages, in order.

    One is decoded at a time, so that a long series needs no more memory than a single frame::

        for result in client.classify_many("mri", densescan.frames("series.dcm")): ...

    Args:
        source: As in `open_picture`; what holds one picture yields that one.
        max_pixels: Refuse pictures that are larger, each for itself.
        max_bytes: Refuse longer files before decoding them.

    Yields:
        Pictures named ``<source>#1``, ``<source>#2`` and so on; a single one by its source. In place of one that is
        decoded and cannot be classified, as the empty slices at the ends of a volume, an `InvalidImage`, not raised:
        `classify_many` gives it back as that picture's outcome.

    Raises:
        InvalidImage: The file, or a picture in it, cannot be decoded; those behind it cannot be reached.
    """
    name = describe(source)
    if is_dataset(source):
        yield from pictures_of(DicomFile.open(source, name), name, max_pixels)
        return
    if isinstance(source, (np.ndarray, Image.Image, Picture, InvalidImage)):
        yield _in_place(open_picture, source, max_pixels=max_pixels)
        return
    data = read_bytes(source, max_bytes=max_bytes)
    if is_dicom(data):
        yield from pictures_of(DicomFile.open(data, name), name, max_pixels)
        return
    image, several, full_size = decode(data, name, max_pixels=max_pixels)
    yield _in_place(_page, image, f"{name}#1" if several else name, max_pixels, full_size)
    if several:
        for number, other in enumerate(later(image, name, max_pixels=max_pixels), 2):
            yield _in_place(_page, other, f"{name}#{number}", max_pixels)


def _page(image: Image.Image, name: str, max_pixels: int, full_size: tuple[int, int] | None = None) -> Picture:
    return Picture(name, _grey(image, name, max_pixels), full_size=full_size)


def _in_place(open_one: Callable[..., Picture], *arguments: object, **more: object) -> Picture | InvalidImage:
    """The picture, or why it cannot be classified: the next one is there all the same."""
    try:
        return open_one(*arguments, **more)
    except InvalidImage as error:
        return error


def _open_dicom(source: bytes | Dataset, name: str, max_pixels: int) -> Picture:
    file = DicomFile.open(source, name)
    if file.frames > 1:
        raise InvalidImage(
            name,
            f"is DICOM of {file.frames} frames: pass densescan.frames(source) to classify_many or explain_many, "
            "which give a result each",
        )
    check_size(file.size, name, max_pixels)
    return _dicom_picture(next(file.images()), file, name, max_pixels)


def pictures_of(file: DicomFile, name: str, max_pixels: int) -> Iterator[Picture | InvalidImage]:
    """Every frame of a DICOM file in order, as `frames` names them."""
    check_size(file.size, name, max_pixels)
    for number, image in enumerate(file.images(), 1):
        frame = f"{name}#{number}" if file.frames > 1 else name
        yield _in_place(_dicom_picture, image, file, frame, max_pixels)


def _dicom_picture(image: Image.Image, file: DicomFile, name: str, max_pixels: int) -> Picture:
    full_size = None if image.size == file.size else file.size
    return Picture(name, _grey(image, name, max_pixels), file.modality, file.warnings, full_size)


def _grey(source: Image.Image | npt.NDArray[np.generic], name: str, max_pixels: int) -> Image.Image:
    try:
        if isinstance(source, np.ndarray):
            array = without_channel(source)
            check_size((array.shape[1], array.shape[0]), name, max_pixels)
            image = Image.fromarray(np.ascontiguousarray(to_8_bits(array)))
        else:
            image = source
            check_size(image.size, name, max_pixels)
        grey = to_grey(upright(image))
        check_not_constant(grey)
    except NotAPicture as error:
        raise InvalidImage(name, str(error)) from error
    except InvalidImage:
        raise
    except (OSError, SyntaxError, ValueError, MemoryError) as error:
        raise InvalidImage(name, f"damaged or truncated: {error}") from error
    return grey
