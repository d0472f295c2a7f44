"""``python -m server.drills``: hold the drills, show and record what was seen."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from densescan.tasks import XRAY

from ..embedded import DEFAULT_REPOSITORY
from .faults import FAULTS, Outcome
from .machine import MACHINE, CannotBeHeld
from .rollouts import ROLLOUTS
from .subject import Subject, prepare

BEGIN, END = "<!-- drills: begin -->", "<!-- drills: end -->"
Drill = Callable[[Subject], Outcome]
DRILLS: dict[str, Drill] = {drill.__name__.replace("_", "-"): drill for drill in (*ROLLOUTS, *FAULTS, *MACHINE)}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
console = Console(stderr=True, highlight=False)


@app.command(context_settings={"help_option_names": ["-h", "--help"]})
def drills(
    only: Annotated[
        list[str] | None, typer.Argument(metavar="[DRILL ...]", show_default="all", help=", ".join(DRILLS))
    ] = None,
    model_repository: Annotated[
        Path, typer.Option(metavar="DIR", show_default="model_repository", help="Folder of the models; it is copied.")
    ] = DEFAULT_REPOSITORY,
    model: Annotated[str, typer.Option(help="The one to ask.")] = XRAY.classifier,
    record: Annotated[
        Path | None, typer.Option(metavar="FILE", show_default="none", help="Write the table into this document.")
    ] = None,
) -> None:
    """Kill, freeze, break and update a real server under load, and count what its callers saw."""
    unknown = set(only or ()) - DRILLS.keys()
    if unknown:
        raise typer.BadParameter(f"no drill {', '.join(sorted(unknown))}: choose among {', '.join(DRILLS)}")
    with tempfile.TemporaryDirectory(prefix="densescan-drill-") as name:
        with console.status("Asking the model alone for the right answers …"):
            subject = prepare(with_two_versions(model_repository, model, Path(name, "models")), model)
        outcomes = []
        for drill in only or DRILLS:
            try:
                outcomes.append(hold(drill, DRILLS[drill], subject))
            except CannotBeHeld as error:
                console.print(f"{drill}: [yellow]left out[/yellow]; {error}")
                continue
            if record is not None:
                write_into(record, table(outcomes, subject.model))
    sys.exit(0 if all(outcome.held for outcome in outcomes) else 1)


def hold(name: str, drill: Drill, subject: Subject) -> Outcome:
    """Hold one drill and say how it went."""
    with console.status(f"{name} …"):
        outcome = drill(subject)
    mark = "[green]held[/green]" if outcome.held else "[red]NOT HELD[/red]"
    console.print(f"{name}: {mark}; {outcome.tally.right.total()} right, {outcome.tally.wrong} wrong", end=", ")
    console.print(f"{outcome.tally.failed.total()} failed, nobody answered for {outcome.tally.pause_s:.1f} s at most")
    return outcome


def with_two_versions(repository: Path, model: str, into: Path) -> Path:
    """A copy of one model; where it has one version only, the same again as the next."""
    home = Path(shutil.copytree(repository / model, into / model))
    versions = sorted(int(path.name) for path in home.iterdir() if path.name.isdigit())
    if len(versions) == 1:
        shutil.copytree(home / str(versions[0]), home / str(versions[0] + 1))
    return into


def table(outcomes: Sequence[Outcome], model: str) -> str:
    """The outcomes as Markdown."""
    cores = len(os.sched_getaffinity(0))
    lines = [
        f"`{model}`, CPU profile, embedded server, {cores} cores, Python {platform.python_version()},"
        f" {time.strftime('%Y-%m-%d')}; four callers who never pause and check every answer.",
        "",
        "| drill | what was done | right | wrong | failed | nobody answered for | what must hold | held |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for outcome in outcomes:
        tally = outcome.tally
        failed = "; ".join(f"{count} {kind}" for kind, count in tally.failed.most_common()) or "0"
        note = f"{'yes' if outcome.held else '**NO**'}{'; ' + outcome.note if outcome.note else ''}"
        cells = (
            *(outcome.name, outcome.fault, tally.right.total(), tally.wrong, failed.replace("|", "/")),
            *(f"{tally.pause_s:.1f} s", outcome.wanted, note),
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def write_into(document: Path, text: str) -> None:
    """Replace what stands between the two markers of a document."""
    before, rest = document.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    aside = document.with_name(f".{document.name}.new")
    aside.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")
    os.replace(aside, document)


if __name__ == "__main__":
    app(prog_name="python -m server.drills")
