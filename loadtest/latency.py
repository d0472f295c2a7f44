"""One picture at a time: the network in this process against the SDK on the served network, in turns.

python -m loadtest.latency                       drawn X-rays, the repository's CPU profile
python -m loadtest.latency film.jpg --json       pictures of your own, one JSON object
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from densescan import Client
from densescan.preprocessing import preprocess
from densescan.tasks import TASKS, Task, get_task
from server import ServerStartError
from server.embedded import DEFAULT_REPOSITORY

from .connection import own_server
from .console import err, out, run
from .figures import Latency, Spread, median
from .machine import Machine, this_machine
from .pictures import pictures
from .raw import RawNetwork

RAW, ARRAY, FILE = "raw", "sdk_array", "sdk_file"
NAMES = {
    RAW: "network in this process, ready array",
    ARRAY: "SDK to served network, ready array",
    FILE: "SDK to served network, JPEG file",
}
_CALLS_A_TURN = 10
_WARM_UP = 20


@dataclass(frozen=True)
class Report:
    """What one run measured. A ratio's spread is over the rounds, in which all three take turns.

    Attributes:
        task: The task's name.
        machine: What it ran on.
        calls: Calls of each kind.
        latency: Milliseconds of each kind, of all calls.
        over_raw: Median of each kind over the raw median, for each round.
        extra_ms: Median of each kind minus the raw median, for each round, in milliseconds.
    """

    task: str
    machine: Machine
    calls: int
    latency: dict[str, Latency]
    over_raw: dict[str, Spread]
    extra_ms: dict[str, Spread]


def measure(task: Task, repository: Path, own: list[Path], calls: int) -> Report:
    """Start the server, run everything, and stop it.

    Args:
        task: What to classify.
        repository: The model repository; its CPU profile is served and run raw.
        own: Pictures; drawn ones if there are none.
        calls: Calls of each kind.

    Raises:
        ServerStartError: The server cannot start.
        InvalidImage: One of the pictures cannot be read.
    """
    machine = this_machine()
    raw = RawNetwork(task, repository)
    with tempfile.TemporaryDirectory() as folder:
        files = pictures(task, own, Path(folder))
        arrays = [preprocess(file) for file in files]
        with (
            own_server(repository, [task.classifier]) as triton,
            Client(triton.grpc_url) as client,
        ):
            rounds = in_turns(kinds(task, raw, client, files, arrays), calls)
    return summarise(task.name, machine, rounds)


def kinds(
    task: Task, raw: RawNetwork, client: Client, files: Sequence[str | Path], arrays: Sequence[Any]
) -> dict[str, Callable[[int], object]]:
    """What is compared: each is given the number of a call, and goes round through the pictures."""
    return {
        RAW: lambda call: raw(arrays[call % len(arrays)][None]),
        ARRAY: lambda call: client.classify(task, arrays[call % len(arrays)]),
        FILE: lambda call: client.classify(task, files[call % len(files)]),
    }


def in_turns(
    kinds: Mapping[str, Callable[[int], object]], calls: int, *, a_turn: int = _CALLS_A_TURN, warm_up: int = _WARM_UP
) -> list[dict[str, list[float]]]:
    """Durations in seconds by kind, one dict for each round; in a round every kind has its turn.

    Another program that takes the processor for a while so slows all kinds, and not one of them.
    """
    for call in kinds.values():
        for number in range(warm_up):
            call(number)
    rounds = []
    for first in range(0, calls, a_turn):
        numbers = range(first, min(first + a_turn, calls))
        rounds.append({name: [_timed(call, number) for number in numbers] for name, call in kinds.items()})
    return rounds


def summarise(task: str, machine: Machine, rounds: list[dict[str, list[float]]]) -> Report:
    """The figures of all rounds."""
    together = {name: [sample for turn in rounds for sample in turn[name]] for name in rounds[0]}
    medians = [{name: median(samples) for name, samples in turn.items()} for turn in rounds]
    served = [name for name in together if name != RAW]
    return Report(
        task,
        machine,
        calls=len(together[RAW]),
        latency={name: Latency.of_seconds(samples) for name, samples in together.items()},
        over_raw={name: Spread.of([turn[name] / turn[RAW] for turn in medians]) for name in served},
        extra_ms={name: Spread.of([1000 * (turn[name] - turn[RAW]) for turn in medians]) for name in served},
    )


def _timed(call: Callable[[int], object], number: int) -> float:
    start = time.perf_counter()
    call(number)
    return time.perf_counter() - start


def table(report: Report) -> Table:
    """For a person."""
    table = Table(
        title=f"{report.task}, one picture at a time, {report.calls} calls each, in turns", title_justify="left"
    )
    for column in ("", "median ms", "middle half", "p95", "p99", "over raw", "extra ms"):
        table.add_column(column, justify="left" if not column else "right")
    for name, latency in report.latency.items():
        over, extra = report.over_raw.get(name), report.extra_ms.get(name)
        table.add_row(
            NAMES.get(name, name),
            f"{latency.median:.2f}",
            f"{latency.low:.2f} to {latency.high:.2f}",
            f"{latency.p95:.2f}",
            f"{latency.p99:.2f}",
            f"{over:.2f}" if over else "",
            f"{extra:.2f}" if extra else "",
        )
    return table


def main(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE", show_default="drawn pictures, as JPEG", help="Pictures.")
    ] = None,
    task: Annotated[str, typer.Option(help=f"One of {', '.join(TASKS)}.")] = "xray",
    calls: Annotated[int, typer.Option(min=1, help="Calls of each kind.")] = 300,
    model_repository: Annotated[
        Path, typer.Option(metavar="DIR", show_default="model_repository", help="Folder of the models.")
    ] = DEFAULT_REPOSITORY,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the table.")] = False,
    at_most: Annotated[
        float | None, typer.Option(min=1, help="Fail if the SDK from a file takes more than this many times raw.")
    ] = None,
) -> None:
    """Measure the SDK from a file and from an array against the network in this process, one picture at a time."""
    try:
        report = measure(get_task(task), model_repository, files or [], calls)
    except (ServerStartError, ValueError) as error:
        err.print(str(error), style="red", markup=False)
        raise typer.Exit(2) from error
    ratio = report.over_raw[FILE]
    if as_json:
        out.print_json(json.dumps(asdict(report)))
    else:
        out.print(report.machine.describe(), style="dim", markup=False)
        out.print(table(report))
        out.print(
            f"From a {get_task(task).title} file to the result: {ratio:.2f} times the network alone.", markup=False
        )
    if at_most is not None and ratio.median > at_most:
        err.print(f"more than {at_most:g} times", style="red")
        raise typer.Exit(1)


if __name__ == "__main__":
    run(main, "python -m loadtest.latency")
