"""From whatever a caller holds to one 8-bit grey PIL image, or an `InvalidImage` that says why not.

Limits are checked on the header, before any pixel is decoded.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import InvalidImage

ImageSource: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | npt.NDArray[np.generic]"
)
"""What `classify_*` and `explain_*` take."""

MAX_FILE_BYTES: Final = 64 * 2**20
"""Largest encoded file that is read, in bytes."""

MAX_PIXELS: Final = 50_000_000
"""Largest picture that is decoded, in pixels; a full-size chest film has 4 to 16 million."""

MIN_SIDE: Final = 32
"""Smallest side of a picture worth classifying, in pixels."""

MAX_ASPECT: Final = 5.0
"""Longest side over shortest; beyond it the picture is a strip, not a film or a slice."""

# Formats that decode in the process, without an external program (EPS would call Ghostscript).
FORMATS: Final = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000", "PPM")

_ACCEPTED = "a path, bytes, a binary file object, a PIL image or a NumPy array"


def describe(source: object) -> str:
    """How errors and results name `source`: a path as it is, anything else by its kind."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    if isinstance(source, Image.Image):
        return "<PIL image>"
    if isinstance(source, np.ndarray):
        return "<array>"
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
    elif hasattr(source, "read"):
        data = source.read(max_bytes + 1)
        if not isinstance(data, bytes):
            raise InvalidImage(name, "the file object is open as text; open it with mode 'rb'")
    else:
        raise TypeError(f"cannot read an image from {type(source).__name__}: pass {_ACCEPTED}")
    if not data:
        raise InvalidImage(name, "the file is empty")
    if len(data) > max_bytes:
        raise InvalidImage(name, f"longer than the limit of {max_bytes:,} bytes (max_bytes)")
    return data


def _read_path(path: Path, name: str, max_bytes: int) -> bytes:
    try:
        if path.is_dir():
            raise InvalidImage(name, "is a directory; pass the files in it one by one")
        with path.open("rb") as file:
            return file.read(max_bytes + 1)
    except FileNotFoundError as error:
        raise InvalidImage(name, "no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise InvalidImage(name, f"cannot be read: {getattr(error, 'strerror', None) or error}") from error


def open_grey(
    source: ImageSource,
    *,
    at_least: int | None = None,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_FILE_BYTES,
) -> Image.Image:
    """Decode `source` to an 8-bit grey image (mode ``L``), upright as a viewer shows it.

    Args:
        source: A path, bytes, a binary file object, a PIL image, or an array: uint8, uint16 or
            bool, [height, width] or [height, width, 1, 3 or 4].
        at_least: A JPEG may be decoded at 1/2, 1/4 or 1/8 of its scale as long as both sides
            stay this long, in pixels; None decodes every pixel.
        max_pixels: Refuse larger pictures before decoding them.
        max_bytes: Refuse longer files before decoding them.

    Raises:
        InvalidImage: The source is no picture, is damaged, or is outside the limits.
        TypeError: The source is of a kind that is not accepted.
    """
    name = describe(source)
    if isinstance(source, np.ndarray):
        image = _from_array(source, name)
        _check_size(image, name, max_pixels)
    elif isinstance(source, Image.Image):
        image = source
        _check_size(image, name, max_pixels)
    else:
        image = _open_encoded(read_bytes(source, max_bytes=max_bytes), name, max_pixels, at_least)
    try:
        return to_grey(ImageOps.exif_transpose(image))
    except (OSError, SyntaxError, ValueError, MemoryError) as error:
        raise InvalidImage(name, f"damaged or truncated: {error}") from error


def _open_encoded(data: bytes, name: str, max_pixels: int, at_least: int | None) -> Image.Image:
    if data[128:132] == b"DICM":
        raise InvalidImage(name, "is a DICOM file, which this version does not read; export it as PNG")
    try:
        # Pillow's warnings pass: to silence them is to change a filter that all threads share.
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        _check_size(image, name, max_pixels)
        if at_least is not None:
            image.draft("L" if image.mode in ("L", "RGB") else None, (at_least, at_least))
        image.load()
    except UnidentifiedImageError as error:
        raise InvalidImage(name, f"is no picture ({', '.join(FORMATS)} are read)") from error
    except Image.DecompressionBombError as error:
        raise InvalidImage(name, f"larger than the limit of {max_pixels:,} pixels (max_pixels)") from error
    except InvalidImage:
        raise
    # Decoders of damaged files raise whatever their parser stumbles over.
    except Exception as error:
        raise InvalidImage(name, f"damaged or truncated: {error}") from error
    return image


def _check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise InvalidImage(name, f"{width}x{height} is over the limit of {max_pixels:,} pixels (max_pixels)")
    if min(width, height) < MIN_SIDE:
        raise InvalidImage(name, f"{width}x{height} is too small; both sides must have {MIN_SIDE} pixels or more")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise InvalidImage(name, f"{width}x{height} is a strip, not a film or a slice (sides over {MAX_ASPECT:g} : 1)")


def _from_array(array: npt.NDArray[np.generic], name: str) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise InvalidImage(name, f"shape {array.shape}; expected [height, width] or [height, width, 1, 3 or 4]")
    if array.size == 0:
        raise InvalidImage(name, "the array is empty")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    if array.dtype == np.uint16:
        array = scale_to_8_bits(array)
    if array.dtype != np.uint8:
        raise InvalidImage(name, f"dtype {array.dtype}; expected uint8 or uint16, unnormalised grey levels")
    return Image.fromarray(np.ascontiguousarray(array))


def to_grey(image: Image.Image) -> Image.Image:
    """`image` in mode ``L``: ITU-R 601 luma of colours; what is transparent becomes black."""
    if image.mode == "L":
        return image
    if image.mode.startswith("I"):  # 16-bit PNG and TIFF open as I;16, I;16B or I
        return Image.fromarray(scale_to_8_bits(np.asarray(image)))
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range; save it with 8 or 16 bits")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        black = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, rgba).convert("L")
    if image.mode not in ("1", "RGB"):  # CMYK, YCbCr, LAB, HSV, P: through RGB
        image = image.convert("RGB")
    return image.convert("L")


def scale_to_8_bits(pixels: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """Integer grey levels of up to 16 bits to 8 bits.

    The depth is the smallest of 8, 10, 12, 14 and 16 bits that holds the largest value, because
    detectors of 10 to 14 bits store their films in 16-bit files without scaling.

    Raises:
        ValueError: A value is negative or needs more than 16 bits.
    """
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > 65535:
        raise ValueError(f"grey levels run from {low} to {high}; expected 0 to 65535")
    depth = next(bits for bits in (8, 10, 12, 14, 16) if high < 2**bits)
    if depth == 8:
        return pixels.astype(np.uint8)
    scaled = pixels.astype(np.float32) * (255.0 / (2**depth - 1))
    levels: npt.NDArray[np.uint8] = np.rint(scaled).astype(np.uint8)
    return levels
