"""Load in two shapes: callers that wait for their answers, and requests that are sent by the clock.

Callers that wait send less when the server is slow, and so hide how long others would have waited. Requests by the
clock do not: their latency counts from the time at which they were to be sent, even if the sender itself is late.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .ways import Call, Load, failure_name, opened

Start = Callable[[int, Callable[["BaseException | None"], None]], None]
"""Sends the request of that number and calls back with what went wrong, or None."""


@dataclass
class Outcome:
    """What came of a load, within the time that was counted.

    Attributes:
        seconds: That time.
        latencies_s: Of every answer, in seconds.
        refusals_s: Of every failure, in seconds.
        failures: Number of failures by the name of the error.
        client_cpu_s: Processor time that the callers' process took meanwhile.
        sent: Requests that were to be sent.
        in_time: Answers that came before the counted time was over.
    """

    seconds: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    refusals_s: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    client_cpu_s: float = 0.0
    sent: int = 0
    in_time: int = 0

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return self.in_time / self.seconds if self.seconds else 0.0

    @property
    def client_ms(self) -> float:
        """Processor time of the callers' process for each request, in milliseconds."""
        calls = len(self.latencies_s) + len(self.refusals_s)
        return 1000 * self.client_cpu_s / calls if calls else 0.0


def run(load: Load) -> Outcome:
    """Run a load in this process."""
    with contextlib.ExitStack() as stack:
        calls = [stack.enter_context(opened(target)) for target in load.targets]
        if load.rate is None:
            return closed(calls, load.callers, load.seconds, load.warm_up_s)
        counted = send_times(load.rate, load.seconds, load.seed)
        times = [*send_times(load.rate, load.warm_up_s, load.seed + 1), *(load.warm_up_s + at for at in counted)]
        return open_(calls[0].start, times, load.warm_up_s, load.seconds, load.targets[0].timeout_s)


def closed(
    calls: Sequence[Call],
    callers: int,
    seconds: float,
    warm_up_s: float,
    pause_s: float = 0.01,
) -> Outcome:
    """`callers` threads that each wait for their answer; what ends within the counted time is counted.

    A caller whose request was refused pauses for `pause_s`, as any client must that is told to come again later.
    """
    outcome, lock = Outcome(seconds=seconds), threading.Lock()
    begin = time.perf_counter() + warm_up_s
    end = begin + seconds
    numbers = itertools.count()

    def caller(index: int) -> None:
        call = calls[index % len(calls)]
        while (start := time.perf_counter()) < end:
            error = _error_of(call, next(numbers))
            now = time.perf_counter()
            if begin <= now < end:
                with lock:
                    _note(outcome, now - start, error)
                    outcome.in_time += error is None
            if error is not None:
                time.sleep(pause_s)

    threads = [threading.Thread(target=caller, args=(index,)) for index in range(callers)]
    for thread in threads:
        thread.start()
    time.sleep(max(0.0, begin - time.perf_counter()))
    cpu = time.process_time()
    time.sleep(max(0.0, end - time.perf_counter()))
    outcome.client_cpu_s = time.process_time() - cpu
    for thread in threads:
        thread.join()
    outcome.sent = len(outcome.latencies_s) + len(outcome.refusals_s)
    return outcome


def send_times(rate: float, seconds: float, seed: int) -> list[float]:
    """Times at which requests of many independent callers come, at random: a Poisson process, given its count.

    The count is that of the rate, because what is measured is called by it: of a few hundred, chance would leave out or
    add a tenth.
    """
    rng = np.random.default_rng(seed)
    return [float(at) for at in np.sort(rng.uniform(0, seconds, size=round(rate * seconds)))]


def open_(
    start: Start,
    times: Sequence[float],
    skip_s: float,
    seconds: float,
    grace_s: float,
) -> Outcome:
    """Send by the clock, and count what was to be sent in the `seconds` after `skip_s`.

    Args:
        start: Sends one request.
        times: When to send, in seconds from now, ascending.
        skip_s: Requests before that time warm up and are not counted.
        seconds: The time that is counted.
        grace_s: Longest to wait for the answers at the end.
    """
    outcome, lock = Outcome(seconds=seconds), threading.Lock()
    waiting = threading.Semaphore(0)
    zero, cpu = time.perf_counter(), None
    for number, at in enumerate(times):
        time.sleep(max(0.0, zero + at - time.perf_counter()))
        if cpu is None and at >= skip_s:
            cpu = time.process_time()

        def done(error: BaseException | None, at: float = at) -> None:
            now = time.perf_counter()
            with lock:
                if at >= skip_s:
                    _note(outcome, now - zero - at, error)
                # Whenever they were sent: the server's work of that time.
                outcome.in_time += error is None and skip_s <= now - zero < skip_s + seconds
            waiting.release()

        start(number, done)
    outcome.client_cpu_s = time.process_time() - (cpu or 0.0)
    deadline = time.perf_counter() + grace_s + 1
    for _ in times:
        if not waiting.acquire(timeout=max(0.0, deadline - time.perf_counter())):
            break
    outcome.sent = sum(at >= skip_s for at in times)
    with lock:
        unanswered = outcome.sent - len(outcome.latencies_s) - len(outcome.refusals_s)
        if unanswered:
            outcome.failures["Unanswered"] += unanswered
    return outcome


def _error_of(call: Call, number: int) -> Exception | None:
    try:
        call(number)
    except Exception as error:  # every failure is a finding, whatever its kind
        return error
    return None


def _note(outcome: Outcome, latency_s: float, error: BaseException | None) -> None:
    if error is None:
        outcome.latencies_s.append(latency_s)
    else:
        outcome.refusals_s.append(latency_s)
        outcome.failures[failure_name(error)] += 1
