"""What a compressed DICOM frame announces, compared with the header before a decoder believes it."""

from __future__ import annotations

import struct
from typing import Any, Final

from ._intact import markers
from ._jpeg2000 import START
from .errors import InvalidImage

_RLE: Final = "1.2.840.10008.1.2.5"
_JPEG_START: Final = b"\xff\xd8"
# Frame headers of JPEG and JPEG-LS: SOF0 to SOF15 without DHT, JPG and DAC, and SOF55.
_FRAME_MARKERS: Final = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})


def check_codestreams(pixel_data: bytes, uid: str, options: dict[str, Any], name: str) -> None:
    """Refuse frames that are fewer, or larger, than the header says.

    Args:
        pixel_data: The encapsulated frames.
        uid: Transfer syntax.
        options: Header fields, named as pydicom's decoders name them.
        name: What the caller calls the file.

    Raises:
        InvalidImage: A frame is not what the header announces.
    """
    from pydicom.encaps import generate_frames

    expected = (options["columns"], options["rows"])
    count = options["number_of_frames"]
    seen = 0
    for frame in generate_frames(pixel_data, number_of_frames=count):
        seen += 1
        if uid == _RLE:
            _check_rle(frame, options, name)
        elif (size := frame_size(frame)) != expected:
            announced = "nothing that is read" if size is None else f"{size[0]}x{size[1]}"
            raise InvalidImage(name, f"is DICOM of {expected[0]}x{expected[1]} with a frame of {announced}")
    if seen < count:
        raise InvalidImage(name, f"is DICOM of {count} frames that holds {seen}: cut off, or damaged")


def frame_size(codestream: bytes) -> tuple[int, int] | None:
    """Width and height that a JPEG, JPEG-LS or JPEG 2000 codestream announces; None for anything else."""
    try:
        if codestream.startswith(START):
            right, bottom, left, top = struct.unpack(">IIII", codestream[8:24])
            return right - left, bottom - top
        if codestream.startswith(_JPEG_START):
            return _jpeg_size(codestream)
    except struct.error:
        return None
    return None


def _jpeg_size(codestream: bytes) -> tuple[int, int] | None:
    for marker, segment in markers(codestream):
        if marker in _FRAME_MARKERS:
            height, width = struct.unpack(">HH", codestream[segment + 3 : segment + 7])
            return width, height
    return None


def _check_rle(frame: bytes, options: dict[str, Any], name: str) -> None:
    segment = options["columns"] * options["rows"]
    segments = options["samples_per_pixel"] * options["bits_allocated"] // 8
    # At worst each byte is a run of its own, of two; two bytes can stand for 128, so a longer frame hides a bomb.
    if len(frame) > 64 + segments * (2 * segment + 16):
        raise InvalidImage(name, "is DICOM with a run-length frame longer than its pixels")
