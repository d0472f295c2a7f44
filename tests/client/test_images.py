from __future__ import annotations

import errno
import io
import os
import threading
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from densescan._levels import scale_to_8_bits
from densescan.errors import InvalidImage
from densescan.images import describe, open_grey, read_bytes


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def ramp(width: int = 64, height: int = 48) -> Image.Image:
    """Black at the left, white at the right."""
    return Image.fromarray(np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1)))


RAMP = ramp()
PNG = encoded(RAMP, "PNG")
JPEG = encoded(RAMP, "JPEG", quality=90)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000", "PPM"])
def test_every_listed_format_decodes_to_the_same_grey(kind: str) -> None:
    grey = open_grey(encoded(RAMP, kind))
    assert (grey.mode, grey.size) == ("L", RAMP.size)
    assert np.abs(np.asarray(grey, int) - np.asarray(RAMP, int)).mean() < 3


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview, io.BytesIO])
def test_encoded_bytes_are_taken_in_every_wrapping(wrap: Callable[[bytes], Any]) -> None:
    assert open_grey(wrap(PNG)).tobytes() == RAMP.tobytes()


def test_paths_are_taken_as_text_or_path(tmp_path: Path) -> None:
    path = tmp_path / "a b.png"
    path.write_bytes(PNG)
    with path.open("rb") as file:
        for source in (path, str(path), file):
            assert open_grey(source).tobytes() == RAMP.tobytes()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16"])
def test_pil_images_of_every_mode_become_grey(mode: str) -> None:
    image = Image.fromarray(np.asarray(RAMP, np.uint16) * 257) if mode == "I;16" else RAMP.convert("RGB").convert(mode)
    grey = np.asarray(open_grey(image), int)
    assert np.abs(grey.mean() - 127) < 4
    assert grey[:, 0].mean() < 5
    assert grey[:, -1].mean() > 250


def test_cmyk_jpeg_is_not_inverted() -> None:
    grey = np.asarray(open_grey(encoded(RAMP.convert("CMYK"), "JPEG")), int)
    assert grey[:, 0].mean() < 10
    assert grey[:, -1].mean() > 245


def test_what_is_transparent_becomes_black() -> None:
    image = Image.new("RGBA", (64, 64), (255, 255, 255, 0))
    image.paste((200, 200, 200, 255), (32, 0, 64, 64))
    grey = np.asarray(open_grey(encoded(image, "PNG")))
    assert (grey[:, :32].max(), grey[:, 32:].min()) == (0, 200)


def test_a_palette_with_a_transparent_entry_is_read_through_its_colours() -> None:
    palette = Image.new("P", (64, 64), 1)
    palette.putpalette([255, 0, 0, 200, 200, 200])
    palette.paste(0, (0, 0, 32, 64))
    assert set(np.asarray(open_grey(encoded(palette, "PNG", transparency=0))).ravel()) == {0, 200}


@pytest.mark.parametrize(("bits", "top"), [(8, 255), (10, 1023), (12, 4095), (14, 16383), (16, 65535)])
def test_16_bit_files_of_any_depth_use_the_whole_grey_range(bits: int, top: int) -> None:
    wide = np.rint(np.asarray(RAMP, np.float64) * (top / 255)).astype(np.uint16)
    for source in (encoded(Image.fromarray(wide), "PNG"), wide):
        grey = np.asarray(open_grey(source), int)
        assert np.abs(grey - np.asarray(RAMP, int)).max() <= 1, bits


def test_levels_outside_16_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="from -1 to 9"):
        scale_to_8_bits(np.array([[-1, 9]], np.int32))


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_exif_orientation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    grey = open_grey(encoded(RAMP, "JPEG", exif=exif, quality=95))
    turned = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_270, 8: Image.Transpose.ROTATE_90}[orientation]
    expected = RAMP.transpose(turned)
    assert grey.size == expected.size
    assert np.abs(np.asarray(grey, int) - np.asarray(expected, int)).mean() < 3


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_spoil_a_sound_picture() -> None:
    broken = b"Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08\x00\x05\xff\xff\xff"
    assert open_grey(encoded(RAMP, "JPEG", exif=broken)).size == RAMP.size


