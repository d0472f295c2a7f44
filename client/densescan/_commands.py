"""The commands of ``densescan``: thin wrappers of `Client` that print."""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import Enum, IntEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from ._cli_files import Sources, expand
from ._cli_groups import ByTask, InOrderOfUse
from ._cli_rows import csv_header, csv_row, json_row
from ._cli_run import tell_untried, watched
from ._options import OPTIONS
from ._settings import DEFAULT_TIMEOUT_S, DEFAULT_URL, URL_VARIABLE, resolve_url
from ._targets import credentials
from .cli_tables import Row, failure_lines, make_console, print_classifications, status_table, warning_lines
from .client import Client
from .errors import DeadlineExceeded, DensescanError, ModelNotFound, Overloaded, ServerUnavailable
from .phantoms import MIN_SIZE, draw_phantom
from .results import Classification
from .tasks import MRI, RESEARCH_ONLY, XRAY, Task


class Exit(IntEnum):
    """What the command's exit code says."""

    OK = 0
    SOME_FAILED = 1
    USAGE = 2
    SERVER = 3


class Form(Enum):
    """How outcomes are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


_EXIT_CODES = """

[bold]Exit codes[/bold]

  0  every picture was answered
  1  some file could not be read or answered
  2  wrong usage
  3  the server could not answer: it is absent, overloaded or too slow
