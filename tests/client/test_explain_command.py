from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from densescan import _explain_command, contact_sheet
from densescan._cli_files import stem
from densescan._commands import app
from densescan._explain_command import SHEET_ROWS, Sheets
from densescan.phantoms import draw_phantom

from . import dicom_files
from .explanations import explain, spike
from .fake_server import FakeTriton
from .test_explain import explained

RAMP = np.tile(np.arange(256, dtype=np.uint8), (64, 1))


@pytest.fixture
def url(fake: FakeTriton) -> str:
    fake.on_infer = lambda request, context: explained([0.2, 0.8])
    return fake.url


def run(*arguments: object, url: str | None = None) -> Any:
    return CliRunner().invoke(app, [*map(str, arguments), *(["--url", url] if url else [])])


def test_overlays_and_a_sheet_are_written(url: str, film_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep/out"
    result = run("explain", "xray", film_path, "-o", out, url=url)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == ["contact-sheet.png", "film.png"]
    assert "PNEUMONIA" in result.output
    assert str(out / "contact-sheet.png") in result.output
    for path in out.iterdir():
        with Image.open(path) as image:
            assert image.width > 500


def test_json_holds_the_numbers_and_where_the_overlay_is(url: str, film_path: Path, tmp_path: Path) -> None:
    result = run("explain", "xray", film_path, tmp_path / "none.png", "-o", tmp_path, "--json", url=url)
    good, bad = map(json.loads, result.stdout.splitlines())
    assert result.exit_code == 1
    assert (good["label"], good["target"]) == ("PNEUMONIA", "PNEUMONIA")
    assert np.array(good["heatmap"]).shape == (7, 7)
    assert Path(good["overlay"]).is_file()
    assert bad["error"]["type"] == "InvalidImage"


def test_each_frame_of_a_series_is_explained_for_itself(
    url: str, fake: FakeTriton, film_path: Path, tmp_path: Path
) -> None:
    series, cut, out = tmp_path / "series.dcm", tmp_path / "cut.dcm", tmp_path / "out"
    data = dicom_files.saved(dicom_files.dataset(np.stack([RAMP, RAMP[:, ::-1], RAMP.T.copy().reshape(64, 256)])))
    series.write_bytes(data)
    cut.write_bytes(data[:600])
    done = run("explain", "xray", series, cut, film_path, "-o", out, "--json", url=url)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    names = [f"{series}#1", f"{series}#2", f"{series}#3", str(cut), str(film_path)]
    assert [row["source"] for row in rows] == names
    assert [Path(row["overlay"]).name if "overlay" in row else None for row in rows] == [
        "series-001.png",
        "series-002.png",
        "series-003.png",
        None,
        "film.png",
    ]
    assert all(Path(row["overlay"]).is_file() for row in rows if "overlay" in row)
    sent = [request.raw_input_contents[0] for request in fake.asked("ModelInfer")]
    assert len(set(sent)) == 4, "each frame was sent, and not the first of them again"
    assert done.exit_code == 1
    table = run("explain", "xray", series, "-o", out, url=url)
    assert table.exit_code == 0
    assert "series.dcm#2" in table.stdout


def test_a_folder_of_slices_named_by_their_uids_is_explained_slice_by_slice(url: str, tmp_path: Path) -> None:
    folder, out = tmp_path / "study", tmp_path / "out"
    folder.mkdir()
    for number, name in enumerate(("1.2.840.10", "1.2.840.9", "IM01", "c.dcm")):
        (folder / name).write_bytes(dicom_files.saved(dicom_files.dataset(np.roll(RAMP, number, axis=1))))
    (folder / "DICOMDIR.txt").write_text("left out")
    done = run("explain", "xray", folder, "-o", out, url=url)
    assert done.exit_code == 0, done.output
    overlays = {"1.2.840.10.png", "1.2.840.9.png", "IM01.png", "c.png"}
    assert {path.name for path in out.iterdir()} == {*overlays, "contact-sheet.png"}


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("a/film.png", "film"),
        ("film.final.JPG", "film.final"),
        ("series.dcm#7", "series-007"),
        ("1.2.840#12", "1.2.840-012"),
        ("#3", "#3"),
        ("film#b.png", "film#b"),
        ("<bytes>", "<bytes>"),
    ],
)
def test_an_overlay_is_called_as_its_picture(source: str, name: str) -> None:
    assert stem(source) == name


