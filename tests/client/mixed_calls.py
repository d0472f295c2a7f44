"""Good and bad pictures, 10,000 of them, and how much memory the process holds after a fifth and after all of them."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import numpy as np

from densescan.errors import InvalidImage
from densescan.preprocessing import preprocess

from . import dicom_files
from .test_formats import FILM, cut_and_closed, encoded, png

CALLS = 10_000


def resident_bytes() -> int:
    """What the kernel counts as this process's own memory."""
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096


def main() -> None:
    """Print the two figures."""
    small = FILM.resize((64, 64))
    jpeg = encoded(small, "JPEG")
    sources = [
        jpeg,
        encoded(small, "PNG"),
        encoded(small, "WEBP"),
        small,
        np.asarray(small),
        np.asarray(small) / 255,
        dicom_files.saved(dicom_files.dataset(np.asarray(small))),
        dicom_files.saved(dicom_files.as_jpeg(small))[:-200],
        jpeg[: len(jpeg) // 2],
        cut_and_closed(jpeg, 0.6),
        png(40_000, 40_000, b""),
        np.full((64, 64), -1.0),
        b"no picture",
        "missing.png",
    ]
    early = 0
    for number in range(CALLS):
        with contextlib.suppress(InvalidImage):
            preprocess(sources[number % len(sources)])
        if number == CALLS // 5:
            early = resident_bytes()
    sys.stdout.write(f"{early} {resident_bytes()}\n")


if __name__ == "__main__":
    main()
