from __future__ import annotations

import io
import logging
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from densescan import Classification, Client, InvalidImage, _encoded, _jpeg2000, frames
from densescan.images import open_grey, open_picture

from .dicom_files import PATIENT, PATIENT_ID, as_htj2k, as_jpeg, as_jpeg2000, dataset, ht_ramp, lookup, saved
from .fake_server import FakeTriton

Levels = npt.NDArray[Any]

RAMP: Levels = np.tile(np.arange(256, dtype=np.uint16), (64, 1))


def grey(source: Any) -> npt.NDArray[np.int64]:
    return np.asarray(open_grey(source), np.int64)


def test_bytes_path_file_object_and_dataset_give_the_same_picture(tmp_path: Path) -> None:
    file = dataset(RAMP.astype(np.uint8))
    path = tmp_path / "film.dcm"
    path.write_bytes(saved(file))
    for source in (path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), file, dcmread(path)):
        assert np.array_equal(grey(source), RAMP)


# What a stored value means


def test_a_window_maps_its_lower_edge_to_black_and_its_upper_edge_to_white() -> None:
    stored = np.tile(np.arange(1024, dtype=np.uint16), (512, 1))
    seen = grey(dataset(stored, bits=12, WindowCenter=500, WindowWidth=201))[0]
    # PS3.3 C.11.2.1.2.1: from c - 0.5 - (w - 1) / 2 to c - 0.5 + (w - 1) / 2.
    assert seen[399] == 0
    assert seen[400] > 0
    assert seen[599] in (254, 255)
    assert seen[600] == 255
    assert seen[499] == pytest.approx(127, abs=1)


def test_a_window_of_width_1_is_a_threshold() -> None:
    seen = grey(dataset(RAMP, bits=12, WindowCenter=100, WindowWidth=1))[0]
    # PS3.3 C.11.2.1.2.1: black up to c - 0.5, white above.
    assert (seen[:100] == 0).all()
    assert (seen[100:] == 255).all()


@pytest.mark.parametrize(("function", "at_400", "at_600"), [("LINEAR_EXACT", 0, 255), ("SIGMOID", 30, 225)])
def test_the_other_window_functions_are_followed(function: str, at_400: int, at_600: int) -> None:
    stored = np.tile(np.arange(1024, dtype=np.uint16), (512, 1))
    seen = grey(dataset(stored, bits=12, WindowCenter=500, WindowWidth=200, VOILUTFunction=function))[0]
    assert seen[500] == pytest.approx(127.5, abs=1)
    assert (seen[400], seen[600]) == (pytest.approx(at_400, abs=1), pytest.approx(at_600, abs=1))


def test_the_first_of_several_windows_is_used() -> None:
    once = grey(dataset(RAMP, bits=12, WindowCenter=100, WindowWidth=50))
    twice = grey(dataset(RAMP, bits=12, WindowCenter=[100, 200], WindowWidth=[50, 20]))
    assert np.array_equal(once, twice)


def test_the_window_is_in_rescaled_units() -> None:
    plain = grey(dataset(RAMP, bits=12, WindowCenter=128, WindowWidth=100))
    shifted = grey(
        dataset(RAMP, bits=12, RescaleSlope=2, RescaleIntercept=-1024, WindowCenter=-1024 + 256, WindowWidth=199)
    )
    assert np.abs(plain - shifted).max() <= 2


def test_signed_values_run_from_negative_to_positive() -> None:
    stored = (RAMP.astype(np.int16) - 128) * 8
    assert np.abs(grey(dataset(stored)) - RAMP).max() <= 1
    low = grey(dataset(stored, WindowCenter=-512, WindowWidth=1025))
    assert low[0, 0] == 0
    assert low[0, 128] == 255


