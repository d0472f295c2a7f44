"""What the largest picture of one kind costs to classify or to explain: seconds of CPU, and peak memory in bytes.

The file is made in a fork, so that only reading it counts.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEG2000, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless

from densescan import frames
from densescan._explaining import load
from densescan._options import Options
from densescan.preprocessing import preprocess

from . import dicom_files

SIDE = 7000
MANY = 2000


def film(bits: int) -> Any:
    """A ramp with noise of a few levels: without any, a decoder has nothing to do."""
    noise = np.random.default_rng(0).integers(0, 4, (SIDE // 7, SIDE // 7), np.uint16)
    levels = np.linspace(0, 4000, SIDE).astype(np.uint16)[np.newaxis] + np.tile(noise, (7, 7))
    return levels if bits == 12 else (levels >> 4).astype(np.uint8)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def picture(kind: str, bits: int = 8, mode: str | None = None, step: int = 1, **options: Any) -> Callable[[], bytes]:
    def make() -> bytes:
        image = Image.fromarray(film(bits) // step * step)
        return saved(image.convert(mode) if mode else image, kind, **options)

    return make


def dicom(syntax: Any, **options: Any) -> Callable[[], bytes]:
    def make() -> bytes:
        file = dicom_files.dataset(film(12), bits=12, WindowCenter=2048, WindowWidth=4096)
        file.compress(syntax, **options)
        return dicom_files.saved(file)

    return make


def palette() -> bytes:
    file = dicom_files.dataset(film(8), PhotometricInterpretation="PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        file.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [256, 0, 16])
        data = (np.arange(256) * 257).astype("<u2").tobytes()
        file.add_new(f"{colour}PaletteColorLookupTableData", "OW", data)
    return dicom_files.saved(file)


def dicom_colour() -> bytes:
    frame = saved(Image.fromarray(film(8)).convert("RGB"), "JPEG", quality=60)
    # The Dataset of a small picture, and the frame and the sides of the large one: no copy of it in colours.
    file = dicom_files.dataset(np.zeros((64, 64, 3), np.uint8), syntax=JPEGBaseline8Bit)
    file.Rows = file.Columns = SIDE
    file.PhotometricInterpretation = "YBR_FULL_422"
    file.PixelData = encapsulate([frame])
    file["PixelData"].is_undefined_length = True
    return dicom_files.saved(file)


def many_frames() -> bytes:
    """Without an offset table, as many devices write it."""
    ramp = np.tile(np.arange(64, dtype=np.uint16) * 60, (64, 1))
    file = dicom_files.dataset(ramp, bits=12, WindowCenter=2048, WindowWidth=4096)
    file.compress(RLELossless)
    (frame,) = generate_frames(file.PixelData, number_of_frames=1)
    file.NumberOfFrames = MANY
    file.PixelData = encapsulate([frame] * MANY, has_bot=False)
    return dicom_files.saved(file)


KINDS: dict[str, Callable[[], bytes]] = {
    "png 16 bits": picture("PNG", 12, compress_level=1),
    "png alpha": picture("PNG", mode="LA", compress_level=1),
    "jpeg progressive": picture("JPEG", progressive=True),
    "jpeg 2000": picture("JPEG2000"),
    "tiff 16 bits deflate": picture("TIFF", 12, compression="tiff_adobe_deflate"),
    "tiff 16 bits lzw": picture("TIFF", 12, step=16, compression="tiff_lzw"),  # as small as a file may be
    "dicom rle": dicom(RLELossless),
    "dicom jpeg-ls": dicom(JPEGLSLossless),
    "dicom jpeg 2000 lossless": dicom(JPEG2000Lossless),
    "dicom jpeg 2000 lossy": dicom(JPEG2000, j2k_cr=[10]),
    "dicom jpeg in colour": dicom_colour,
    "dicom palette": palette,
    "dicom of many frames": many_frames,
}


def read(kind: str, way: str, data: bytes) -> None:
    if kind == "dicom of many frames":
        assert sum(1 for _ in frames(data)) == MANY
    elif way == "explain":
        load(data, Options.of())
    else:
        preprocess(data)


def main(kind: str, way: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        child = os.fork()
        if child == 0:
            path.write_bytes(KINDS[kind]())
            os._exit(0)
        if os.waitpid(child, 0)[1] != 0:
            raise SystemExit(f"the file of {kind} could not be made")
        data = path.read_bytes()
    start = time.process_time()
    read(kind, way, data)
    seconds = time.process_time() - start
    # Not ru_maxrss: a new process inherits that of the process that started it.
    (peak,) = (line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    sys.stdout.write(f"{seconds} {int(peak) * 1024}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
