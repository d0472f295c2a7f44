"""Triton's log lines, read."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

from .errors import ServerStartError

_LINE = re.compile(
    r"^(?P<severity>[IWEF])\d{4} (?P<time>\d\d:\d\d:\d\d)\.\d+ +\d+ (?P<source>[^\]]+)\] (?P<message>.*)$"
)

_STYLES = {"W": "yellow", "E": "red", "F": "bold red"}

_NOISE = (
    # Said, even as an error, on every machine without a GPU, where there is nothing to do about it.
    "Unable to allocate pinned system memory",
    "CudaDriverHelper has not been initialized",
)


@dataclass(frozen=True)
class LogLine:
    """One line of Triton's log: severity is I, W, E or F."""

    severity: str
    time: str
    source: str
    message: str

    @property
    def is_noise(self) -> bool:
        """Whether it means nothing on a machine without a GPU."""
        return any(phrase in self.message for phrase in _NOISE)


def parse_line(line: str) -> LogLine | None:
    """Read one line; None for what is not in Triton's form: tables, tracebacks, other programs' output."""
    match = _LINE.match(line)
    if match is None:
        return None
    message = match["message"].strip()
    if len(message) > 1 and message[0] == message[-1] == '"':
        message = message[1:-1]
    return LogLine(match["severity"], match["time"], match["source"], message.replace("\\n", "\n"))


class LogPrinter:
    """Shows Triton's log to a person: warnings and errors always, the rest on demand.

    Args:
        console: Where to.
        show_info: Show everything.
        log_file: Write every line there as well, as it comes; where that fails, it is said once and goes on.
    """

    def __init__(self, console: Console, *, show_info: bool = False, log_file: Path | None = None) -> None:
        self._console = console
        self._show_info = show_info
        self._path = log_file
        self._file: FileIO | None = None
        self._said_that_it_fails = False
        self._last_was_shown = show_info

    def __enter__(self) -> LogPrinter:
        if self._path is not None:
            try:
                self._file = self._path.open("ab", buffering=0)  # a line that cannot be written is not tried again
            except OSError as error:
                raise ServerStartError(
                    f"the log file {self._path} cannot be opened ({error.strerror})", "name another with --log-file"
                ) from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def __call__(self, line: str) -> None:
        """Take one line."""
        self._write(line)
        parsed = parse_line(line)
        if parsed is not None:
            self._last_was_shown = self._show_info or (parsed.severity in _STYLES and not parsed.is_noise)
        # A line without a head belongs to the one before: tables to information, tracebacks to errors.
        if not self._last_was_shown:
            return
        if parsed is None:
            self._console.print(Text(line, style="dim"))
        else:
            style = _STYLES.get(parsed.severity, "dim")
            self._console.print(Text(f"{parsed.time} {parsed.message}", style=style))

    def _write(self, line: str) -> None:
        if self._file is None:
            return
        try:
            self._file.write(f"{line}\n".encode())
        except OSError as error:
            if not self._said_that_it_fails:
                self._said_that_it_fails = True
                told = f"{self._path} cannot be written: {error.strerror}; lines of the log are missing there"
                self._console.print(Text(told, style="yellow"))