def test_monochrome1_is_inverted() -> None:
    assert np.array_equal(grey(dataset(RAMP.astype(np.uint8), PhotometricInterpretation="MONOCHROME1")), 255 - RAMP)
    window = {"WindowCenter": 100, "WindowWidth": 50}
    bright = grey(dataset(RAMP, bits=12, **window))
    dark = grey(dataset(RAMP, bits=12, PhotometricInterpretation="MONOCHROME1", **window))
    assert np.array_equal(dark, 255 - bright)


def test_without_a_window_the_darkest_is_black_and_the_brightest_white() -> None:
    seen = grey(dataset(RAMP * 3 + 1000, bits=12))
    assert np.abs(seen - RAMP).max() <= 1


def test_a_voi_table_comes_before_a_window() -> None:
    table = np.linspace(4095, 0, 256).astype(np.uint16)
    file = dataset(RAMP, bits=12, WindowCenter=1, WindowWidth=2, VOILUTSequence=lookup(table, 0, 12, "US"))
    assert np.abs(grey(file) - (255 - RAMP)).max() <= 1
    assert np.array_equal(grey(saved(file)), grey(file))


def test_a_table_begins_at_its_first_value_and_holds_its_ends() -> None:
    table = np.arange(0, 1000, 10, dtype=np.uint16)
    seen = grey(dataset(RAMP.astype(np.int16) - 128, VOILUTSequence=lookup(table, -50, 10, "SS")))[0]
    assert seen[0] == seen[78] == 0
    assert seen[79] == round(10 / 1023 * 255)
    assert seen[-1] == seen[200] == round(990 / 1023 * 255)


def test_a_table_of_8_bits_may_hold_two_entries_a_word() -> None:
    table = np.arange(255, -1, -1, dtype=np.uint8)
    for entries in (256, 255):
        file = dataset(RAMP.astype(np.uint8), VOILUTSequence=lookup(table[:entries].astype(np.uint16), 0, 8, "US"))
        apart = grey(saved(file))
        packed = table[:entries].tobytes() + bytes(entries % 2)
        file.VOILUTSequence[0].add_new("LUTData", "OW", packed)
        assert np.array_equal(apart[0, :255], 255 - RAMP[0, :255])
        assert np.array_equal(grey(saved(file)), apart)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_a_table_behind_a_negative_intercept_begins_below_zero(syntax: Any) -> None:
    table = np.linspace(0, 4095, 256).astype(np.uint16)
    kind = "SS" if syntax == ExplicitVRLittleEndian else "US"  # the other syntax does not write it down
    first = -1024 if kind == "SS" else 65536 - 1024
    elements = {"RescaleSlope": 1, "RescaleIntercept": -1024, "VOILUTSequence": lookup(table, first, 12, kind)}
    assert np.abs(grey(saved(dataset(RAMP, bits=12, syntax=syntax, **elements))) - RAMP).max() <= 1


def test_a_table_in_the_upper_half_of_unsigned_values_begins_where_it_says() -> None:
    table = np.linspace(0, 4095, 256).astype(np.uint16)
    file = dataset(RAMP + 40_000, VOILUTSequence=lookup(table, 40_000, 12, "US"))
    assert np.abs(grey(saved(file)) - RAMP).max() <= 1


def test_a_modality_table_comes_before_the_window() -> None:
    table = np.arange(256, dtype=np.uint16)[::-1] * 4
    file = dataset(RAMP, bits=12, ModalityLUTSequence=lookup(table, 0, 10, "US"), WindowCenter=512, WindowWidth=1021)
    assert np.abs(grey(file) - (255 - RAMP)).max() <= 1


def damaged_table(damage: str) -> Any:
    (item,) = lookup(np.linspace(4095, 0, 256).astype(np.uint16), 0, 12, "US")
    if damage == "no data":
        del item.LUTData
    else:
        descriptor = {"two numbers": [256, 0], "of 4 bits": [256, 0, 4], "of 32 bits": [256, 0, 32]}[damage]
        item.add_new("LUTDescriptor", "US", descriptor)
    return [item]


