"""How fast a server answers a few callers that each wait for their answer: what ``densescan bench`` measures."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .client import Client
from .errors import DensescanError
from .images import ImageSource
from .tasks import Task


@dataclass(frozen=True)
class Measurement:
    """What came out.

    Attributes:
        way: ``single`` calls in threads, or ``many`` by one call of `Client.classify_many`.
        callers: How many asked at once.
        seconds: How long they did.
        images_per_s: Answers a second of all of them together.
        p50_ms: Half of the answers came within this time, from reading the picture to the result.
        p95_ms: 95 of a hundred did.
        p99_ms: 99 of a hundred did.
        failed: Errors by their type.
    """

    way: str
    callers: int
    seconds: float
    images_per_s: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    failed: dict[str, int]


def measure(client: Client, task: Task, image: ImageSource, *, callers: int, seconds: float) -> Measurement:
    """Have `callers` threads classify the same picture again and again.

    Raises:
        DensescanError: The first request fails, which is not counted.
    """
    client.classify(task, image)  # connects, and reads the operating point
    times: list[float] = []
    failed: Counter[str] = Counter()
    lock = threading.Lock()
    start = time.perf_counter()

    def call() -> None:
        while True:  # once at least, however late the thread begins
            begin = time.perf_counter()
            try:
                client.classify(task, image)
            except DensescanError as error:
                with lock:
                    failed[type(error).__name__] += 1
                time.sleep(0.01)  # what is refused at once is not asked for in a tight loop
            else:
                with lock:
                    times.append(time.perf_counter() - begin)
            if time.perf_counter() >= start + seconds:
                break

    threads = [threading.Thread(target=call, name="densescan-bench") for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - start
    p50, p95, p99 = np.percentile(np.array(times) * 1000, [50, 95, 99]).tolist() if times else (None, None, None)
    return Measurement("single", callers, elapsed, len(times) / elapsed, p50, p95, p99, dict(failed))


def measure_many(client: Client, task: Task, image: ImageSource, *, callers: int, seconds: float) -> Measurement:
    """Have `Client.classify_many` keep `callers` pictures in flight; what one of them takes is not measured.

    Raises:
        DensescanError: The first request fails, which is not counted.
    """
    client.classify(task, image)
    start = time.perf_counter()
    failed: Counter[str] = Counter()
    answered = 0

    def pictures() -> Iterator[ImageSource]:
        yield from itertools.repeat(image, callers)
        while time.perf_counter() < start + seconds:
            yield image

    for outcome in client.classify_many(task, pictures(), in_flight=callers):
        if isinstance(outcome, DensescanError):
            failed[type(outcome).__name__] += 1
        else:
            answered += 1
    elapsed = time.perf_counter() - start
    return Measurement("many", callers, elapsed, answered / elapsed, None, None, None, dict(failed))
