"""One film in many formats, and what hostile files cost."""

from __future__ import annotations

import io
import itertools
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from densescan import _intact, _jpeg2000
from densescan._explaining import load as explained
from densescan._options import Options
from densescan.errors import InvalidImage
from densescan.images import open_grey, open_picture
from densescan.phantoms import draw_phantom
from densescan.preprocessing import preprocess_grey

from . import dicom_files, largest_files
from .tiff_files import tiff


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


FILM = draw_phantom("xray", size=256)
LEVELS = np.asarray(FILM)
WIDE = np.rint(LEVELS.astype(np.float64) * (4095 / 255)).astype(np.uint16)


def turned_by_exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(FILM.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, exif=exif)


def in_palette() -> bytes:
    return encoded(FILM.convert("RGB").quantize(256, method=Image.Quantize.MEDIANCUT), "PNG")


# The same film, and how far its pixels may be off, in grey levels on average.
FORMS: dict[str, tuple[Callable[[], Any], float]] = {
    "png": (lambda: encoded(FILM, "PNG"), 0),
    "png 12 bits in 16": (lambda: encoded(Image.fromarray(WIDE), "PNG"), 0.5),
    "png with alpha": (lambda: encoded(FILM.convert("LA"), "PNG"), 0.5),
    "png palette": (in_palette, 2),
    "jpeg": (lambda: encoded(FILM, "JPEG", quality=95), 2),
    "jpeg cmyk": (lambda: encoded(FILM.convert("CMYK"), "JPEG", quality=95), 2),
    "jpeg turned by exif": (turned_by_exif, 2),
    "jpeg 2000": (lambda: encoded(FILM, "JPEG2000"), 0.5),
    "tiff lzw": (lambda: encoded(FILM, "TIFF", compression="tiff_lzw"), 0),
    "tiff of floats": (lambda: encoded(Image.fromarray(LEVELS / np.float32(255)), "TIFF"), 0.5),
    "bmp": (lambda: encoded(FILM, "BMP"), 0),
    "gif": (lambda: encoded(FILM, "GIF"), 2),
    "gif animated": (lambda: encoded(FILM, "GIF", save_all=True, append_images=[FILM.rotate(90)]), 2),
    "webp": (lambda: encoded(FILM.convert("RGB"), "WEBP", lossless=True), 0.5),
    "pgm": (lambda: encoded(FILM, "PPM"), 0),
    "uint16 array": (lambda: WIDE, 0.5),
    "float array": (lambda: LEVELS / 255, 0.5),
    "dicom": (lambda: dicom_files.saved(dicom_files.dataset(LEVELS)), 0),
    "dicom 12 bits": (
        lambda: dicom_files.saved(dicom_files.dataset(WIDE, bits=12, WindowCenter=2048, WindowWidth=4096)),
        0.5,
    ),
    "dicom inverted": (
        lambda: dicom_files.saved(dicom_files.dataset(255 - LEVELS, PhotometricInterpretation="MONOCHROME1")),
        0,
    ),
    "dicom jpeg": (lambda: dicom_files.saved(dicom_files.as_jpeg(FILM)), 2),
}


@pytest.mark.parametrize("form", FORMS)
def test_one_film_in_every_format_gives_the_same_pixels(form: str) -> None:
    make, tolerance = FORMS[form]
    difference = preprocess_grey(make()).astype(int) - preprocess_grey(FILM)
    assert np.abs(difference).mean() <= tolerance


def test_a_wrong_extension_is_read_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "film.png"
    path.write_bytes(encoded(FILM, "BMP"))
    assert open_grey(path).tobytes() == FILM.tobytes()


def test_an_animation_says_that_only_its_first_picture_was_taken() -> None:
    assert "first" in open_picture(FORMS["gif animated"][0]()).warnings[0]
    assert open_picture(FORMS["gif"][0]()).warnings == ()


@pytest.mark.parametrize("resolutions", [1, 2, 6])
def test_a_jpeg_2000_of_few_resolutions_is_reduced_no_further_than_it_goes(resolutions: int) -> None:
    film = FILM.resize((1800, 1800))  # a quarter is enough
    difference = preprocess_grey(encoded(film, "JPEG2000", num_resolutions=resolutions)).astype(int)
    assert np.abs(difference - preprocess_grey(film)).mean() < 2


def test_a_large_jpeg_2000_is_halved_and_its_size_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_jpeg2000, "WHOLE_PIXELS", 20_000)
    picture = open_picture(encoded(FILM, "JPEG2000"))
    assert (picture.image.size, picture.full_size) == ((128, 128), (256, 256))
    assert explained(encoded(FILM, "JPEG2000"), Options.of()).size == (256, 256)
    assert open_picture(encoded(FILM, "PNG")).full_size is None
    with pytest.raises(InvalidImage, match=r"256x256 that holds no smaller scale.* limit for such is 20,000 pixels"):
        open_picture(encoded(FILM, "JPEG2000", num_resolutions=1))