@pytest.mark.parametrize("keyword", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize("damage", ["no data", "two numbers", "of 4 bits", "of 32 bits"])
def test_a_damaged_table_is_as_if_there_were_none(keyword: str, damage: str) -> None:
    window = {"WindowCenter": 128, "WindowWidth": 100}
    file = dataset(RAMP, bits=12, **window, **{keyword: damaged_table(damage)})
    assert np.array_equal(grey(saved(file)), grey(dataset(RAMP, bits=12, **window)))


def test_a_film_that_is_all_padding_is_refused() -> None:
    file = dataset(RAMP, bits=12, PixelPaddingValue=0, PixelPaddingRangeLimit=255)
    with pytest.raises(InvalidImage, match="same level"):
        open_grey(saved(file))


def test_padding_is_black_and_does_not_stretch_the_range() -> None:
    stored = RAMP + 1000
    stored[:, :20] = 0
    seen = grey(dataset(stored, bits=12, PixelPaddingValue=0))
    assert seen[0, :20].max() == 0
    assert seen[0, -1] == 255
    assert seen[0, 21] < 5, "counting the padding, the darkest would be nearly white"
    inverted = grey(dataset(stored, bits=12, PixelPaddingValue=0, PhotometricInterpretation="MONOCHROME1"))
    assert inverted[0, :20].max() == 0


@pytest.mark.parametrize(
    ("function", "width"),
    [("SIGMOID", 0), ("SIGMOID", -5), ("LINEAR_EXACT", 0), ("LINEAR_EXACT", -5), ("LINEAR", 0.5), ("LINEAR", -5)],
)
def test_a_width_that_its_function_does_not_take_is_as_if_there_were_no_window(function: str, width: float) -> None:
    window = {"WindowCenter": 100, "WindowWidth": width, "VOILUTFunction": function}
    assert np.array_equal(grey(dataset(RAMP * 8, bits=12, **window)), grey(dataset(RAMP * 8, bits=12)))


@pytest.mark.parametrize("width", ["0", "-5", "", "wide"])
def test_a_window_that_is_none_is_as_if_there_were_none(width: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = dataset(RAMP * 8, bits=12)
        raw = saved(file)
        file.WindowCenter = "100"
        file.add_new("WindowWidth", "LO", width)
    assert np.array_equal(grey(file), grey(raw))


# Compression and layout


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("bits", [8, 12])
def test_lossless_compression_changes_nothing(syntax: Any, bits: int) -> None:
    stored = RAMP.astype(np.uint8) if bits == 8 else RAMP * 16
    file = dataset(stored, bits=bits, WindowCenter=2 ** (bits - 1), WindowWidth=2**bits)
    expected = grey(file)
    file.compress(syntax)
    assert np.array_equal(grey(saved(file)), expected)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_implicit_and_big_endian_are_read_the_same(syntax: Any) -> None:
    window = {"WindowCenter": 2000, "WindowWidth": 3000, "PixelPaddingValue": 16}
    expected = grey(saved(dataset(RAMP * 16, bits=12, **window)))
    stored = (RAMP * 16).astype(">u2" if syntax == ExplicitVRBigEndian else "<u2")
    assert np.array_equal(grey(saved(dataset(stored, bits=12, syntax=syntax, **window))), expected)


def test_jpeg_and_jpeg_2000_frames_are_read(film: Image.Image) -> None:
    expected = np.asarray(film, int)
    assert np.abs(grey(saved(as_jpeg(film))) - expected).mean() < 2
    assert np.array_equal(grey(saved(as_jpeg2000(film))), expected)


def test_high_throughput_jpeg_2000_is_read_without_loss() -> None:
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    expected = grey(dataset(ht_ramp(), bits=12, **window))
    assert len(np.unique(expected)) > 100
    assert np.array_equal(grey(saved(as_htj2k(**window))), expected)


def test_a_jpeg_frame_with_fill_bytes_before_its_markers_is_read(film: Image.Image) -> None:
    """ITU T.81 B.1.1.2: any marker may follow any number of bytes 0xff."""
    file = as_jpeg(film)
    expected = grey(saved(file))
    (frame,) = generate_frames(file.PixelData, number_of_frames=1)
    for marker in (b"\xff\xdb", b"\xff\xc0"):
        frame = frame.replace(marker, b"\xff\xff" + marker, 1)
    file.PixelData = encapsulate([frame])
    assert np.array_equal(grey(saved(file)), expected)


@pytest.mark.parametrize(
    "frame",
    [b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\x00\x04ab no marker", b"\xff\x4f\xff\x51\x00", b"no codestream at all"],
)
def test_a_frame_that_announces_no_size_is_refused_before_it_is_decoded(frame: bytes, film: Image.Image) -> None:
    file = as_jpeg(film)
    file.PixelData = encapsulate([frame])
    with pytest.raises(InvalidImage, match="with a frame of nothing that is read"):
        open_grey(saved(file))


@pytest.mark.parametrize("make", [as_jpeg, as_jpeg2000])
def test_colour_frames_become_their_luma(make: Any, film: Image.Image) -> None:
    tinted = Image.merge("RGB", [film, film.point(lambda level: level // 2), film])
    colours = {"PhotometricInterpretation": "YBR_FULL_422" if make is as_jpeg else "YBR_RCT"}
    expected = np.asarray(tinted.convert("L"), int)
    assert np.abs(grey(saved(make(tinted, **colours))) - expected).mean() < 3
    assert np.array_equal(grey(dataset(np.asarray(tinted))), expected)


@pytest.mark.parametrize(("bits", "signed"), [(6, False), (8, False), (12, False), (12, True), (16, True)])
def test_a_large_jpeg_2000_frame_is_halved_and_means_the_same(
    bits: int, signed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = 2**bits - 1
    stored = np.rint(np.tile(np.linspace(0, top, 256), (256, 1))) - (2 ** (bits - 1) if signed else 0)
    kind = f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}"
    file = dataset(stored.astype(kind), bits=bits, WindowCenter=stored.mean(), WindowWidth=top / 2)
    whole = grey(file)
    file.compress(JPEG2000Lossless)
    monkeypatch.setattr(_jpeg2000, "WHOLE_PIXELS", 20_000)
    picture = open_picture(saved(file))
    assert (picture.image.size, picture.full_size) == ((128, 128), (256, 256))
    level = 2 * 255 / top  # of stored values, in a window of half of them
    assert np.abs(np.asarray(picture.image, int) - whole[::2, ::2]).max() <= 5 + 2 * level


def test_a_large_jpeg_2000_frame_in_colour_becomes_its_luma(film: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_jpeg2000, "WHOLE_PIXELS", 20_000)
    tinted = Image.merge("RGB", [film, film.point(lambda level: level // 2), film])
    seen = open_grey(saved(as_jpeg2000(tinted, PhotometricInterpretation="YBR_RCT")))
    expected = tinted.convert("L").reduce(tinted.width // seen.width)
    assert seen.width < film.width
    assert np.abs(np.asarray(seen, int) - np.asarray(expected)).mean() < 3


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "has a palette"),
        ({"PixelRepresentation": 1}, "another sign than its header"),
        ({"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PhotometricInterpretation": "RGB"}, "damaged"),
    ],
)
def test_a_large_jpeg_2000_that_cannot_be_halved_is_refused(
    elements: dict[str, Any], reason: str, film: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_jpeg2000, "WHOLE_PIXELS", 20_000)
    with pytest.raises(InvalidImage, match=reason):
        open_grey(saved(as_jpeg2000(film, **elements)))


def test_colours_kept_as_luma_and_chroma_are_read(film: Image.Image) -> None:
    tinted = Image.merge("RGB", [film, film.point(lambda level: level // 2), film])
    file = dataset(np.asarray(tinted.convert("YCbCr")), PhotometricInterpretation="YBR_FULL")
    expected = np.asarray(tinted.convert("L"), int)
    assert np.abs(grey(file) - expected).max() <= 1
    file.compress(RLELossless)
    assert np.abs(grey(saved(file)) - expected).max() <= 1


def test_a_palette_is_read_through_its_colours() -> None:
    file = dataset(RAMP.astype(np.uint8), PhotometricInterpretation="PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        file.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [256, 0, 16])
        file.add_new(f"{colour}PaletteColorLookupTableData", "OW", (RAMP[0, ::-1] * 257).astype("<u2").tobytes())
    assert np.abs(grey(saved(file)) - (255 - RAMP)).max() <= 1


def test_of_a_palette_of_16_bits_the_upper_ones_count() -> None:
    file = dataset(RAMP.astype(np.uint8), PhotometricInterpretation="PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        file.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [256, 0, 16])
        file.add_new(f"{colour}PaletteColorLookupTableData", "OW", (RAMP[0].astype("<u2") * 256 + 7).tobytes())
    assert np.abs(grey(saved(file)) - RAMP).max() <= 1


def test_a_compression_without_a_decoder_is_named_with_the_remedy() -> None:
    file = as_jpeg(Image.fromarray(RAMP.astype(np.uint8)))
    file.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    with pytest.raises(InvalidImage, match=r"JPEG Lossless.*no decoder is installed"):
        open_grey(saved(file))


# Several frames


def series(count: int = 3) -> Levels:
    return np.stack([np.roll(RAMP, 10 * number, axis=1) for number in range(count)]).astype(np.uint16)


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEG2000Lossless])
def test_each_frame_is_a_picture_of_its_own(syntax: Any) -> None:
    file = dataset(series(), bits=12, WindowCenter=128, WindowWidth=256)
    if syntax is not None:
        file.compress(syntax)
    pictures = list(frames(saved(file)))
    assert [picture.source for picture in pictures] == ["<bytes>#1", "<bytes>#2", "<bytes>#3"]
    for number, picture in enumerate(pictures):
        assert np.abs(np.asarray(picture.image, int) - np.roll(RAMP, 10 * number, axis=1)).max() <= 1
        assert picture.modality == "DX"


def test_a_series_is_refused_as_one_picture_with_the_way_to_pass_it() -> None:
    with pytest.raises(InvalidImage, match=r"3 frames.*densescan\.frames"):
        open_grey(dataset(series(), bits=12))


def test_the_window_of_a_frame_comes_before_the_one_of_the_file() -> None:
    def group(centre: float) -> Dataset:
        window, item = Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth = centre, 21
        item.FrameVOILUTSequence = [window]
        return item

    file = dataset(series(2), bits=12, PerFrameFunctionalGroupsSequence=[group(50), group(200)])
    first, second = (np.asarray(picture.image) for picture in frames(saved(file)))
    assert first[0, 60] == 255
    assert second[0, 60 + 10] == 0


def test_every_frame_gets_a_result(fake: FakeTriton) -> None:
    with Client(fake.url) as client:
        results = list(client.classify_many("mri", frames(dataset(series(), bits=12, Modality="MR"))))
    assert [(result.source, result.warnings) for result in results] == [  # type: ignore[union-attr]
        (f"<DICOM dataset>#{number}", ()) for number in (1, 2, 3)
    ]


def test_a_frame_that_cannot_be_classified_is_an_outcome_among_the_others(fake: FakeTriton, tmp_path: Path) -> None:
    """As the slices of air at the ends of a volume."""
    levels = series()
    levels[1] = 0
    pages = tmp_path / "pages.tif"
    first, *others = [Image.fromarray(level.astype(np.uint8)) for level in levels]
    first.save(pages, save_all=True, append_images=others)
    with Client(fake.url) as client:
        for source in (dataset(levels, bits=12, Modality="MR"), pages):
            outcomes = list(client.classify_many("mri", frames(source)))
            assert [type(outcome) for outcome in outcomes] == [Classification, InvalidImage, Classification]
            assert str(outcomes[1].source).endswith("#2")
            assert "nothing to classify" in str(outcomes[1])


def test_other_files_have_frames_as_well(film: Image.Image, tmp_path: Path) -> None:
    for name in ("a.gif", "a.tif", "a.webp", "a.png"):
        path = tmp_path / name
        film.save(path, save_all=True, append_images=[film.rotate(90), film.rotate(180)])
        pictures = list(frames(path))
        assert [picture.source for picture in pictures] == [f"{path}#{number}" for number in (1, 2, 3)]
        assert np.abs(np.asarray(pictures[1].image, int) - np.asarray(film.rotate(90), int)).mean() < 8
        assert "the first; densescan.frames" in open_picture(path).warnings[0]
    assert [picture.source for picture in frames(film)] == ["<PIL image>"]


def test_a_page_over_the_limit_is_refused_by_its_name_before_it_is_decoded(
    film: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pages.tif"
    large = film.resize((film.width * 2, film.height * 2))
    film.save(path, save_all=True, append_images=[large, film])
    decoded: list[tuple[int, int]] = []
    load = _encoded._load
    monkeypatch.setattr(_encoded, "_load", lambda image: (decoded.append(image.size), load(image)))
    pages = frames(path, max_pixels=film.width * film.height)
    assert getattr(next(pages), "source", "") == f"{path}#1"
    refused = next(pages)
    assert isinstance(refused, InvalidImage)
    assert re.search(r"#2: .*limit of", str(refused))
    assert getattr(next(pages), "source", "") == f"{path}#3", "those behind it can be reached"
    assert decoded == [film.size, film.size]


# What the header says of it


@pytest.mark.parametrize(
    ("task", "elements", "warning"),
    [
        ("xray", {"Modality": "CT"}, "modality CT; a chest X-ray is CR or DX"),
        ("mri", {"Modality": "DX"}, "modality DX; a brain MRI slice is MR"),
        ("xray", {"ViewPosition": "LL"}, "lateral view"),
        ("xray", {"PresentationIntentType": "FOR PROCESSING"}, "FOR PROCESSING"),
        ("xray", {"Modality": "CR", "ViewPosition": "PA"}, None),
        ("mri", {"Modality": "MR"}, None),
        ("mri", {"Modality": "OT"}, None),
    ],
)
def test_a_wrong_kind_of_picture_is_a_warning_on_the_result(
    fake: FakeTriton, task: str, elements: dict[str, str], warning: str | None
) -> None:
    with Client(fake.url) as client:
        result = client.classify(task, dataset(RAMP, bits=12, **elements))
    assert len(result.warnings) == (0 if warning is None else 1)
    if warning is not None:
        assert warning in result.warnings[0]
        assert result.to_dict()["warnings"] == list(result.warnings)


# Files that are no picture, or attack


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"PixelData": b""}, "without pixel data"),
        ({"Rows": 8}, "256x8 is too small"),
        ({"Rows": 60_000, "Columns": 60_000}, "over the limit of 50,000,000 pixels"),
        ({"Rows": 128}, "damaged"),
        ({"BitsAllocated": 32}, "32 bits a sample"),
        ({"SamplesPerPixel": 2}, "2 samples"),
        ({"NumberOfFrames": 0}, "announces 0 frames"),
        ({"PhotometricInterpretation": "XYZ"}, "damaged|neither MONOCHROME"),
    ],
)
def test_what_holds_no_picture_is_refused(elements: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidImage, match=reason):
        open_grey(saved(dataset(RAMP, bits=12, **elements)))


def test_pixels_without_any_difference_are_refused() -> None:
    with pytest.raises(InvalidImage, match="same level"):
        open_grey(dataset(np.full((64, 64), 700, np.uint16), bits=12))


@pytest.mark.parametrize("make", [as_jpeg, as_jpeg2000])
def test_a_frame_larger_than_the_header_says_is_refused_before_it_is_decoded(make: Any) -> None:
    file = make(Image.new("L", (6000, 6000)))
    file.Rows, file.Columns = 64, 64
    with pytest.raises(InvalidImage, match="64x64 with a frame of 6000x6000"):
        open_grey(saved(file))


def test_a_run_length_bomb_is_refused() -> None:
    file = dataset(RAMP.astype(np.uint8))
    file.compress(RLELossless)
    header = (1).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(56)
    file.PixelData = encapsulate([header + b"\x81\x00" * 2_000_000])
    with pytest.raises(InvalidImage, match="longer than its pixels"):
        open_grey(saved(file))


def test_deflated_dicom_is_refused_before_it_unpacks() -> None:
    file = dataset(np.zeros((5000, 5000), np.uint16), syntax=DeflatedExplicitVRLittleEndian)
    with pytest.raises(InvalidImage, match="deflated"):
        open_grey(saved(file))


def test_a_file_of_millions_of_empty_elements_is_given_up() -> None:
    head = saved(dataset(RAMP))[:400]
    start = head.index(b"\x08\x00")
    with pytest.raises(InvalidImage, match="damaged"):
        open_grey(head[:start] + b"\x09\x00\x10\x10LO\x00\x00" * 4_000_000)


def test_missing_frames_are_refused() -> None:
    file = dataset(series(3), bits=12)
    file.compress(RLELossless)
    file.NumberOfFrames = 5
    with pytest.raises(InvalidImage, match=r"damaged|holds 3"):
        list(frames(saved(file)))


def test_a_dataset_without_a_transfer_syntax_is_refused_with_the_remedy() -> None:
    file = dataset(RAMP)
    del file.file_meta
    with pytest.raises(InvalidImage, match="no transfer syntax"):
        open_grey(file)


# Whose picture it is


def damaged_files() -> list[bytes]:
    whole = saved(dataset(RAMP, bits=12))
    name = dataset(RAMP, bits=12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for keyword in ("Modality", "ViewPosition", "PhotometricInterpretation", "VOILUTFunction"):
            name.add_new(keyword, "LO", PATIENT)
        for keyword in ("WindowCenter", "WindowWidth", "RescaleSlope"):
            name.add_new(keyword, "LO", PATIENT)
    cut = [whole[:length] for length in (200, 700, len(whole) // 2, len(whole) - 1)]
    swapped = whole.replace(b"DX", PATIENT.encode()[:2]).replace(b"MONOCHROME2", b"SECRETPERSO")
    return [*cut, saved(name), swapped, whole.replace(b"US", b"PN")]


def test_no_error_warning_or_log_names_the_patient(
    fake: FakeTriton, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    said: list[str] = []
    with caplog.at_level(logging.DEBUG), Client(fake.url) as client:
        for data in [saved(dataset(RAMP, bits=12)), *damaged_files()]:
            try:
                result = client.classify_xray(data)
                said += [repr(result), str(result.to_dict())]
            except InvalidImage as error:
                said += [str(error), repr(error), repr(error.__cause__)]
    said += [caplog.text, *(str(warning.message) for warning in recwarn)]
    for word in ("secret", "jane", PATIENT_ID.lower()):
        assert word not in "\n".join(said).lower()


def test_a_traceback_does_not_name_the_patient_either() -> None:
    import traceback

    for data in damaged_files():
        try:
            open_grey(data)
        except InvalidImage as error:
            text = "".join(traceback.format_exception(error)).lower()
            assert "secret" not in text
            assert "jane" not in text


def test_without_pydicom_one_line_says_what_to_install(tmp_path: Path) -> None:
    path = tmp_path / "film.dcm"
    path.write_bytes(saved(dataset(RAMP)))
    code = (
        "import sys; sys.modules['pydicom'] = None\n"
        "from densescan.images import open_grey\n"
        "try: open_grey(sys.argv[1])\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60)
    assert done.stdout == f"{path}: is DICOM, which needs: pip install 'densescan[dicom]'\n", done.stderr


@pytest.mark.parametrize("number", ["nan", "inf", "1e999"])
@pytest.mark.parametrize("keyword", ["WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept"])
def test_a_number_that_is_not_finite_is_as_if_it_were_not_there(keyword: str, number: str) -> None:
    elements = {"WindowCenter": "1024", "WindowWidth": "512", "RescaleSlope": "1", "RescaleIntercept": "0"}
    file = dataset(RAMP * 8, bits=12, **elements)
    del file[keyword]
    without = grey(file)
    file.add_new(keyword, "LO", number)  # as a DS pydicom does not write it
    assert np.array_equal(grey(file), without)


def test_a_text_may_be_filled_up_with_a_null_byte() -> None:
    raw = saved(dataset(RAMP.astype(np.uint8), PhotometricInterpretation="MONOCHROME1"))
    filled = raw.replace(b"MONOCHROME1 ", b"MONOCHROME1\0")
    assert filled != raw
    assert np.array_equal(grey(filled), 255 - RAMP)


@pytest.mark.parametrize("keyword", ["VOILUTSequence", "ModalityLUTSequence"])
def test_a_table_of_a_big_endian_file_is_read_in_its_order(keyword: str) -> None:
    table = np.linspace(4095, 0, 256).astype(np.uint16)
    expected = grey(saved(dataset(RAMP, bits=12, **{keyword: lookup(table, 0, 12, "US")})))
    (item,) = lookup(table, 0, 12, "US")
    item.LUTData = table.astype(">u2").tobytes()
    file = dataset(RAMP.astype(">u2"), bits=12, syntax=ExplicitVRBigEndian, **{keyword: [item]})
    assert np.array_equal(grey(saved(file)), expected)
    assert np.abs(expected - (255 - RAMP)).max() <= 1


def window_group(centre: int) -> Any:
    group, window = Dataset(), Dataset()
    window.WindowCenter, window.WindowWidth = centre, 100
    group.FrameVOILUTSequence = [window]
    return group


def test_a_frames_own_window_comes_before_that_of_all_and_that_before_the_files() -> None:
    stored = np.stack([RAMP * 8] * 3)
    file = dataset(stored, bits=12, WindowCenter=100, WindowWidth=100)
    file.PerFrameFunctionalGroupsSequence = [window_group(400), Dataset()]  # of the third frame there is none
    file.SharedFunctionalGroupsSequence = [window_group(1600)]
    seen = [np.asarray(picture.image) for picture in frames(saved(file)) if not isinstance(picture, InvalidImage)]
    for centre, got in zip((400, 1600, 1600), seen, strict=True):
        assert np.array_equal(got, grey(dataset(RAMP * 8, bits=12, WindowCenter=centre, WindowWidth=100)))
    del file.SharedFunctionalGroupsSequence
    assert not np.array_equal(np.asarray(next(iter(frames(saved(file)))).image), seen[1])
    *_, last = frames(saved(file))
    assert not isinstance(last, InvalidImage)
    assert np.array_equal(last.image, grey(dataset(RAMP * 8, bits=12, WindowCenter=100, WindowWidth=100)))


def test_a_number_of_unknown_kind_that_was_set_in_memory_is_read() -> None:
    file = dataset(RAMP * 8, bits=12)
    without = grey(file)
    file.add_new("PixelPaddingValue", "SS" if file.PixelRepresentation else "US", 2040)
    known = grey(file)
    assert not np.array_equal(known, without)
    del file.PixelPaddingValue
    file.add_new("PixelPaddingValue", "UN", b"\xf8\x07")
    assert np.array_equal(grey(file), known)
