"""``python -m server.demo``: start the embedded Triton, classify pictures with it through the SDK, stop it.

Without pictures of the user's own it draws synthetic ones, of no patient and with no finding.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from densescan import Classification, Client, DensescanError, draw_phantom
from densescan.cli_tables import Row, failure_lines, make_console, print_classifications
from densescan.tasks import RESEARCH_ONLY, TASKS, Task

from .cli import failure
from .embedded import DEFAULT_REPOSITORY, EmbeddedTriton
from .environment import sdk_defaults
from .errors import ServerStartError

PHANTOMS = 3

TaskChoice = Enum("TaskChoice", {name: name for name in (*TASKS, "all")}, type=str)  # type: ignore[misc]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command(context_settings={"help_option_names": ["-h", "--help"]})
def demo(
    images: Annotated[
        list[Path] | None, typer.Argument(metavar="[IMAGE ...]", show_default=False, help="Your own pictures.")
    ] = None,
    task: Annotated[TaskChoice, typer.Option(help="What to classify.")] = TaskChoice.all,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the pictures it draws.")] = Path("out/demo"),
    model_repository: Annotated[
        Path, typer.Option(metavar="DIR", show_default="model_repository", help="Folder of the models.")
    ] = DEFAULT_REPOSITORY,
) -> None:
    """Classify pictures with both models on this machine: no GPU, no Docker, no data set needed.

    Without pictures it draws synthetic ones; what the models say about those means nothing.
    """
    if images and task is TaskChoice.all:
        raise typer.BadParameter("say what your pictures show: --task xray or --task mri", param_hint="--task")
    tasks = list(TASKS.values()) if task is TaskChoice.all else [TASKS[task.value]]
    sys.exit(run(tasks, images or [], output, model_repository))


def run(tasks: Sequence[Task], images: Sequence[Path], output: Path, model_repository: Path) -> int:
    """Show it all; returns the exit code: 0 if every picture was classified."""
    console = make_console()
    pictures = {task: list(images) or draw_phantoms(task, output) for task in tasks}
    failed = False
    try:
        with sdk_defaults(), _serving(model_repository) as triton, Client(triton.grpc_url, timeout_s=60) as client:
            for task, paths in pictures.items():
                rows = classify(client, task, paths)
                show(console, task, rows, drawn=not images)
                explain(console, client, task, rows, output)
                failed |= any(isinstance(outcome, DensescanError) for _, outcome in rows)
    except ServerStartError as error:
        make_console(stderr=True).print(failure(error))
        return 1
    console.print("\nThe server has been stopped. To keep one running: make serve")
    console.print(RESEARCH_ONLY, style="dim")
    return 1 if failed else 0


@contextmanager
def _serving(model_repository: Path) -> Iterator[EmbeddedTriton]:
    screen = Console(stderr=True, highlight=False)
    triton = EmbeddedTriton(model_repository, profile="cpu")
    began = time.monotonic()
    with screen.status("Starting Triton and warming up the models ..."):
        triton.start()
    try:
        seconds = time.monotonic() - began
        screen.print(f"Triton is ready after {seconds:.1f} s, gRPC at {triton.grpc_url}, {len(triton.models)} models.")
        yield triton
    finally:
        triton.stop()


def draw_phantoms(task: Task, folder: Path) -> list[Path]:
    """Save some synthetic pictures of a task in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"synthetic_{task.name}_{seed}.png" for seed in range(PHANTOMS)]
    for seed, path in enumerate(paths):
        draw_phantom(task, seed=seed).save(path)
    return paths


def classify(client: Client, task: Task, paths: Sequence[Path]) -> list[Row]:
    """One picture after the other, so that the milliseconds are those of a single request."""
    rows: list[Row] = []
    for path in paths:
        outcome: Classification | DensescanError
        try:
            outcome = client.classify(task, path)
        except DensescanError as error:
            outcome = error
        rows.append((str(path), outcome))
    return rows


def explain(console: Console, client: Client, task: Task, rows: Sequence[Row], output: Path) -> None:
    """Save one picture of what the first decision rests on, and say where it is."""
    for name, outcome in rows:
        if isinstance(outcome, Classification):
            path = output / f"explained_{task.name}.png"
            output.mkdir(parents=True, exist_ok=True)
            try:
                client.explain(task, name).save(path)
            except DensescanError as error:
                console.print(f"no explanation: {error}", style="red", markup=False)
                return
            console.print(f"What it rests on (Grad-CAM): [bold]{path}[/]", soft_wrap=True)
            return


def show(console: Console, task: Task, rows: Sequence[Row], *, drawn: bool) -> None:
    """The table of one task."""
    source = "synthetic pictures, so the answers mean nothing" if drawn else "your pictures"
    console.print(f"\n[bold]{task.title}[/]: {source}")
    if any(isinstance(outcome, Classification) for _, outcome in rows):
        print_classifications(console, task, rows)
    for line in failure_lines(rows):
        console.print(line, style="red", markup=False)


def main() -> None:
    """Entry point of ``python -m server.demo``."""
    app(prog_name="python -m server.demo")


if __name__ == "__main__":
    main()
