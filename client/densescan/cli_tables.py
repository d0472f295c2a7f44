"""The tables that the command line and the demo print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .errors import DensescanError, InvalidImage, ModelNotFound, ServerUnavailable
from .results import Classification, percent
from .status import ServerStatus
from .tasks import Task

Row: TypeAlias = tuple[str, Classification | DensescanError]
"""How a picture was named, and what became of it."""

# One names the picture itself, the others would meet every picture.
_WITHOUT_NAME = (InvalidImage, ServerUnavailable, ModelNotFound)

# Wider than any table: what is piped into a file or another program is never cut.
_PIPE_WIDTH = 10_000


def make_console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal, or without limit where there is none."""
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console = Console(stderr=stderr, highlight=False, width=_PIPE_WIDTH)
    return console


def print_classifications(console: Console, task: Task, rows: Sequence[Row]) -> None:
    """Print the table of `rows`, in the form that fits the console, and how they were decided."""
    table = classification_table(task, rows)
    unlimited = console.options.update(width=_PIPE_WIDTH)
    if console.measure(table, options=unlimited).maximum > console.width:
        table = classification_table(task, rows, narrow=True)
    console.print(table)
    line = decision_line(task, rows)
    if line:
        console.print(line, markup=False)


def classification_table(task: Task, rows: Sequence[Row], *, narrow: bool = False) -> Table:
    """One line for each picture: its name, the label, every probability, the milliseconds.

    Args:
        task: What the pictures were classified for.
        rows: The pictures.
        narrow: Put all probabilities into one column that wraps, and not each into its own.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("file", overflow="fold")
    table.add_column("label", no_wrap=True)
    table.add_column("confidence", justify="right", no_wrap=True)
    for name in ["probabilities"] if narrow else task.labels:
        table.add_column(name, justify="left" if narrow else "right", no_wrap=not narrow)
    table.add_column("ms", justify="right", no_wrap=True)
    for name, outcome in rows:
        if isinstance(outcome, Classification):
            table.add_row(Text(name), *_cells(task, outcome, narrow))
        else:
            table.add_row(Text(name), Text("failed", style="red"))
    return table


def _cells(task: Task, result: Classification, narrow: bool) -> list[Text]:
    colour = "bold" if task.positive is None else ("bold yellow" if result.label == task.positive else "green")
    styles = {label: "bold" if label == result.label else "dim" for label in task.labels}
    if narrow:
        parts = [Text(f"{label}\u00a0{p:.3f}", styles[label]) for label, p in result.probabilities.items()]
        chances = [Text(" ").join(parts)]
    else:
        chances = [Text(f"{p:.4f}", styles[label]) for label, p in result.probabilities.items()]
    elapsed = "" if result.elapsed_ms is None else f"{result.elapsed_ms:.1f}"
    return [Text(result.label, style=colour), Text(percent(result.confidence)), *chances, Text(elapsed)]


def failure_lines(rows: Sequence[Row]) -> list[str]:
    """One line for each picture that could not be classified: its name and why, unless it was not its fault."""
    return [
        str(outcome) if isinstance(outcome, _WITHOUT_NAME) else f"{name}: {outcome}"
        for name, outcome in rows
        if isinstance(outcome, DensescanError)
    ]


def warning_lines(rows: Sequence[Row]) -> list[str]:
    """One line for each warning on a result: whose it is, and what it says."""
    results = [(name, outcome) for name, outcome in rows if isinstance(outcome, Classification)]
    return [f"{name}: {warning}" for name, outcome in results for warning in outcome.warnings]


def decision_line(task: Task, rows: Sequence[Row]) -> str | None:
    """How the labels were decided and by which model, or None if nothing was classified."""
    results = [outcome for _, outcome in rows if isinstance(outcome, Classification)]
    if not results:
        return None
    last = results[-1]
    rule = "The most probable label"
    if last.threshold is not None:
        rule = f"{task.positive} from a probability of {last.threshold:.4g} on"
    return f"{rule}, by {last.model} version {last.model_version}."


def status_table(status: ServerStatus) -> Table:
    """One line for each model and version of a server."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("model", overflow="fold")
    table.add_column("version", justify="right", no_wrap=True)
    table.add_column("state", overflow="fold")
    for model in status.models:
        state = Text("ready", style="green") if model.ready else Text(f"not ready {model.reason}".strip(), style="red")
        table.add_row(Text(model.name), Text(model.version or "-"), state)
    return table
