"""The CPU profile's settings, one after the other, under the same load: how the values in model_repository were chosen.

python -m loadtest.sweep                     every setting, three rounds; a table, and a plot
python -m loadtest.sweep --only "as shipped" --only "one instance"
python -m loadtest.sweep --write-docs        also docs/TUNING.md and its plot
"""

from __future__ import annotations

import copy
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
from google.protobuf import text_format

from densescan.tasks import TASKS, Task, get_task
from server import ServerStartError
from server.embedded import DEFAULT_REPOSITORY
from server.repository import ModelConfig, RepositoryModel, read_repository

from .bench import DOCS, write_aside
from .connection import own_server
from .console import err, out, run
from .document import pyplot, save, section
from .figures import Spread, difference, mean_batch, median, percentile
from .machine import Machine, this_machine
from .pictures import write_phantoms
from .processes import CallersProcess
from .server_side import Counters
from .tables import Rows, table
from .ways import Load, Target, served_files

CALLERS = (1, 2, 4, 16, 32)
PLOT = "tuning.svg"


@dataclass(frozen=True)
class Setting:
    """What a sweep changes in a config. None: as it is there.

    Attributes:
        instances: Instances of the model.
        one_at_a_time: Whether an instance waits until no other computes.
        threads: Threads of an inference that is alone; 0: every core.
        shared_threads: Threads of one in company; 0: the cores divided by the instances.
        delay_us: Longest that a request waits for others, in microseconds.
        pinning: Whether each thread is tied to a core.
        hint: OpenVINO's PERFORMANCE_HINT.
        largest: Largest batch.
        preferred: Sizes of batch that are sent off as soon as they are full; empty: none.
        compiled: Sizes of batch that the network is compiled for; empty: any.
    """

    instances: int | None = None
    one_at_a_time: bool | None = None
    threads: int | None = None
    shared_threads: int | None = None
    delay_us: int | None = None
    pinning: bool | None = None
    hint: str | None = None
    largest: int | None = None
    preferred: tuple[int, ...] | None = None
    compiled: tuple[int, ...] | None = None

    def apply(self, config: ModelConfig) -> None:
        """Change a config."""
        (group,) = config.instance_group
        if self.instances is not None:
            group.count = self.instances
        if self.one_at_a_time:
            # There is as much of a resource as the most that an instance asks for: one, for all of them.
            group.rate_limiter.resources.add(name="cores", count=1, **{"global": True})
        if self.delay_us is not None:
            config.dynamic_batching.max_queue_delay_microseconds = self.delay_us
        if self.preferred is not None:
            config.dynamic_batching.preferred_batch_size[:] = self.preferred
        if self.largest is not None:
            config.max_batch_size = self.largest
            sizes = [size for size in config.dynamic_batching.preferred_batch_size if size <= self.largest]
            config.dynamic_batching.preferred_batch_size[:] = sizes
            for warmup in config.model_warmup:
                warmup.batch_size = min(warmup.batch_size, self.largest)
        parameters = {
            "INFERENCE_NUM_THREADS": None if self.threads is None else str(self.threads),
            "SHARED_NUM_THREADS": None if self.shared_threads is None else str(self.shared_threads),
            "ENABLE_CPU_PINNING": None if self.pinning is None else ("YES" if self.pinning else "NO"),
            "PERFORMANCE_HINT": self.hint,
            "FIXED_BATCH_SIZES": None if self.compiled is None else ",".join(map(str, self.compiled)),
        }
        for key, value in parameters.items():
            if value is not None:
                config.parameters[key].string_value = value


SHIPPED = "as shipped"
SETTINGS: dict[str, Setting] = {
    SHIPPED: Setting(),
    "any batch size": Setting(compiled=()),
    "compiled for 1": Setting(compiled=(1,)),
    "compiled for 1, 2 and 4": Setting(compiled=(1, 2, 4)),
    "compiled for 1, 4 and 16": Setting(compiled=(1, 4, 16)),
    "one instance": Setting(instances=1),
    "one at a time, every core": Setting(one_at_a_time=True),
    "two at once, every core each": Setting(shared_threads=len(os.sched_getaffinity(0))),
    "two at once, one thread each": Setting(threads=1),
    "delay 100 us": Setting(delay_us=100),
    "delay 500 us": Setting(delay_us=500),
    "delay 2 ms": Setting(delay_us=2000),
    "threads pinned": Setting(pinning=True),
    "hint THROUGHPUT": Setting(hint="THROUGHPUT"),
    "batches of 8 at most": Setting(largest=8),
    "no size preferred": Setting(preferred=()),
    "batches of 4 preferred": Setting(preferred=(4,)),
    "batches of 4 or 8 preferred": Setting(preferred=(4, 8)),
    "batches of 4 or 16 preferred": Setting(preferred=(4, 16)),
    "batches of 2, 4 or 8 preferred": Setting(preferred=(2, 4, 8)),
    "three instances": Setting(instances=3, shared_threads=1),
    "three instances, batches of 4 preferred": Setting(instances=3, shared_threads=1, preferred=(4,)),
}