"""

_HELP: dict[str, list[str]] = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    cls=InOrderOfUse,
    rich_markup_mode="rich",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=_HELP,
    help="Classify chest X-rays and brain MRI slices with a densescan server.\n\n"
    "[bold]Try it[/bold] without a picture of your own:\n\n"
    "  densescan status\n"
    "  densescan phantom xray -o film.png\n"
    "  densescan classify xray film.png\n"
    "  densescan explain xray film.png -o out\n\n"
    f"The server's address is --url, else the variable {URL_VARIABLE}, else {DEFAULT_URL}. Certificates, tokens, "
    "retries and limits have variables too: docs/sdk.md lists them.\n\n"
    f"{RESEARCH_ONLY}",
)


def by_task(help: str) -> typer.Typer:
    """A group with a command for each task."""
    return typer.Typer(cls=ByTask, rich_markup_mode="rich", no_args_is_help=True, context_settings=_HELP, help=help)


classify_app = by_task("Say what chest X-rays or brain MRI slices show.")
phantom_app = by_task("Draw a synthetic picture, to try the rest with.")
app.add_typer(classify_app, name="classify")
app.add_typer(phantom_app, name="phantom")

Files = Annotated[
    list[Path], typer.Argument(metavar="FILE", help="Pictures or DICOM files, quoted patterns, or folders of them.")
]
Url = Annotated[
    str | None,
    typer.Option("--url", envvar=URL_VARIABLE, metavar="HOST:PORT", help="gRPC address of the server."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per line instead of a table.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print comma-separated values, with a header.")]
Timeout = Annotated[
    float,
    typer.Option(
        "--timeout", envvar=OPTIONS["timeout_s"], min=0.001, metavar="SECONDS", help="Longest wait per picture."
    ),
]
Wait = Annotated[
    float,
    typer.Option(
        "--timeout", envvar=OPTIONS["timeout_s"], min=0.001, metavar="SECONDS", help="Longest wait for the answer."
    ),
]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to save it.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Another seed draws another anatomy.")]
Size = Annotated[int, typer.Option("--size", min=MIN_SIZE, max=2048, help="Side of the picture, in pixels.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"densescan {version('densescan')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@classify_app.command(
    "xray",
    help=f"""Classify frontal chest X-rays as {" or ".join(XRAY.labels)}.

    [bold]Examples[/bold]

      densescan classify xray film.png
      densescan classify xray films/ --threshold 0.3
      densescan classify xray films/ --json > results.jsonl
      densescan classify xray 'archive/**/*.dcm' --csv > results.csv
    """
    + _EXIT_CODES,
)
def _classify_xray(
    files: Files,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    url: Url = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="PNEUMONIA from this probability on; by default the model's own."),
    ] = None,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
) -> None:
    _classify(XRAY, files, _form(as_json, as_csv), url=url, threshold=threshold, timeout_s=timeout)


@classify_app.command(
    "mri",
    help=f"""Classify brain MRI slices as {", ".join(MRI.labels)}.

    [bold]Examples[/bold]

      densescan classify mri slice.png
      densescan classify mri slices/ --url gpu-box:8001
      densescan classify mri slices/ --json > results.jsonl
      densescan classify mri series.dcm --csv > frames.csv
    """
    + _EXIT_CODES,
)
def _classify_mri(
    files: Files,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    url: Url = None,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
) -> None:
    _classify(MRI, files, _form(as_json, as_csv), url=url, threshold=None, timeout_s=timeout)


@app.command(
    "status",
    help="""Say whether the server is ready, and what it serves; exit code 3 if it is not.

    [bold]Examples[/bold]

      densescan status
      densescan status --url gpu-box:8001 --json
      until densescan status > /dev/null 2>&1; do sleep 1; done
    """,
)
def _status(
    url: Url = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
    timeout: Wait = DEFAULT_TIMEOUT_S,
) -> None:
    with _client(url, timeout) as client:
        try:
            status = client.status()
        except DensescanError as error:
            _give_up(error)
    if as_json:
        typer.echo(json.dumps(status.to_dict()))
    else:
        console = make_console()
        state = "[green]ready[/green]" if status.ready else "[red]not ready[/red]"
        console.print(f"{status.name} {status.version} at {status.url} is {state}")
        console.print(status_table(status))
    raise typer.Exit(Exit.OK if status.ready else Exit.SERVER)


@phantom_app.command("xray")
def _phantom_xray(output: Output, seed: Seed = 0, size: Size = 512) -> None:
    """Draw a synthetic chest film: densescan phantom xray -o film.png."""
    _draw(XRAY, output, seed, size)


@phantom_app.command("mri")
def _phantom_mri(output: Output, seed: Seed = 0, size: Size = 512) -> None:
    """Draw a synthetic head slice: densescan phantom mri -o slice.png."""
    _draw(MRI, output, seed, size)


def _draw(task: Task, output: Path, seed: int, size: int) -> None:
    try:
        draw_phantom(task, seed=seed, size=size).save(output)
    except ValueError as error:  # a suffix that names no format, or none
        advice = "its suffix says how it is saved, as in film.png"
        raise typer.BadParameter(f"cannot save {output}: {advice}", param_hint="--output") from error
    except OSError as error:
        raise typer.BadParameter(f"cannot save {output}: {error.strerror or error}", param_hint="--output") from error
    typer.echo(f"{output}: a synthetic {task.title}, no patient")


def _form(as_json: bool, as_csv: bool) -> Form:
    if as_json and as_csv:
        raise typer.BadParameter("choose one of --json and --csv", param_hint="--csv")
    return Form.JSON if as_json else Form.CSV if as_csv else Form.TABLE


def _classify(
    task: Task, files: list[Path], form: Form, *, url: str | None, threshold: float | None, timeout_s: float
) -> None:
    paths = expand(files, _note)
    screen = make_console(stderr=True)
    rows: list[Row] = []
    if form is Form.CSV:
        typer.echo(csv_header(task))
    with _client(url, timeout_s) as client:
        pictures = Sources(paths, client._options)
        outcomes = client.classify_many(task, pictures, threshold=threshold)
        for outcome in watched(outcomes, pictures, task.title, screen):
            row: Row = (str(outcome.source), outcome)
            rows.append(row)
            if form is Form.JSON:
                typer.echo(json.dumps(json_row(task, row)))
            elif form is Form.CSV:
                typer.echo(csv_row(task, row))
    if form is Form.TABLE:
        _print(task, rows)
    tell_untried(len(rows), pictures, screen)
    raise typer.Exit(_exit_code(rows))


def _note(line: str) -> None:
    make_console(stderr=True).print(line, style="yellow", markup=False, soft_wrap=True)


def _print(task: Task, rows: list[Row], notes: Iterable[str] = ()) -> None:
    """A table for people, with notes below it; what failed or is to be known goes to stderr."""
    errors = make_console(stderr=True)
    for line in failure_lines(rows):
        errors.print(line, style="red", markup=False)
    if any(isinstance(outcome, Classification) for _, outcome in rows):
        console = make_console()
        print_classifications(console, task, rows)
        for line in warning_lines(rows):
            errors.print(line, style="yellow", markup=False)
        for note in notes:
            console.print(note, markup=False, soft_wrap=True)
        console.print(RESEARCH_ONLY, style="dim")


def _exit_code(rows: list[Row]) -> Exit:
    failures = [outcome for _, outcome in rows if isinstance(outcome, DensescanError)]
    if any(isinstance(error, (ServerUnavailable, Overloaded, DeadlineExceeded, ModelNotFound)) for error in failures):
        return Exit.SERVER
    return Exit.SOME_FAILED if failures else Exit.OK


def _client(url: str | None, timeout_s: float) -> Client:
    try:
        client = Client(resolve_url(url), timeout_s=timeout_s)
        credentials(client._options)  # certificates that cannot be read are a mistake of usage, too
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return client


def _give_up(error: DensescanError) -> NoReturn:
    make_console(stderr=True).print(str(error), style="red", markup=False)
    raise typer.Exit(Exit.SERVER)