# Truncated


def cut_and_closed(jpeg: bytes, share: float) -> bytes:
    """A JPEG cut off in its data, with an end marker: libjpeg takes it for whole, and fills it up with grey."""
    return jpeg[: int(share * len(jpeg))].rstrip(b"\xff") + b"\xff\xd9"


@pytest.mark.parametrize("share", [0.3, 0.6, 0.8])
@pytest.mark.parametrize("mode", ["L", "RGB"])
# A progressive one at 1/8 of its scale needs its first scan only, which is whole.
@pytest.mark.parametrize(("at_least", "progressive"), [(None, False), (32, False), (None, True)])
def test_a_jpeg_that_was_cut_and_closed_again_is_refused(
    share: float, mode: str, at_least: int | None, progressive: bool
) -> None:
    whole = encoded(FILM.convert(mode), "JPEG", quality=90, progressive=progressive)
    open_grey(whole, at_least=at_least)
    with pytest.raises(InvalidImage, match="ends before the picture does"):
        open_grey(cut_and_closed(whole, share), at_least=at_least)


@pytest.mark.parametrize("size", [(897, 896), (1001, 1000), (1793, 1792), (1794, 1796)])
@pytest.mark.parametrize(("progressive", "foot"), [(True, 0), (False, 40)])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_whose_sides_no_scale_divides_is_taken_at_every_scale(
    size: tuple[int, int], progressive: bool, foot: int, mode: str
) -> None:
    film = FILM.resize(size)
    film.paste(0, (0, size[1] - foot, *size))
    whole = encoded(film.convert(mode), "JPEG", quality=80, progressive=progressive)
    assert min(open_grey(whole, at_least=448).size) in range(448, 600)
    with pytest.raises(InvalidImage, match="ends before the picture does"):
        open_grey(cut_and_closed(whole, 0.3), at_least=448)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("level", [0, 128])