WHY = {
    "any batch size": "the network compiled once, for batches of any size, as OpenVINO does by itself",
    "compiled for 1": "other batches are run one picture at a time",
    "one instance": "a request that comes between two batches can lie for half a second",
    "one at a time, every core": "an instance waits until no other computes",
    "no size preferred": "an instance takes all that waits, up to 16, also where it must run the last ones one by one",
    "two at once, every core each": "an inference in company has as many threads as one alone",
}
"""What there is to know about a setting, besides its name."""


@dataclass(frozen=True)
class Point:
    """One load on one setting, in one round."""

    per_second: float
    median_ms: float
    p99_ms: float
    mean_batch: float


Points: TypeAlias = dict[str, dict[int, list[Point]]]
"""By setting and number of callers, one for each round."""


def sweep(
    task: Task, repository: Path, names: Sequence[str], rounds: int, seconds: float, say: Callable[[str], None]
) -> Points:
    """Measure settings by name and number of callers, one point for each round.

    In every round each setting has its turn, with a server of its own that is alone on the machine.

    Raises:
        ServerStartError: The server cannot start.
    """
    (model,) = read_repository(repository, "cpu", [task.classifier])
    points: Points = {name: {callers: [] for callers in CALLERS} for name in names}
    with tempfile.TemporaryDirectory() as folder, CallersProcess() as process:
        files = served_files(write_phantoms(task, Path(folder, "pictures")))
        variants = {
            name: variant(model, SETTINGS[name], Path(folder, f"repository{number}"))
            for number, name in enumerate(names)
        }
        for number in range(rounds):
            for name, root in variants.items():
                say(f"round {number + 1} of {rounds}: {name}")
                with own_server(root) as triton:
                    for callers in CALLERS:
                        target = Target("ready", task.name, triton.grpc_url, files)
                        points[name][callers].append(measure(process, target, callers, seconds))
    return points


def variant(model: RepositoryModel, setting: Setting, root: Path) -> Path:
    """A repository of one model with a setting; all but its config are links."""
    config = copy.deepcopy(model.config)
    setting.apply(config)
    folder = root / model.name
    (folder / "configs").mkdir(parents=True)
    for path in model.folder.resolve().iterdir():
        if path.name != "configs":
            (folder / path.name).symlink_to(path)
    (folder / "configs/cpu.pbtxt").write_text(text_format.MessageToString(config), encoding="utf-8")
    return root


def measure(process: CallersProcess, target: Target, callers: int, seconds: float) -> Point:
    """One load."""
    counters, model = Counters(target.url), get_task(target.task).classifier
    before = counters.executed(model)
    outcome = process.run(Load((target,), callers, seconds, warm_up_s=0.4))
    executed = difference(counters.executed(model), before)
    counters.close()
    ms = [1000 * latency for latency in outcome.latencies_s] or [float("inf")]
    return Point(outcome.per_second, median(ms), percentile(ms, 99), mean_batch(executed))


def rows(points: Points) -> Rows:
    """Medians over the rounds; the spread is that of the throughput."""
    heads = ("setting", *map(_callers, CALLERS))
    lines = []
    for name, by_callers in points.items():
        cells = []
        for rounds in by_callers.values():
            rate = Spread.of([point.per_second for point in rounds])
            ms, p99, batch = (
                median([getattr(point, name) for point in rounds]) for name in ("median_ms", "p99_ms", "mean_batch")
            )
            cells.append(f"{rate:.0f}; {ms:.1f}, {p99:.0f} ms; {batch:.1f}")
        lines.append((name, *cells))
    return Rows("Pictures/s (middle half); median and 99th percentile; mean batch", heads, tuple(lines))


