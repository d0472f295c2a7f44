"""What is checked in the bytes of an encoded file, because a decoder would not say it. No I/O."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterator
from typing import Final

from PIL import Image, ImageChops, ImageFile

_JPEG_START: Final = b"\xff\xd8\xff"
_END: Final = b"\xff\xd9"
_SCAN: Final = b"\xff\xda"
_PNG_START: Final = b"\x89PNG"
_PNG_END: Final = b"IEND"

# Frame headers of arithmetic coding: sequential, progressive, and both of them lossless or differential.
_ARITHMETIC: Final = frozenset({0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})

_MARKER: Final = re.compile(rb"\xff+([^\xff])")  # with any fill bytes before it

# Every scan of a progressive JPEG passes over the whole picture; encoders make about ten.
_USUAL_SCANS: Final = 12
_MAX_SCANS: Final = 100
_MAX_SCANNED_PIXELS: Final = 1_000_000_000

# The marker that ends the data of a scan: neither a byte 0xff of the data itself nor a restart.
_BEHIND_A_SCAN: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")

# Lines at the foot of a JPEG that belong to its last row of blocks at every scale that it is decoded at.
_FOOT: Final = 2

# Reads as Huffman codes of any table, and holds no marker, which begins with 0xff.
_NOISE: Final = bytes((37 * i * i + 11 * i + 90) % 251 for i in range(512))


class Damaged(ValueError):
    """The file is refused: its decoder would pass over damage, be busy for minutes, or leave it unchecked."""


def check_before_decoding(data: bytes, pixels: int) -> None:
    """Refuse what would keep a decoder busy for minutes, what it would fill up with grey, or what none can check.

    Args:
        data: The encoded file.
        pixels: How many its header announces.

    Raises:
        Damaged: It is one of these.
    """
    if data.startswith(_JPEG_START):
        scans = data.count(_SCAN)
        if scans > _USUAL_SCANS:
            scans = _count_scans(data)  # what lies behind the picture, such as a phone's video, may look like some
        if scans > _MAX_SCANS or (scans > _USUAL_SCANS and scans * pixels > _MAX_SCANNED_PIXELS):
            raise Damaged(f"a progressive JPEG of {scans} scans or more; encoders make about ten")
        if _is_arithmetic(data):
            raise Damaged(
                "a JPEG with arithmetic coding, of which nothing tells whether it is whole; "
                "store it with Huffman coding (jpegtran -optimize) or as PNG"
            )
    if not ImageFile.LOAD_TRUNCATED_IMAGES:
        return
    # Some other part of the caller's program has told Pillow to fill up what is missing.
    if data.startswith(_JPEG_START) and data.rfind(_END) < data.rfind(_SCAN):
        raise Damaged("the file ends before the picture does")
    if data.startswith(_PNG_START) and _PNG_END not in data[-64:]:
        raise Damaged("the file ends before the picture does")


def _is_arithmetic(data: bytes) -> bool:
    """Whether the first frame's header says so."""
    for marker, _ in markers(data):
        if marker in _ARITHMETIC:
            return True
        if marker == _SCAN[1]:
            break
    return False


def _count_scans(data: bytes) -> int:
    """How many scans the first picture of the file has; of too many, not all are counted."""
    scans = (marker for marker, _ in markers(data) if marker == _SCAN[1])
    return sum(1 for _ in itertools.islice(scans, _MAX_SCANS + 1))


def markers(data: bytes) -> Iterator[tuple[int, int]]:
    """The markers of the first picture of a JPEG file up to its end, each with the place where its segment begins.

    It walks past what segments and scans hold.
    """
    place = 2
    while (found := _MARKER.match(data, place)) and (marker := found[1][0]) != _END[1]:
        segment = found.end()
        yield marker, segment
        place = segment + int.from_bytes(data[segment : segment + 2], "big")
        if marker == _SCAN[1]:
            behind = _BEHIND_A_SCAN.search(data, place)
            place = behind.start() if behind else len(data)


def check_after_decoding(data: bytes, image: Image.Image, at_least: int | None = None) -> None:
    """Refuse a JPEG that was cut and closed again: libjpeg fills the rest with one grey, silently.

    Whether flat lines at the foot were in the file, or are filler, is told by decoding once more
    with noise between the data and the end marker: a decoder that is still hungry eats it. What a
    progressive one lacks does not show at the foot, so it is always decoded twice.

    Args:
        data: The encoded file.
        image: What it decoded to.
        at_least: What its decoder was told of the scale: of a reduced picture's own size it would choose another.

    Raises:
        Damaged: Something of the picture is filler.
    """
    if not data.startswith(_JPEG_START) or not (image.info.get("progressive") or _has_flat_foot(image)):
        return
    end = data.rfind(_END)
    if end < 0:
        return
    again = Image.open(io.BytesIO(data[:end] + _NOISE + data[end:]), formats=("JPEG",))
    again.draft(image.mode, None if at_least is None else (at_least, at_least))
    try:
        again.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise Damaged("the picture's data ends before the picture does") from error
    if again.size != image.size or ImageChops.difference(again, image).getbbox() is not None:
        raise Damaged("the picture's data ends before the picture does")


def _has_flat_foot(image: Image.Image) -> bool:
    foot = image.crop((0, max(0, image.height - _FOOT), image.width, image.height))
    bands = [band.getextrema() for band in foot.split()]
    return all(low == high for low, high in bands)