def test_a_whole_film_with_a_flat_foot_is_taken(mode: str, progressive: bool, level: int) -> None:
    film = FILM.copy()
    film.paste(level, (0, 200, 256, 256))
    open_grey(encoded(film.convert(mode), "JPEG", quality=90, progressive=progressive, optimize=True))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_truncation_is_seen_even_where_pillow_was_told_to_fill_up(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = encoded(FILM, kind)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    open_grey(whole)
    with pytest.raises(InvalidImage, match="ends before"):
        open_grey(whole[: len(whole) // 2])


# Bombs and lies


def png(width: int, height: int, data: bytes, *, bits: int = 8) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([bits, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (png(40_000, 40_000, b""), "larger than the limit|over the limit"),
        (png(2000, 2000, zlib.compress(bytes(100))), "damaged or truncated"),
        (png(64, 64, zlib.compress(bytes(50_000_000))), "damaged|same level"),
        (png(64, 0, b""), "damaged|too small|no picture"),
    ],
    ids=["bomb", "too little data", "too much data", "no height"],
)
def test_a_header_that_lies_costs_an_invalid_image(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidImage, match=reason):
        open_grey(data)


@pytest.mark.parametrize(("huffman", "arithmetic"), [(0xC0, 0xC9), (0xC2, 0xCA)])
def test_a_jpeg_with_arithmetic_coding_is_refused_for_what_it_is_and_not_as_damaged(
    huffman: int, arithmetic: int
) -> None:
    film = encoded(FILM, "JPEG", progressive=huffman == 0xC2)
    header = film.index(bytes((0xFF, huffman)))
    # The data behind the header is Huffman's still: it is refused before it is decoded.
    with pytest.raises(InvalidImage, match=r"arithmetic coding.*jpegtran -optimize"):
        open_grey(film[:header] + bytes((0xFF, arithmetic)) + film[header + 2 :])
    # The same two bytes where they are no header say nothing.
    comment = bytes((0xFF, 0xFE, 0, 4, 0xFF, arithmetic))
    np.testing.assert_array_equal(open_grey(film[:2] + comment + film[2:]), open_grey(film))


@pytest.mark.parametrize("progressive", [False, True])
def test_what_a_camera_has_put_behind_the_picture_is_none_of_its_scans(progressive: bool) -> None:
    """A phone's moving picture: a film whose bytes now and then look like the beginning of a scan."""
    jpeg = encoded(FILM, "JPEG", progressive=progressive)
    np.testing.assert_array_equal(open_grey(jpeg + b"video\xff\xda" * 5000), open_grey(jpeg))


def test_a_progressive_jpeg_of_endless_scans_is_refused() -> None:
    jpeg = encoded(FILM, "JPEG", progressive=True)
    last = jpeg.rfind(b"\xff\xda")
    bomb = jpeg[:-2] + jpeg[last:-2] * 5000 + b"\xff\xd9"
    with pytest.raises(InvalidImage, match="scans"):
        open_grey(bomb)


def test_scans_are_counted_no_further_than_it_takes_to_refuse_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of nothing else would keep its reader busy for long."""
    jpeg = encoded(FILM, "JPEG", progressive=True)
    monkeypatch.setattr(_intact, "markers", lambda data: itertools.repeat((0xDA, 0)))
    with pytest.raises(_intact.Damaged, match="101 scans or more"):
        _intact.check_before_decoding(jpeg + b"\xff\xda" * 20, FILM.width * FILM.height)


def test_colours_of_12_bits_in_16_are_refused_and_not_scored_in_the_dark() -> None:
    height, width = WIDE.shape
    rows = np.repeat(WIDE[:, :, None], 3, axis=2).astype(">u2").reshape(height, -1).view(np.uint8)
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    data = png(width, height, zlib.compress(lines), bits=16)
    colour = bytearray(data)
    colour[25] = 2  # RGB
    colour[29:33] = zlib.crc32(bytes(colour[12:29])).to_bytes(4, "big")
    with pytest.raises(InvalidImage, match="16-bit colour"):
        open_grey(bytes(colour))


def test_a_tiff_of_16_bit_colour_is_refused_where_it_holds_12_bits() -> None:
    deep, dark = (np.repeat(levels[:, :, None], 3, axis=2) for levels in (LEVELS.astype("<u2") * 257, WIDE))
    assert np.array_equal(open_grey(tiff(deep, photometric=2)), LEVELS)
    with pytest.raises(InvalidImage, match="16-bit colour"):
        open_grey(tiff(dark, photometric=2))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["classify", "explain"])
@pytest.mark.parametrize("kind", largest_files.KINDS)
def test_the_largest_picture_costs_less_than_5_seconds_and_a_gigabyte(kind: str, way: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.client.largest_files", kind, way], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    seconds, peak = map(float, done.stdout.split())
    assert seconds < 5
    assert peak < 2**30


@pytest.mark.slow
def test_memory_stays_flat_over_many_mixed_calls() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.client.mixed_calls"], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    early, late = map(int, done.stdout.split())
    assert late - early < 16 * 2**20


# Anything at all

BOUNDED = settings(max_examples=150)
DICOMS = [
    dicom_files.saved(dicom_files.dataset(WIDE[::4, ::4], bits=12, WindowCenter=2048, WindowWidth=4096)),
    dicom_files.saved(dicom_files.as_jpeg(FILM.resize((64, 64)))),
    dicom_files.saved(dicom_files.as_jpeg2000(FILM.resize((64, 64)))),
]


def outcome(source: Any) -> str:
    """The mode of the picture, or why it is none; any other error passes through."""
    try:
        return open_grey(source).mode
    except InvalidImage as error:
        return str(error)


@pytest.mark.filterwarnings("ignore")
@BOUNDED
@given(
    st.sampled_from(DICOMS),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=12),
    st.lists(st.tuples(st.integers(130, 700), st.integers(0, 255)), max_size=6),
    st.floats(0.2, 1),
)
def test_mutated_dicom_raises_nothing_but_invalid_image(
    sample: bytes, edits: list[tuple[float, int]], header_edits: list[tuple[int, int]], keep: float
) -> None:
    data = bytearray(sample)
    for where, value in [(int(share * len(data)), value) for share, value in edits] + header_edits:
        data[where % len(data)] = value
    assert dicom_files.PATIENT not in outcome(bytes(data[: int(keep * len(data))]))


@BOUNDED
@given(
    st.sampled_from([np.uint8, np.uint16, np.int16, np.int64, np.float16, np.float32, np.float64, np.complex64]),
    st.integers(0, 3),
    st.floats(allow_nan=True, allow_infinity=True, width=16),
    st.floats(-70000, 70000),
)
def test_an_array_is_a_picture_or_an_invalid_image(dtype: Any, channels: int, low: float, high: float) -> None:
    with np.errstate(all="ignore"):
        ramp = np.linspace(low, high, 64 * 64 * max(channels, 1)).astype(dtype)
    array = ramp.reshape((64, 64, channels) if channels else (64, 64))
    assert outcome(array) == "L" or outcome(array).startswith("<array>: ")
