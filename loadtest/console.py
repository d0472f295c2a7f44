"""What the commands share: where they print, and how a function becomes a command line."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any

import typer
from rich.console import Console

_PIPE_WIDTH = 140


def _console(*, stderr: bool = False) -> Console:
    console = Console(stderr=stderr, highlight=False)
    # Piped into a file or another program, a table must not be folded to 80 columns.
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=_PIPE_WIDTH)


out = _console()
err = _console(stderr=True)


def run(command: Callable[..., Any], prog: str) -> None:
    """Run one function as a command line; SIGTERM ends it as Ctrl-C does, with all that it has started."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(command)
    app(prog_name=prog)