def test_target_colours_and_alpha_are_passed_on(url: str, fake: FakeTriton, film_path: Path, tmp_path: Path) -> None:
    options = ("--target", "NORMAL", "--colormap", "cividis", "--alpha", 0.2)
    assert run("explain", "xray", film_path, "-o", tmp_path / "a", *options, url=url).exit_code == 0
    assert run("explain", "xray", film_path, "-o", tmp_path / "b", "--target", "NORMAL", url=url).exit_code == 0
    first, second = ((tmp_path / folder / "film.png").read_bytes() for folder in "ab")
    assert first != second
    assert np.frombuffer(fake.asked("ModelInfer")[0].raw_input_contents[1], np.int32)[0] == 0


@pytest.mark.parametrize(
    ("options", "told"), [(("--target", "glioma"), "NORMAL, PNEUMONIA"), (("--colormap", "jet"), "inferno")]
)
def test_unknown_names_are_refused_with_those_there_are(
    options: tuple[str, str], told: str, film_path: Path, tmp_path: Path
) -> None:
    result = run("explain", "xray", film_path, "-o", tmp_path, *options, url="localhost:1")
    assert result.exit_code == 2
    assert told in result.output


def test_nobody_at_the_address_is_exit_code_3_and_no_sheet(film_path: Path, tmp_path: Path) -> None:
    result = run("explain", "xray", film_path, film_path, "-o", tmp_path / "out", url="127.0.0.1:9")
    assert result.exit_code == 3
    assert not list((tmp_path / "out").iterdir())
    assert "1 of 2 pictures were not tried" in result.output


def test_pictures_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    sheets = Sheets(tmp_path, 0.5, "inferno")
    sources = ["a/film.png", "b/film.png", "c/film.jpg", "contact-sheet.png", "d/2-film.png"]
    paths = [sheets.add(explain(spike(1, 1), source=source)) for source in sources]
    assert len(set(paths)) == len(sources)
    assert paths[0].name == "film.png"
    sheets.finish()
    assert [path.name for path in sheets.sheets] == ["contact-sheet.png"]
    assert len(list(tmp_path.iterdir())) == len(sources) + 1


def test_a_picture_is_not_replaced_by_its_own_overlay(
    url: str, film_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor by a sheet, nor by what an overlay is called while it is written; however the folder is spelled."""
    names = ["film.png", "2-film.png", "film.part.png", "contact-sheet.png"]
    for name in names[1:]:
        (tmp_path / name).write_bytes(film_path.read_bytes())
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = film_path.read_bytes()
    done = run("explain", "xray", *names, "-o", "link", "--json", url=url)
    assert done.exit_code == 0, done.output
    assert [(tmp_path / name).read_bytes() == before for name in names] == [True] * len(names)
    assert [Path(json.loads(line)["overlay"]).name for line in done.stdout.splitlines()] == [
        "3-film.png",
        "2-2-film.png",
        "2-film.part.png",
        "2-contact-sheet.png",
    ]
    assert len(list(tmp_path.iterdir())) == 2 * len(names) + 2, "an overlay each, the link, and contact-sheet-2.png"
    assert (tmp_path / "contact-sheet-2.png").is_file()


def test_warnings_are_printed_below_the_table(url: str, film: Image.Image, tmp_path: Path) -> None:
    film.save(tmp_path / "film.gif", save_all=True, append_images=[film.rotate(90)])
    result = run("explain", "xray", tmp_path / "film.gif", "-o", tmp_path, url=url)
    assert "film.gif: the file holds several pictures and this is the first" in result.output


def test_many_pictures_make_several_sheets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []

    def counted(explanations: Any, **options: Any) -> Image.Image:
        rows.append(len(explanations))
        return contact_sheet(explanations[:1], **options)

    monkeypatch.setattr(_explain_command, "contact_sheet", counted)
    monkeypatch.setattr("densescan.explanation.Explanation.save", lambda self, path, *rest: path)
    sheets = Sheets(tmp_path, 0.5, "inferno")
    for number in range(2 * SHEET_ROWS + 1):
        sheets.add(explain(spike(1, 1), source=f"{number}.png"))
    sheets.finish()
    assert rows == [SHEET_ROWS, SHEET_ROWS, 1]
    assert [path.name for path in sheets.sheets] == ["contact-sheet.png", "contact-sheet-2.png", "contact-sheet-3.png"]


def test_a_folder_that_cannot_be_made_is_told(url: str, film_path: Path) -> None:
    result = run("explain", "xray", film_path, "-o", film_path / "below a file", url=url)
    assert result.exit_code == 2
    assert "cannot make the folder" in " ".join(result.output.split())


def test_a_phantom_is_explained_like_any_picture(url: str, tmp_path: Path) -> None:
    draw_phantom("mri").save(tmp_path / "slice.png")
    result = run("explain", "xray", tmp_path / "slice.png", "-o", tmp_path / "out", url=url)
    assert result.exit_code == 0