@pytest.mark.parametrize("shape", [(48, 64), (48, 64, 1), (48, 64, 3), (48, 64, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.bool_])
def test_arrays_of_every_accepted_shape_and_dtype_become_grey(shape: tuple[int, ...], dtype: type) -> None:
    array = np.zeros(shape, dtype)
    array[:, 32:] = 200
    grey = np.asarray(open_grey(array))
    white = {np.uint8: 200, np.uint16: 200, np.bool_: 255}[dtype]
    assert grey.shape == (48, 64)
    if shape[-1] != 4:  # there, what is dark is transparent as well
        assert (grey[:, :32].max(), grey[:, 32:].min()) == (0, white)


@pytest.mark.parametrize(
    ("dtype", "white", "opaque"),
    [(np.uint16, 4095, 65535), (np.uint16, 4095, 4095), (np.float32, 1, 255), (np.float64, 255, 1)],
)
def test_alpha_may_have_another_range_than_the_colours(dtype: type, white: int, opaque: int) -> None:
    levels = (np.asarray(RAMP, np.float64) * (white / 255)).astype(dtype)
    array = np.dstack([levels, levels, levels, np.full_like(levels, opaque)])
    assert np.abs(np.asarray(open_grey(array), int) - np.asarray(RAMP, int)).max() <= 1


@pytest.mark.parametrize("white", [1.0, 255.0])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_taken_from_0_to_1_and_from_0_to_255(white: float, dtype: type) -> None:
    levels = (np.asarray(RAMP, np.float64) / 255 * white).astype(dtype)
    assert np.abs(np.asarray(open_grey(levels), int) - np.asarray(RAMP, int)).max() <= 1


def test_a_float_tiff_is_taken_like_a_float_array() -> None:
    image = Image.fromarray(np.asarray(RAMP, np.float32) / 255)
    assert open_grey(encoded(image, "TIFF")).tobytes() == RAMP.tobytes()


def test_an_array_is_taken_as_it_is_even_when_strided() -> None:
    array = np.asarray(RAMP)
    assert np.array_equal(np.asarray(open_grey(array[::-1, ::-1])), array[::-1, ::-1])


def noise(low: float, high: float) -> npt.NDArray[np.float64]:
    return np.linspace(low, high, 64 * 64).reshape(64, 64)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((64, 64), np.int16), r"dtype int16.*array\.astype\(np\.uint8\)"),
        (np.full((64, 64), -1000, np.int32), "dtype int32.*run from -1000 to -1000: shift and scale"),
        (np.zeros((64, 64), object), "dtype object"),
        (np.zeros(64, np.uint8), r"shape \(64,\)"),
        (np.zeros((2, 64, 64, 3), np.uint8), r"shape \(2, 64, 64, 3\).*classify_many"),
        (np.zeros((64, 64, 2), np.uint8), r"shape \(64, 64, 2\).*alpha: array\[\.\.\., 0\]"),
        (np.zeros((64, 64, 9), np.uint8), r"of \[height, width, n\] array\[\.\.\., 0\]"),
        (np.zeros((3, 64, 64), np.uint8), r"shape \(3, 64, 64\).*transpose\(1, 2, 0\)"),
        (noise(-1, 1), r"normalised to -1\.\.1\. Undo it: \(x \+ 1\) / 2"),
        (noise(-1024, 1024), r"normalised to -1024\.\.1024.*Undo it: \(x \+ 1024\) / 2048"),
        (noise(-2.1, 2.6), r"a mean and a deviation\. Undo it: x \* deviation \+ mean"),
        (noise(0, 5), "fits neither"),
        (noise(0, 4095), "fits neither"),
        (noise(0, 256), "fits neither"),
        (noise(0, 1.01), "fits neither"),
        (np.full((64, 64), np.nan), "not every level is a finite number"),
        (noise(0, 1).round().astype(np.uint8), "looks like 0..1 cast to whole numbers"),
        (noise(0, 1).round().astype(np.uint16), "looks like 0..1 cast to whole numbers"),
        (np.full((64, 64), 7, np.uint8), "all pixels have the same level"),
        (np.full((64, 64), 0.5), "all pixels have the same level"),
        (np.zeros((0, 64), np.uint16), "empty"),
        (np.zeros((1, 1), np.uint8), "1x1 is too small"),
        (np.zeros((40, 400), np.uint8), "400x40 is a strip"),
    ],
)
def test_other_arrays_are_refused_with_the_reason(array: npt.NDArray[Any], reason: str) -> None:
    with pytest.raises(InvalidImage, match=f"(?s)<array>: .*{reason}"):
        open_grey(array)


