"""Everything that can be said about the serving speed of this machine, in one run.

python -m loadtest.bench                     about five minutes, more on a slow machine; tables, and a JSON file
python -m loadtest.bench --quick             a look, in about one minute
python -m loadtest.bench --write-docs        also docs/BENCHMARKS.md and its plot
python -m loadtest.bench --peers all         also what else one could have served with
python -m loadtest.bench --url gpu-host:8001 --about "1 L4, 8 cores"    a server that runs already, for loadtest.size
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from densescan import DensescanError
from server import ServerStartError
from server.embedded import DEFAULT_REPOSITORY

from . import document, tables
from .console import err, out, run
from .measuring import Plan, measure
from .running import BUSY, measure_running

DOCS = Path(__file__).resolve().parent.parent / "docs"

_CALLERS_BUSY = (
    "The callers' process used {:.1f} of the one core that it can use: the server may do more than was measured. "
    "Run this on several machines at once, and add their rates."
)


def main(
    quick: Annotated[bool, typer.Option("--quick", help="A look in about one minute; the figures scatter.")] = False,
    write_docs: Annotated[
        bool, typer.Option("--write-docs", help="Write docs/BENCHMARKS.md and its plot from this run.")
    ] = False,
    peers: Annotated[
        str, typer.Option(metavar="NAMES", help="Other servers to measure: all, or names with commas between.")
    ] = "",
    model_repository: Annotated[
        Path, typer.Option(metavar="DIR", show_default="model_repository", help="Folder of the models.")
    ] = DEFAULT_REPOSITORY,
    url: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT",
            help="Measure a server that runs already, certificates by the SDK's variables; callers are here.",
        ),
    ] = "",
    about: Annotated[
        str, typer.Option(metavar="TEXT", help="With --url: what that server runs on, in words.")
    ] = "the server that was measured",
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where every figure goes, as JSON.")
    ] = Path("runs/bench.json"),
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the curves: .svg or .png.", show_default="none")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON instead of tables.")] = False,
    read: Annotated[
        Path | None, typer.Option(metavar="FILE", show_default="none", help="Show an earlier run and measure nothing.")
    ] = None,
) -> None:
    """Measure how fast the models are served, against the network alone."""
    if url and (write_docs or peers or read):
        raise typer.BadParameter("--url goes with neither --write-docs nor --peers nor --read")
    report = _read(read) if read else _measure(model_repository, quick, peers, url, about)
    if write_docs and "server" in report:
        raise typer.BadParameter("--write-docs: that run is of a server elsewhere, and the page is of this machine's")
    if read is None:
        write_aside(output, json.dumps(report, indent=1) + "\n")
    if as_json:
        out.print_json(json.dumps(report))
    else:
        for table in tables.all_tables(report):
            out.print(table)
            out.print()
    if plot is not None:
        document.draw(report, plot)
    if write_docs:
        text = document.markdown(report)
        DOCS.mkdir(exist_ok=True)
        document.draw(report, DOCS / document.PLOT)
        write_aside(DOCS / "BENCHMARKS.md", text)
        err.print(f"wrote {DOCS.name}/BENCHMARKS.md and {DOCS.name}/{document.PLOT}", style="dim")


def _measure(repository: Path, quick: bool, peers: str, url: str, about: str) -> dict[str, Any]:
    from .peers import chosen

    plan = Plan.quick() if quick else Plan()
    try:
        names = chosen(peers)
        with err.status("measuring") as status:
            if not url:
                return measure(repository, plan, lambda what: status.update(what), names)
            report = measure_running(url, about, plan, lambda what: status.update(what))
        if report["callers_busy"] >= BUSY:
            err.print(_CALLERS_BUSY.format(report["callers_busy"]), style="yellow")
        return report
    except (ServerStartError, DensescanError, ValueError) as error:
        err.print(str(error), style="red", markup=False)
        raise typer.Exit(2) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        err.print(f"{path}: {error}", style="red", markup=False)
        raise typer.Exit(2) from error
    try:
        current = all("sent_per_second" in point for point in report["open"].values())
    except (KeyError, TypeError, AttributeError):
        current = False
    if not current:
        err.print(
            f"{path} is no benchmark, or was written by an older version: measure again", style="red", markup=False
        )
        raise typer.Exit(2)
    return report


def write_aside(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, and nothing between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


if __name__ == "__main__":
    run(main, "python -m loadtest.bench")
