"""What the SDK's pages say is run as their readers would, against the real server; what they list is complete."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import JPEG2000Lossless

import densescan
from densescan._options import OPTIONS, Options
from densescan.errors import DensescanError
from densescan.phantoms import draw_phantom
from server import EmbeddedTriton
from tests.client import dicom_files

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = ("quickstart", "thresholds", "sdk", "recipes")


def text(page: str) -> str:
    return (DOCS / f"{page}.md").read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text(page), re.S | re.M)


@pytest.fixture
def reader(quick_server: EmbeddedTriton, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reader's folder, with the pictures that the pages name, and a server where they expect it."""
    for variable in OPTIONS.values():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("DENSESCAN_URL", quick_server.grpc_url)
    monkeypatch.setitem(Options.of.__func__.__globals__, "resolve_url", lambda url: quick_server.grpc_url)
    monkeypatch.chdir(tmp_path)
    draw_phantom("xray", size=256).save("film.png")
    draw_phantom("mri", size=256).save("slice.png")
    ramp = np.tile(np.arange(256, dtype=np.uint16), (64, 1))
    Path("series.dcm").write_bytes(
        dicom_files.saved(dicom_files.dataset(np.stack([ramp, ramp[:, ::-1]]), bits=12, Modality="MR"))
    )
    Path("films").mkdir()
    for number in range(4):
        draw_phantom("xray", seed=number, size=256).save(f"films/{number}.png")
    Path("films/bad.png").write_bytes(b"no picture")
    Path("token.txt").write_text("abc\n")
    return tmp_path


def run(code: str, name: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": name}
    exec(compile(code, f"{name}.md", "exec", dont_inherit=True), names)
    return names


def recipe(title: str) -> dict[str, Any]:
    """Run one recipe, which needs nothing of the others."""
    sections = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", text("recipes"), re.S | re.M))
    (code,) = re.findall(r"^```python\n(.*?)^```$", sections[title], re.S | re.M)
    return run(code, "recipes")


@pytest.mark.triton
@pytest.mark.parametrize("page", ["quickstart", "thresholds", "sdk"])
def test_the_python_of_a_page_runs_from_top_to_bottom(
    reader: Path, page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = run("\n".join(blocks(page, "python")), page)
    printed = capsys.readouterr().out
    if page == "quickstart":
        assert (reader / "overlay.png").is_file()
        assert f"{names['result'].label} {names['result'].confidence:.1%}" in printed
    if page == "thresholds":
        assert (names["screening"].label, names["referral"].label) == ("PNEUMONIA", "NORMAL")
        assert names["calls"][0.1]
    if page == "sdk":
        assert "Undo it: (x + 1024) / 2048" in printed
        assert "series.dcm#2" in printed


@pytest.mark.triton
@pytest.mark.filterwarnings("ignore:.*starlette.testclient")
def test_the_web_endpoint_answers(reader: Path) -> None:
    from fastapi.testclient import TestClient

    with TestClient(recipe("A web endpoint with FastAPI")["app"]) as web:
        answer = web.post("/xray", content=(reader / "film.png").read_bytes())
        assert (answer.status_code, answer.json()["task"]) == (200, "xray")
        assert web.post("/xray", content=b"no picture").status_code == 400


@pytest.mark.triton
@pytest.mark.parametrize("syntax", [None, JPEG2000Lossless])
def test_the_pacs_classifies_what_it_receives(reader: Path, syntax: Any) -> None:
    from pynetdicom import AE

    names = recipe("A PACS that classifies what it receives")
    try:
        modality = AE()
        sent = dicom_files.dataset(np.tile(np.arange(256, dtype=np.uint8), (64, 1)))
        if syntax is not None:
            sent.compress(syntax)
        modality.add_requested_context(sent.SOPClassUID, sent.file_meta.TransferSyntaxUID)
        association = modality.associate("127.0.0.1", names["listener"].server_address[1])
        assert association.is_established
        assert association.send_c_store(sent).Status == 0
        association.release()
    finally:
        names["listener"].shutdown()
        names["client"].close()
    assert names["results"][sent.SOPInstanceUID].source == "<DICOM dataset>"


@pytest.mark.triton
def test_the_table_of_a_folder_holds_results_and_errors(reader: Path) -> None:
    table = recipe("A table of a whole folder with pandas")["table"]
    assert list(table.columns[:3]) == ["source", "task", "label"]
    assert (table.label.notna().sum(), table.error.notna().sum()) == (4, 1)


@pytest.mark.triton
@pytest.mark.parametrize(
    "title", ["Waiting for a server that starts", "A token that expires", "A token of each caller", "Mutual TLS"]
)
def test_the_small_recipes_run(reader: Path, title: str) -> None:
    recipe(title)


def shell_lines() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in block.splitlines():
                if line.startswith("densescan "):
                    yield page, line.partition("  #")[0]


@pytest.mark.triton
@pytest.mark.parametrize(("page", "line"), list(shell_lines()))
def test_each_command_of_a_page_succeeds(reader: Path, page: str, line: str) -> None:
    command = [sys.executable, "-m", "densescan", *line.split()[1:]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ})
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_table_of_options_names_each_with_its_variable_and_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(DENSESCAN_\w+)` \| ([^|]+) \|", text("sdk"), re.M)
    assert {name: variable for name, variable, _ in rows} == OPTIONS
    defaults = {name: default.strip("`").replace(",", "") for name, _, default in rows}
    for name, value in vars(Options.of(url="localhost:8001")).items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            assert float(defaults[name]) == value, name
    assert (defaults["url"], defaults["retry_overloaded"]) == ("localhost:8001", "no")


def test_the_table_of_errors_names_each_with_its_builtin_kind() -> None:
    rows = dict(re.findall(r"^\| `([A-Z]\w+)` \| (`\w+`)? ?\|", text("sdk"), re.M))
    ours = {name for name in densescan.__all__ if _is_error(name)} - {"DensescanError"}
    assert set(rows) == ours
    for name, kind in rows.items():
        bases = [base.__name__ for base in getattr(densescan, name).__bases__ if base is not DensescanError]
        assert bases == ([kind.strip("`")] if kind else [])


def _is_error(name: str) -> bool:
    value = getattr(densescan, name)
    return isinstance(value, type) and issubclass(value, DensescanError)


def test_the_reference_is_what_the_docstrings_say(tmp_path: Path) -> None:
    shutil.copy(DOCS / "make_reference.py", tmp_path)
    subprocess.run([sys.executable, tmp_path / "make_reference.py"], check=True, timeout=60)
    written = (tmp_path / "reference.md").read_text(encoding="utf-8")
    assert written == text("reference"), "run python docs/make_reference.py"
    for name in densescan.__all__:
        if callable(getattr(densescan, name)):
            assert f"### `{name}`" in written


@pytest.mark.parametrize("page", [*PAGES, "reference"])
def test_every_link_to_a_file_leads_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", text(page)):
        if "://" not in link:
            assert (DOCS / link).exists(), link