@pytest.mark.parametrize("place", [(0, 0), (17, 40), (63, 63)])
def test_one_pixel_that_differs_makes_a_picture(place: tuple[int, int]) -> None:
    levels = np.full((64, 64), 7, np.uint8)
    levels[place] = 200
    assert open_grey(levels).getextrema() == (7, 200)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("notes.txt", b"no picture at all\n" * 20, "is no picture"),
        ("empty.png", b"", "the file is empty"),
        ("cut.jpg", JPEG[: len(JPEG) // 2], "damaged or truncated"),
        ("cut.png", PNG[: len(PNG) // 2], "damaged or truncated"),
        ("head.png", PNG[:20], "damaged|no picture"),
        ("one.png", encoded(Image.new("L", (1, 1)), "PNG"), "1x1 is too small"),
        ("strip.png", encoded(Image.new("L", (640, 64)), "PNG"), "640x64 is a strip"),
        ("page.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is no picture"),
        ("page.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n", "is no picture"),
        ("page.html", b"<!doctype html><script>alert(1)</script>" + bytes(64), "is no picture"),
        ("tool.png", b"#!/bin/sh\nexit 1\n" + PNG, "is no picture"),
        ("scan.dcm", bytes(128) + b"DICM" + bytes(200), "is DICOM without|damaged"),
        ("float.tif", encoded(Image.new("F", (64, 64), -0.5), "TIFF"), "levels run from -0.5"),
        ("blank.png", encoded(Image.new("L", (64, 64), 9), "PNG"), "all pixels have the same level"),
    ],
)
def test_files_that_are_no_picture_are_refused_by_name_and_reason(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InvalidImage, match=reason) as caught:
        open_grey(path)
    assert caught.value.source == str(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_missing_path_a_folder_and_a_null_byte_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidImage, match="no such file"):
        open_grey(tmp_path / "missing.png")
    with pytest.raises(InvalidImage, match="is a directory"):
        open_grey(tmp_path)
    with pytest.raises(InvalidImage, match="cannot be read"):
        open_grey("a\0b.png")


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "/".join(["x" * 200] * 30)])
def test_a_name_that_the_system_does_not_take_is_refused_like_any_other(name: str) -> None:
    with pytest.raises(InvalidImage, match="File name too long"):
        open_grey(name)


class Broken(io.BytesIO):
    name = "film.png"

    def read(self, size: int | None = -1) -> bytes:
        raise OSError(errno.ESTALE, "Stale file handle")


def closed() -> io.BytesIO:
    file = io.BytesIO(PNG)
    file.close()
    return file


@pytest.mark.parametrize(("file", "reason"), [(Broken(), "film.png: cannot be read: Stale"), (closed(), "closed file")])
def test_a_file_object_that_cannot_be_read_spoils_only_itself(file: io.BytesIO, reason: str) -> None:
    with pytest.raises(InvalidImage, match=reason):
        open_grey(file)


def test_a_pipe_without_a_buffer_is_read_to_its_end() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 400), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "PNG")
    assert len(stream.getvalue()) > 2 * 65_536  # as much as a pipe holds
    reading, writing = os.pipe()

    def write() -> None:
        with open(writing, "wb") as file:
            file.write(stream.getvalue())

    thread = threading.Thread(target=write)
    thread.start()
    with open(reading, "rb", buffering=0) as file:
        assert np.array_equal(open_grey(file), noise)
    thread.join()


def test_a_file_object_that_was_read_before_is_not_called_empty() -> None:
    file = io.BytesIO(b"picture")
    file.read()
    with pytest.raises(InvalidImage, match=r"seek\(0\) first"):
        open_grey(file)
    with pytest.raises(InvalidImage, match="the file is empty"):
        open_grey(io.BytesIO())


def test_a_member_of_an_archive_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "films.zip", "w") as archive:
        archive.writestr("a.png", b"")
    with pytest.raises(TypeError, match=r"what its open\('rb'\) gives"):
        open_grey(zipfile.Path(tmp_path / "films.zip", "a.png"))  # type: ignore[arg-type]


def test_a_text_file_object_is_refused_with_the_remedy() -> None:
    with pytest.raises(InvalidImage, match="open it with mode 'rb'"):
        open_grey(io.StringIO("text"))  # type: ignore[arg-type]


