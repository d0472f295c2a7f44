"""What a model answers, counted in the server's own metrics, beside what it answered when it was released.

The card beside the weights (``model.json``) says how answers are counted (``drift``: the edges of the bins of
probability) and how often each was given at release; a version whose card says nothing is not counted. For each
most probable label and bin there are two series:

==============================  =======  ==========================================
``densescan_answers_total``     counter  answers since this process began
``densescan_release_answers``   gauge    answers to the pictures of the release
==============================  =======  ==========================================

with the labels ``model``, ``version``, ``label``, ``confidence`` (where the bin begins) and ``process``. The last,
because Triton takes a series away together with the first of the processes that share it.

A thread counts, a moment after the answers: to tell Triton of one takes a third of a millisecond of its caller's time.
"""

from __future__ import annotations

import json
import os
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils

CARD = "model.json"
OUTPUT = "probabilities"

PAUSE_S = 0.2
"""Answers are gathered for so long before they are counted together."""


class AnswerCounts:
    """The counters of one model's process.

    Args:
        labels: In the network's order.
        edges: Where the bins of probability begin.
        released: Answers at release by label and bin.
        model: Its name.
        version: Its version.
        warmup: Answers that are not counted at first: Triton warms each process up before anybody can ask.
    """

    def __init__(
        self,
        labels: Sequence[str],
        edges: Sequence[float],
        released: Sequence[Sequence[float]],
        *,
        model: str,
        version: str,
        warmup: int = 0,
    ) -> None:
        self._edges, self._skip, self._labels = np.asarray(edges), warmup, len(labels)
        family = pb_utils.MetricFamily
        self._answers = family("densescan_answers_total", "Answers by most probable label and its bin", family.COUNTER)
        self._release = family("densescan_release_answers", "The same at the release", family.GAUGE)
        same = {"model": model, "version": version, "process": str(os.getpid())}
        # All at once: a series that began at its first answer would hide that answer from a rate.
        cells = [{**same, "label": label, "confidence": f"{edge:g}"} for label in labels for edge in edges]
        self._counters = [self._answers.Metric(labels=cell) for cell in cells]
        self._gauges = [self._release.Metric(labels=cell) for cell in cells]
        for gauge, value in zip(self._gauges, (float(value) for row in released for value in row), strict=True):
            gauge.set(value)
        self._waiting: deque[npt.NDArray[np.float32]] = deque()
        self._some, self._over = threading.Event(), threading.Event()
        # A daemon: a process whose server is gone ends without it.
        self._thread = threading.Thread(target=self._count_all, name="answer counts", daemon=True)
        self._thread.start()

    def add(self, probabilities: npt.NDArray[np.float32]) -> None:
        """Have answers counted, [answers, labels], of an array that stays as it is."""
        if not self._over.is_set():
            self._waiting.append(probabilities)
            self._some.set()

    def _count_all(self) -> None:
        """Until `close`, or until it fails: that is no reason to fail an answer."""
        while self._some.wait() and not self._over.wait(PAUSE_S):
            self._some.clear()  # before looking: what is added meanwhile is seen now or sets it again
            waiting = [self._waiting.popleft() for _ in range(len(self._waiting))]
            try:
                if waiting:
                    self._count(np.concatenate(waiting))
            except Exception as error:
                self._over.set()
                pb_utils.Logger.log_warn(f"answers are no longer counted: {type(error).__name__}: {error}")

    def _count(self, probabilities: npt.NDArray[np.float32]) -> None:
        skipped = min(self._skip, len(probabilities))
        self._skip -= skipped
        probabilities = probabilities[skipped:]
        if not len(probabilities):
            return
        bins = np.searchsorted(self._edges, probabilities.max(axis=1), side="right") - 1
        cells = probabilities.argmax(axis=1) * len(self._edges) + bins
        for cell, count in zip(*np.unique(cells, return_counts=True), strict=True):
            self._counters[cell].increment(float(count))

    def close(self) -> None:
        """Stop counting, and take the series away.

        The series go before what they belong to, and all before the process ends: each destructor calls into Triton,
        which is a segmentation fault once the model's process is shutting down.
        """
        self._over.set()
        self._some.set()
        self._thread.join(5)  # it may wait for Triton, which is there as long as this is called
        del self._counters, self._gauges
        del self._answers, self._release


def open_counts(config: Mapping[str, Any], folder: Path) -> AnswerCounts | None:
    """The counters of a version, or None where there is nothing to count by.

    Counting is no reason not to serve: whatever is wrong with it is only logged.

    Args:
        config: The model's config as Triton passes it.
        folder: The version's folder.
    """
    try:
        drift = json.loads((folder / CARD).read_text(encoding="utf-8")).get("drift")
        output = next((entry for entry in config["output"] if entry["name"] == OUTPUT), None)
        if drift is None or output is None:
            return None
        labels = list(drift["answers"])
        if [int(size) for size in output["dims"]] != [len(labels)]:
            raise ValueError(f"{len(labels)} labels for an output of {output['dims']}")
        return AnswerCounts(
            labels,
            drift["edges"],
            list(drift["answers"].values()),
            model=config["name"],
            version=folder.name,
            warmup=warmup_answers(config),
        )
    except FileNotFoundError:
        return None
    except Exception as error:  # what Triton raises where metrics are off is of no documented kind
        pb_utils.Logger.log_warn(f"{folder}: answers are not counted: {type(error).__name__}: {error}")
        return None


def warmup_answers(config: Mapping[str, Any]) -> int:
    """Pictures that a config has each process answer before it is ready."""
    return sum(
        max(1, int(entry.get("batch_size", 1))) * max(1, int(entry.get("count", 0)))
        for entry in config.get("model_warmup", [])
    )