def _callers(number: int) -> str:
    return f"{number} callers" if number > 1 else "1 caller"


def markdown(points: Points, task: Task, machine: Machine, command: str) -> str:
    """docs/TUNING.md; `command` is what wrote it."""
    described = "".join(f"- *{name}*: {WHY[name]}\n" for name in points if name in WHY)
    parts = [
        "# How the settings of the CPU profile were chosen",
        f"Written by `{command}`; run it to have the figures of your machine. Nothing here is typed by hand.",
        f"Machine: {machine.shape()}. Client, server and network share its cores. Each setting has a server "
        "of its own, alone on the machine, and its turn in every round. *As shipped* is what "
        f"`model_repository/{task.classifier}/configs/cpu.pbtxt` says; every other setting changes one thing of it.",
        f"![Throughput by setting]({PLOT})",
        section(rows(points)),
        described,
    ]
    return "\n\n".join(part.rstrip() for part in parts if part) + "\n"


def draw(points: Points, path: Path) -> None:
    """Throughput by setting, one group of bars for each number of callers."""
    figure, axes = pyplot().subplots(figsize=(9, 0.5 * len(points) + 2), layout="constrained")
    height = 0.8 / len(CALLERS)
    for number, callers in enumerate(CALLERS):
        rates = [Spread.of([point.per_second for point in by_callers[callers]]) for by_callers in points.values()]
        errors = [[rate.median - rate.low for rate in rates], [rate.high - rate.median for rate in rates]]
        places = [place + number * height for place in range(len(points))]
        axes.barh(places, [rate.median for rate in rates], height, xerr=errors, label=_callers(callers))
    axes.set_yticks([place + 0.4 - height / 2 for place in range(len(points))], list(points))
    axes.invert_yaxis()
    axes.set_xlabel("pictures a second, median of the rounds, and the middle half")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, path)


def main(
    only: Annotated[
        list[str] | None, typer.Option(metavar="SETTING", show_default="all", help="A setting; may be repeated.")
    ] = None,
    task: Annotated[str, typer.Option(help=f"One of {', '.join(TASKS)}.")] = "xray",
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each setting.")] = 3,
    seconds: Annotated[float, typer.Option(min=0.1, help="Time for each load.")] = 2.0,
    model_repository: Annotated[
        Path, typer.Option(metavar="DIR", show_default="model_repository", help="Folder of the models.")
    ] = DEFAULT_REPOSITORY,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Figures, as JSON.")] = Path(
        "runs/sweep.json"
    ),
    plot: Annotated[Path, typer.Option(metavar="FILE", help="Plot: .svg or .png.")] = Path("runs/sweep.svg"),
    write_docs: Annotated[
        bool, typer.Option("--write-docs", help="Write docs/TUNING.md and its plot from this run.")
    ] = False,
) -> None:
    """Measure the settings of the CPU profile under the same load."""
    names = list(only or SETTINGS)
    if unknown := set(names) - SETTINGS.keys():
        raise typer.BadParameter(
            f"{', '.join(sorted(unknown))}: choose among {', '.join(SETTINGS)}", param_hint="--only"
        )
    machine = this_machine()
    try:
        with err.status("starting") as status:
            points = sweep(get_task(task), model_repository, names, rounds, seconds, lambda what: status.update(what))
    except (ServerStartError, ValueError) as error:
        err.print(str(error), style="red", markup=False)
        raise typer.Exit(2) from error
    plain: dict[str, Any] = {
        name: {str(callers): [asdict(point) for point in measured] for callers, measured in by_callers.items()}
        for name, by_callers in points.items()
    }
    write_aside(output, json.dumps({"machine": asdict(machine), "points": plain}, indent=1) + "\n")
    draw(points, plot)
    out.print(machine.describe(), style="dim", markup=False)
    out.print(table(rows(points)))
    out.print(f"figures: {output}, plot: {plot}", markup=False)
    if write_docs:
        draw(points, DOCS / PLOT)
        command = shlex.join(["python", "-m", "loadtest.sweep", *sys.argv[1:]])
        write_aside(DOCS / "TUNING.md", markdown(points, get_task(task), machine, command))
        err.print(f"wrote {DOCS.name}/TUNING.md and {DOCS.name}/{PLOT}", style="dim")


if __name__ == "__main__":
    run(main, "python -m loadtest.sweep")