def test_a_file_object_to_be_awaited_is_refused_with_the_remedy() -> None:
    class Upload:
        async def read(self, size: int = -1) -> bytes:
            return PNG

    with pytest.raises(InvalidImage, match=r"<Upload>: .*pass the bytes that `await file.read\(\)` answers"):
        open_grey(Upload())  # type: ignore[arg-type]


@pytest.mark.parametrize("source", [None, 7, ["a.png"], {"path": "a.png"}])
def test_what_holds_no_image_is_a_type_error_that_names_the_accepted_kinds(source: Any) -> None:
    with pytest.raises(TypeError, match="pass a path, bytes, a binary file object, a PIL image, a NumPy array"):
        open_grey(source)


def test_a_pixel_bomb_is_refused_by_its_header_before_it_is_decoded() -> None:
    bomb = encoded(Image.new("1", (20_000, 10_000)), "PNG")
    assert len(bomb) < 50_000
    with pytest.raises(InvalidImage, match=r"larger than the limit of 50,000,000 pixels"):
        open_grey(bomb)


def test_a_limit_above_pillows_own_is_told_from_it() -> None:
    bomb = encoded(Image.new("1", (20_000, 10_000)), "PNG")
    with pytest.raises(InvalidImage, match=r"larger than the limit of 178,956,970 pixels that Pillow has"):
        open_grey(bomb, max_pixels=10**9)


def test_limits_can_be_set_by_the_caller() -> None:
    with pytest.raises(InvalidImage, match=r"64x48 is over the limit of 1,000 pixels \(max_pixels\)"):
        open_grey(PNG, max_pixels=1000)
    with pytest.raises(InvalidImage, match=r"limit of 10 bytes \(max_bytes\)"):
        open_grey(PNG, max_bytes=10)


def test_a_limit_is_the_largest_that_is_taken() -> None:
    data = encoded(RAMP, "PNG")
    pixels = RAMP.width * RAMP.height
    assert open_grey(data, max_pixels=pixels, max_bytes=len(data)).size == RAMP.size
    assert open_grey(np.asarray(RAMP), max_pixels=pixels).size == RAMP.size
    for limits in ({"max_pixels": pixels - 1}, {"max_bytes": len(data) - 1}):
        with pytest.raises(InvalidImage, match="the limit of"):
            open_grey(data, **limits)


def test_no_more_of_a_file_object_is_read_than_the_limit_needs() -> None:
    file = io.BytesIO(bytes(1000))
    with pytest.raises(InvalidImage):
        read_bytes(file, max_bytes=10)
    assert file.tell() == 11


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("dir/a.png", "dir/a.png"),
        (Path("dir/a.png"), "dir/a.png"),
        (b"..", "<bytes>"),
        (RAMP, "<PIL image>"),
        (np.zeros(1), "<array>"),
        (io.BytesIO(), "<BytesIO>"),
    ],
)
def test_a_source_is_named_without_its_content(source: Any, name: str) -> None:
    assert describe(source) == name


def test_decoding_in_threads_leaves_the_warning_filters_alone() -> None:
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [open_grey(PNG) for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


FUZZ = settings(max_examples=60)


def decodes_or_is_refused(data: bytes) -> None:
    try:
        grey = open_grey(data, at_least=448)
    except InvalidImage:
        return
    assert grey.mode == "L"


@FUZZ
@given(st.binary(max_size=400))
def test_random_bytes_raise_nothing_but_invalid_image(data: bytes) -> None:
    decodes_or_is_refused(data)


SAMPLES = [
    encoded(RAMP, "TIFF", compression="tiff_lzw"),
    encoded(
        RAMP, "JPEG", exif=b"Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06"
    ),
    *[encoded(RAMP, kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "PPM", "JPEG2000")],
]


@pytest.mark.filterwarnings("ignore")  # Pillow warns of odd metadata
@FUZZ
@given(
    st.sampled_from(SAMPLES),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=12),
    st.floats(0.2, 1),
)
def test_mutated_pictures_raise_nothing_but_invalid_image(
    sample: bytes, edits: list[tuple[float, int]], keep: float
) -> None:
    data = bytearray(sample)
    for where, value in edits:
        data[int(where * len(data))] = value
    decodes_or_is_refused(bytes(data[: max(1, int(keep * len(data)))]))
