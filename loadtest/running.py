"""The benchmark of a server that runs already, wherever it is: what its callers can see, and its own counters.

What is compared with the network in this process is left out, and so is the flood: others may use the server. It is
what sizing needs (`python -m loadtest.size --bench FILE`) for a machine that is not this one, a GPU's for instance.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from densescan.tasks import TASKS, XRAY

from .connection import ready_models
from .machine import this_machine
from .measuring import Bench, Plan, closed_loop, drawn_files, matched_rounds, open_loop
from .processes import CallersProcess
from .server_side import Counters

CALLERS = (1, 2, 4, 8, 16, 32, 64, 128)
"""A GPU is busy only with more of them than a few cores are."""

BUSY = 0.8
"""Cores that the callers' process uses, from which it may be the bottleneck: Python's lock keeps it to one core."""


def measure_running(url: str, about: str, plan: Plan, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure a running server, and return the figures as plain values.

    Args:
        url: ``host:port`` of its gRPC; the SDK's variables say whether with TLS.
        about: What it runs on, in words.
        plan: How long everything takes.
        say: Told what is being measured.

    Raises:
        ValueError: It does not serve the X-ray classifier, or its address or one of the variables cannot be right.
        ServerUnavailable: Nobody answers there.
    """
    served = ready_models(url) & {model for task in TASKS.values() for model in (task.classifier, task.ensemble)}
    if XRAY.classifier not in served:
        raise ValueError(f"{url} does not serve {XRAY.classifier}, which is what is measured")
    counters = Counters(url)
    with tempfile.TemporaryDirectory() as folder, CallersProcess() as callers:
        bench = Bench(url, callers, counters, drawn_files(served, Path(folder)), plan, say)
        report: dict[str, Any] = {
            "machine": vars(this_machine()),
            "server": about,
            "pictures": "224x224 grey JPEG, drawn",
            "plan": vars(plan),
            "closed": closed_loop(bench, CALLERS),
        }
        report["capacity"] = max(point["per_second"] for point in report["closed"].values())
        report["rounds"] = matched_rounds(bench, served)
        report["open"] = open_loop(bench, report["capacity"])
        counters.close()
    report["callers_busy"] = callers_busy(report)
    return report


def callers_busy(report: dict[str, Any]) -> float:
    """Cores that the callers' process used where most was answered; from `BUSY` on it may have been the limit."""
    most = max(report["closed"].values(), key=lambda point: point["per_second"])
    return float(most["sent_per_second"] * most["client_ms_per_call"] / 1000)
