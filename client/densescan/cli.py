"""Entry point of the command ``densescan``; the commands themselves are in `_commands` and those imported below."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from io import TextIOWrapper


def main() -> None:
    """Run the command line, or say in one line what it needs to be installed."""
    missing = [name for name in ("typer", "rich") if find_spec(name) is None]
    if missing:
        sys.stderr.write(f"The command line needs {' and '.join(missing)}: pip install 'densescan[cli]'\n")
        raise SystemExit(2)
    from . import _bench_command, _explain_command  # noqa: F401  they add their commands
    from ._commands import app

    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files go out as they are, whatever their encoding
    app(prog_name="densescan")
