"""``densescan bench``: how fast the server answers."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from ._benching import Measurement, measure, measure_many
from ._commands import AsJson, Exit, Timeout, Url, _client, _give_up, app
from ._settings import DEFAULT_TIMEOUT_S
from .cli_tables import make_console
from .errors import DensescanError, InvalidImage
from .phantoms import draw_phantom
from .tasks import TASKS, Task

MAX_CALLERS = 256
MAX_SECONDS = 600.0


@app.command(
    "bench",
    help="Measure how fast the server answers.\n\n"
    "[bold]Examples[/bold]\n\n"
    "  densescan bench xray\n"
    "  densescan bench mri slice.png -c 1 -c 8 -c 32 --seconds 20 --json\n\n"
    "Every caller waits for its answer before it asks again. Reading and preprocessing the picture counts, so the "
    "figure is what a program with this SDK gets on this machine; loadtest/ holds the larger measurements.",
)
def _bench(
    task: Annotated[str, typer.Argument(metavar="TASK", help=f"One of {', '.join(TASKS)}.")],
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="The picture to send; by default a synthetic one.")
    ] = None,
    callers: Annotated[
        list[int] | None,
        typer.Option("--callers", "-c", min=1, max=MAX_CALLERS, help="How many ask at once; may be given again."),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, max=MAX_SECONDS, help="How long, for each number of callers.")] = 5,
    many: Annotated[
        bool, typer.Option("--many", help="Measure classify_many as well, with as many in flight.")
    ] = False,
    as_json: AsJson = False,
    url: Url = None,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
) -> None:
    if task not in TASKS:
        raise typer.BadParameter(f"choose one of {', '.join(TASKS)}", param_hint="TASK")
    chosen = TASKS[task]
    image = _read(file, chosen)
    measured: list[Measurement] = []
    with _client(url, timeout) as client:
        try:
            for count in callers or [1, 8]:
                for way in (measure, measure_many) if many else (measure,):
                    measured.append(way(client, chosen, image, callers=count, seconds=seconds))
                    if as_json:
                        typer.echo(json.dumps({"task": task, **asdict(measured[-1])}))
        except InvalidImage as error:
            raise typer.BadParameter(f"{file}: {error.reason}", param_hint="FILE") from error
        except DensescanError as error:
            _give_up(error)
    if not as_json:
        make_console().print(_table(measured))
    raise typer.Exit(Exit.SERVER if any(each.failed for each in measured) else Exit.OK)


def _read(path: Path | None, task: Task) -> bytes:
    if path is None:
        file = io.BytesIO()
        draw_phantom(task).save(file, "JPEG", quality=90)
        return file.getvalue()
    try:
        return path.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be read: {error.strerror}", param_hint="FILE") from error


def _table(measured: list[Measurement]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("callers", "images/s", "p50 ms", "p95 ms", "p99 ms", "failed"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in measured:
        times = ["-" if value is None else f"{value:.1f}" for value in (each.p50_ms, each.p95_ms, each.p99_ms)]
        failed = ", ".join(f"{count} {name}" for name, count in each.failed.items()) or "0"
        table.add_row(
            f"{'many, ' if each.way == 'many' else ''}{each.callers}", f"{each.images_per_s:.1f}", *times, failed
        )
    return table
