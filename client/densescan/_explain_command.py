"""``densescan explain``: overlays, a contact sheet and the numbers."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ._cli_files import Sources, expand, stem
from ._cli_rows import json_row
from ._cli_run import tell_untried, watched
from ._commands import (
    AsJson,
    Exit,
    Files,
    Timeout,
    Url,
    _client,
    _exit_code,
    _note,
    _print,
    app,
    by_task,
)
from ._figures import contact_sheet
from ._settings import DEFAULT_TIMEOUT_S
from .cli_tables import Row, make_console
from .colormaps import COLORMAPS, DEFAULT_COLORMAP
from .explanation import Explanation, save_image
from .overlay import DEFAULT_ALPHA
from .tasks import MRI, XRAY, Task

SHEET_ROWS = 10
"""Pictures on one contact sheet; more make further sheets."""

explain_app = by_task("Show with Grad-CAM what speaks for a label.")
app.add_typer(explain_app, name="explain")

Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the pictures; it is made if need be.")
]
Target = Annotated[
    str | None, typer.Option("--target", metavar="LABEL", help="The label to explain; by default the one decided on.")
]
Alpha = Annotated[
    float, typer.Option("--alpha", min=0.0, max=1.0, help="How much of the picture the hottest place hides.")
]
Colormap = Annotated[str, typer.Option("--colormap", metavar="NAME", help=f"One of {', '.join(COLORMAPS)}.")]

_WRITES = (
    "\n\nWrites FILE.png, the overlay, for each picture (2-FILE.png where that is the picture itself), or FILE-001.png "
    "and so on for the frames of a DICOM series; and contact-sheet.png with all of them: original, map, overlay and "
    "the probabilities as bars.\n\n"
    "[bold]Exit codes[/bold]  as of densescan classify\n"
)


@explain_app.command(
    "xray",
    help="""Explain frontal chest X-rays.

    [bold]Examples[/bold]

      densescan explain xray film.png -o out
      densescan explain xray films/ -o out --target PNEUMONIA
    """
    + _WRITES,
)
def _explain_xray(
    files: Files,
    output: Output,
    target: Target = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="PNEUMONIA from this probability on; by default the model's own."),
    ] = None,
    alpha: Alpha = DEFAULT_ALPHA,
    colormap: Colormap = DEFAULT_COLORMAP,
    as_json: AsJson = False,
    url: Url = None,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
) -> None:
    _explain(XRAY, files, Sheets(output, alpha, colormap), target, threshold, url, timeout, as_json=as_json)


@explain_app.command(
    "mri",
    help="""Explain brain MRI slices.

    [bold]Examples[/bold]

      densescan explain mri slice.png -o out
      densescan explain mri slices/ -o out --json > numbers.jsonl
      densescan explain mri series.dcm -o out --target glioma
    """
    + _WRITES,
)
def _explain_mri(
    files: Files,
    output: Output,
    target: Target = None,
    alpha: Alpha = DEFAULT_ALPHA,
    colormap: Colormap = DEFAULT_COLORMAP,
    as_json: AsJson = False,
    url: Url = None,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
) -> None:
    _explain(MRI, files, Sheets(output, alpha, colormap), target, None, url, timeout, as_json=as_json)


class Sheets:
    """The pictures of one call: an overlay for each explanation, and a sheet for each ten of them."""

    def __init__(self, folder: Path, alpha: float, colormap: str) -> None:
        if colormap not in COLORMAPS:
            raise typer.BadParameter(f"choose one of {', '.join(COLORMAPS)}", param_hint="--colormap")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise typer.BadParameter(f"cannot make the folder {folder}: {error}", param_hint="--output") from error
        self.folder, self.alpha, self.colormap = folder, alpha, colormap
        self.sheets: list[Path] = []
        self._names: set[str] = set()
        self._spared: set[tuple[int, int]] = set()
        self._numbers = itertools.count(1)
        self._waiting: list[Explanation] = []

    def spare(self, files: Iterable[Path]) -> None:
        """Never write over these, which are being explained."""
        self._spared.update(file for path in files if (file := _identity(path)) is not None)

    def add(self, explanation: Explanation) -> Path:
        """Write the overlay, and the sheet if it is full; returns the overlay's path."""
        path = explanation.save(self.folder / self._name(explanation), self.alpha, self.colormap)
        self._waiting.append(explanation)
        if len(self._waiting) == SHEET_ROWS:
            self.finish()
        return path

    def finish(self) -> None:
        """Write the last sheet."""
        if self._waiting:
            self.sheets.append(self._next_sheet())
            sheet = contact_sheet(self._waiting, alpha=self.alpha, colormap=self.colormap)
            save_image(sheet, self.sheets[-1])
            self._waiting.clear()

    def _name(self, explanation: Explanation) -> str:
        """The picture's own name, with a number where that is another's, a sheet's or the picture's file itself."""
        own = stem(explanation.classification.source or "picture")
        name, number = own, 1
        while name in self._names or name.startswith("contact-sheet") or self._is_spared(f"{name}.png"):
            number += 1
            name = f"{number}-{own}"
        self._names.add(name)
        return f"{name}.png"

    def _next_sheet(self) -> Path:
        names = ("contact-sheet.png" if number == 1 else f"contact-sheet-{number}.png" for number in self._numbers)
        return self.folder / next(name for name in names if not self._is_spared(name))

    def _is_spared(self, name: str) -> bool:
        return _identity(self.folder / name) in self._spared


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file it is, however it is spelled; None for one that is not there."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _explain(
    task: Task,
    files: list[Path],
    sheets: Sheets,
    target: str | None,
    threshold: float | None,
    url: str | None,
    timeout_s: float,
    *,
    as_json: bool,
) -> None:
    if target is not None and target not in task.labels:
        raise typer.BadParameter(f"choose one of {', '.join(task.labels)}", param_hint="--target")
    paths = expand(files, _note)
    sheets.spare(paths)
    screen = make_console(stderr=True)
    rows: list[Row] = []
    with _client(url, timeout_s) as client:
        pictures = Sources(paths, client._options)
        outcomes = client.explain_many(task, pictures, target=target, threshold=threshold)
        for outcome in watched(outcomes, pictures, task.title, screen):
            if isinstance(outcome, Explanation):
                with _writing(sheets):
                    overlay = sheets.add(outcome)
                rows.append((str(outcome.classification.source), outcome.classification))
                numbers = {**outcome.to_dict(), "overlay": str(overlay)}
            else:
                rows.append((str(outcome.source), outcome))
                numbers = json_row(task, rows[-1])
            if as_json:
                typer.echo(json.dumps(numbers))
    with _writing(sheets):
        sheets.finish()
    if not as_json:
        _print(task, rows, [f"all at a glance: {path}" for path in sheets.sheets])
    tell_untried(len(rows), pictures, screen)
    raise typer.Exit(_exit_code(rows))


@contextmanager
def _writing(sheets: Sheets) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        make_console(stderr=True).print(f"cannot write to {sheets.folder}: {error}", style="red", markup=False)
        raise typer.Exit(Exit.USAGE) from error
