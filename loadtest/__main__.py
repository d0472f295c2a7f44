"""``python -m loadtest``: start a server, press it with Locust for a while, and say where the report is."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from densescan import DensescanError
from server import ServerStartError
from server.embedded import DEFAULT_REPOSITORY
from server.process import GUARD

from .connection import own_server, ready_models
from .console import err, out, run
from .measuring import served_models
from .mix import DEFAULT_MIX, parse_mix
from .server_side import memory_mb
from .shapes import SHAPES

_LOCUSTFILE = Path(__file__).with_name("locustfile.py")


class MemoryWatch(threading.Thread):
    """Looks at the memory of some processes now and then.

    Attributes:
        samples: By name of the process, its MB in the order of the looks.
    """

    def __init__(self, pids: dict[str, int], every_s: float) -> None:
        super().__init__(daemon=True)
        self.samples: dict[str, list[float]] = {name: [] for name in pids}
        self._pids, self._every_s, self._over = pids, every_s, threading.Event()

    def run(self) -> None:
        """Look until told to stop."""
        while not self._over.wait(self._every_s):
            for name, pid in self._pids.items():
                if megabytes := memory_mb(pid):
                    self.samples[name].append(megabytes)

    def stop(self) -> None:
        """Stop looking."""
        self._over.set()
        self.join()


def main(
    users: Annotated[int, typer.Option("--users", "-u", min=1, help="Most users at once.")] = 16,
    seconds: Annotated[int, typer.Option("--seconds", "-t", min=1, help="Length of the run.")] = 30,
    shape: Annotated[str, typer.Option(help=f"One of {', '.join(SHAPES)}.")] = "steps",
    task_mix: Annotated[str, typer.Option(metavar="KIND=SHARE,...", help="What callers ask for.")] = DEFAULT_MIX,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            show_default="a server of its own",
            help="Server to press; certificates and metadata by the SDK's variables.",
        ),
    ] = None,
    model_repository: Annotated[
        Path, typer.Option(metavar="DIR", show_default="model_repository", help="What the server of its own serves.")
    ] = DEFAULT_REPOSITORY,
    report: Annotated[Path, typer.Option("--report", "-o", metavar="FILE", help="HTML report.")] = Path(
        "runs/loadtest.html"
    ),
    max_failure_ratio: Annotated[float, typer.Option(min=0, max=1, help="More failures than that fail the run.")] = 0.0,
    max_p95_ms: Annotated[float, typer.Option(min=0, help="A slower kind of call fails the run; 0: none.")] = 0.0,
    timeout_s: Annotated[float, typer.Option(min=0.001, help="Longest that a caller waits for an answer.")] = 10.0,
) -> None:
    """Press a server with Locust's users, and fail if too many calls fail or take too long."""
    if shape not in SHAPES:
        raise typer.BadParameter(f"{shape!r} is not one of {', '.join(SHAPES)}", param_hint="--shape")
    try:
        parse_mix(task_mix)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--task-mix") from error
    report.parent.mkdir(parents=True, exist_ok=True)
    options = [
        *(f"--users={users}", f"--spawn-rate={users}", f"--run-time={seconds}s", f"--shape={shape}"),
        *(f"--task-mix={task_mix}", f"--timeout-s={timeout_s}", f"--html={report}"),
        *(f"--max-failure-ratio={max_failure_ratio}", f"--max-p95-ms={max_p95_ms}"),
    ]
    with ExitStack() as stack:
        try:
            if url:
                ready_models(url)  # who answers nobody is not worth a load
                address, pid = url, None
            else:
                triton = stack.enter_context(own_server(model_repository, served_models(model_repository)))
                address, pid = triton.grpc_url, triton.pid
        except (ServerStartError, DensescanError, ValueError) as error:
            err.print(str(error), style="red", markup=False)
            raise typer.Exit(2) from error
        code = press(address, options, pid, seconds)
    out.print(f"report: {report}", markup=False)
    raise typer.Exit(code)


def press(url: str, options: list[str], server_pid: int | None, seconds: float) -> int:
    """Run Locust, watching its memory and the server's; its exit code."""
    command = [sys.executable, "-m", "locust", "--locustfile", str(_LOCUSTFILE), "--headless", "--only-summary"]
    # The guard ends Locust when this process dies.
    guard = [sys.executable, "-I", str(GUARD), str(os.getpid())]
    locust = subprocess.Popen([*guard, *command, "--host", url, *options], env={**os.environ, "PYTHONUNBUFFERED": "1"})
    pids = {"callers": locust.pid, **({"server": server_pid} if server_pid else {})}
    watch = MemoryWatch(pids, every_s=max(0.5, seconds / 60))
    watch.start()
    try:
        code = locust.wait(timeout=seconds + 120)
    except BaseException:
        locust.terminate()
        time.sleep(1)
        locust.kill()
        locust.wait()
        raise
    finally:
        watch.stop()
    out.print(memory_table(watch.samples))
    return code


def memory_table(samples: dict[str, list[float]]) -> Table:
    """Memory after the first quarter of the looks, and at the last one."""
    table = Table(title="Resident memory, MB", title_justify="left", box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("", "after a quarter", "at the end", "grown by"):
        table.add_column(column, justify="right" if column else "left")
    for name, looks in samples.items():
        if looks:
            early, last = looks[len(looks) // 4], looks[-1]
            table.add_row(name, f"{early:.0f}", f"{last:.0f}", f"{last - early:+.1f}")
    return table


if __name__ == "__main__":
    run(main, "python -m loadtest")
