"""Locust's entry: ``locust -f loadtest/locustfile.py --host localhost:8001``, or ``python -m loadtest`` with a server.

Locust's own options give the number of users (-u), their rate of arrival (-r) and the time (-t).
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

# Locust loads this file by its path, so that its package need not be known to Python yet.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from locust import LoadTestShape, between, events, run_single_user

from densescan import DensescanError
from densescan.tasks import TASKS
from loadtest.connection import ready_models
from loadtest.limits import Limits
from loadtest.mix import DEFAULT_MIX, MODELS, parse_mix
from loadtest.pictures import write_phantoms
from loadtest.shapes import SHAPES, users_at
from loadtest.users import DensescanUser

log = logging.getLogger("loadtest")

_DEFAULT_S = 60


class Caller(DensescanUser):
    """A caller with a moment to think between its calls."""

    wait_time = between(0.05, 0.15)
    mix: ClassVar[dict[str, float]] = parse_mix(DEFAULT_MIX)
    pictures: ClassVar[dict[str, list[Path]]] = {}


class Shape(LoadTestShape):
    """The shape that ``--shape`` names, as long and as high as Locust's own options say."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        """Users wanted now, and how fast they come; None at the end."""
        options = self.runner.environment.parsed_options
        # Locust's web page leaves its number empty until it is filled in.
        seconds = float(options.run_time or _DEFAULT_S)
        users = users_at(SHAPES[options.shape], seconds, int(options.num_users or 1), self.get_run_time())
        return None if users is None else (users, float(options.spawn_rate or users))


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    """Our own options, beside Locust's."""
    own = parser.add_argument_group("densescan")
    own.add_argument("--task-mix", default=DEFAULT_MIX, metavar="KIND=SHARE,...", help="What callers ask for.")
    own.add_argument("--shape", default="steady", choices=list(SHAPES), help="How the number of users changes.")
    own.add_argument("--timeout-s", type=float, default=10.0, help="Longest that a caller waits for an answer.")
    own.add_argument("--pictures", default="", help="Folder with folders xray/ and mri/; drawn pictures if empty.")
    own.add_argument("--max-failure-ratio", type=float, default=0.0, help="More failed calls than that fail the run.")
    own.add_argument("--max-p95-ms", type=float, default=0.0, help="A slower kind of call fails the run; 0: none does.")


@events.init.add_listener
def prepare(environment: Any, **_: Any) -> None:
    """Read the options, find pictures, and leave out what the server does not serve."""
    options = environment.parsed_options
    if options is None:
        return
    try:
        mix = parse_mix(options.task_mix)
    except ValueError as error:
        sys.exit(f"--task-mix: {error}")
    Caller.timeout_s = options.timeout_s
    Caller.mix = served_part(mix, environment.host or options.host)
    Caller.pictures = find_pictures(options.pictures)


def served_part(mix: dict[str, float], url: str | None) -> dict[str, float]:
    """The part of a mix whose models the server has; all of it where there is no server to ask yet."""
    if not url:
        return mix
    try:
        ready = ready_models(url)
    except DensescanError as error:
        log.warning("%s", error)
        return mix
    left = {kind: share for kind, share in mix.items() if ready.issuperset(MODELS[kind])}
    for kind in mix.keys() - left.keys():
        missing = ", ".join(sorted(set(MODELS[kind]) - ready))
        log.warning("left out %s: the server has no %s", kind, missing)
    if not left:
        sys.exit(f"the server at {url} serves nothing of the mix")
    return left


def find_pictures(folder: str) -> dict[str, list[Path]]:
    """Pictures by task, from a folder or drawn."""
    found = {}
    for name, task in TASKS.items():
        own = sorted(path for path in Path(folder, name).rglob("*") if path.is_file()) if folder else []
        found[name] = own or write_phantoms(task, _drawn())
    return found


@cache
def _drawn() -> Path:
    """A folder for pictures of our own, deleted at the end."""
    folder = Path(tempfile.mkdtemp(prefix="densescan-pictures-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@events.quitting.add_listener
def decide(environment: Any, **_: Any) -> None:
    """The exit code, by the limits, and by nothing else."""
    options = environment.parsed_options
    limits = Limits(options.max_failure_ratio, options.max_p95_ms or None)
    broken = limits.broken(environment.stats, Caller.answered_ms)
    for sentence in broken:
        log.error("limit: %s", sentence)
    environment.process_exit_code = 1 if broken else 0


@events.quit.add_listener
def end(exit_code: int, **_: Any) -> None:
    """Leave as soon as Locust has closed its files, without taking Python apart.

    There gRPC would close what connections failed calls still hold, and wait for gevent, which has ended: for ever.
    """
    atexit.register(leave, exit_code)


def leave(exit_code: int) -> None:
    """End the process with everything written, and what it has drawn deleted."""
    if _drawn.cache_info().currsize:
        shutil.rmtree(_drawn(), ignore_errors=True)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


if __name__ == "__main__":
    Caller.host, Caller.pictures = "localhost:8001", find_pictures("")
    run_single_user(Caller)
