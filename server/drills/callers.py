"""Callers who ask without a pause and check every answer."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np

from .subject import TOLERANCE, Expected, Subject, image_input

_AFTER_FAILURE_S = 0.02


@dataclass
class Tally:
    """What callers saw.

    Attributes:
        right: Right answers, by the version that they name.
        wrong: Answers that are not those of the version that they name.
        failed: Refusals and errors, by gRPC's status and the beginning of the message.
        pause_s: The longest time in which nobody got a right answer.
    """

    right: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    pause_s: float = 0.0

    @property
    def total(self) -> int:
        """Requests that came to an end, whichever."""
        return self.right.total() + self.wrong + self.failed.total()


def wait_until(condition: Callable[[], bool], missed: str, timeout_s: float) -> None:
    """Return as soon as a condition is true.

    Raises:
        TimeoutError: It did not become true in time; `missed` says what did not happen.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{missed} in {timeout_s:g} s")
        time.sleep(0.01)


class Callers:
    """Callers in threads, from entering the ``with`` block until leaving it.

    Args:
        subject: What to ask, and the answers.
        endpoints: ``host:port`` of servers, as in Kubernetes' list of ready pods: it may be replaced while they
            run, and each request goes to the next one in it.
        expected: The answers by version, if not those of `subject`.
        count: How many.
        timeout_s: Limit of each request.
    """

    def __init__(
        self,
        subject: Subject,
        endpoints: Sequence[str],
        *,
        expected: Expected | None = None,
        count: int = 4,
        timeout_s: float = 3.0,
    ) -> None:
        self.endpoints = tuple(endpoints)
        self.tally = Tally()
        self._subject = subject
        self._expected = expected or subject.expected
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._last_right = 0.0
        self._ended = threading.Event()
        self._turns = [0] * count
        # No daemons: at the interpreter's end one that is inside gRPC would crash it.
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(count)]

    def __enter__(self) -> Callers:
        self._last_right = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Have them finish their requests and end; may be called twice."""
        if self._ended.is_set():
            return
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._note_pause(time.monotonic())

    def wait_for(self, more: int, *, version: str = "", timeout_s: float = 60) -> None:
        """Return after so many more right answers, of a version if one is named.

        Raises:
            TimeoutError: They did not come in time.
        """
        have = self._count(version)
        what = f"no {more} right answers {version and f'of version {version}'}".rstrip()
        wait_until(lambda: self._count(version) >= have + more, what, timeout_s)

    def wait_for_turns(self, *, timeout_s: float = 60) -> None:
        """Return when every caller has ended the request that it has now: none asks an address of before.

        Raises:
            TimeoutError: They did not end in time.
        """
        have = list(self._turns)
        wait_until(
            lambda: all(now > before for now, before in zip(self._turns, have, strict=True)),
            "not every request came to its end",
            timeout_s,
        )

    def _count(self, version: str) -> int:
        with self._lock:
            return self.tally.right[version] if version else self.tally.right.total()

    def _call(self, number: int) -> None:
        from tritonclient.grpc import InferenceServerClient

        clients: dict[str, Any] = {}
        requests = [image_input(picture) for picture in self._subject.pictures]
        turn = number
        while not self._ended.is_set():
            turn += 1
            endpoints = self.endpoints  # once: it may be replaced
            url = endpoints[turn % len(endpoints)]
            if url not in clients:
                clients[url] = InferenceServerClient(url, channel_args=_CHANNEL)  # type: ignore[no-untyped-call]
            self._ask(clients[url], requests, turn % len(requests))
            self._turns[number] += 1
        for client in clients.values():
            with contextlib.suppress(Exception):
                client.close()

    def _ask(self, client: Any, requests: Sequence[Any], index: int) -> None:
        try:
            result = client.infer(self._subject.model, [requests[index]], client_timeout=self._timeout_s)
            version = str(result.get_response().model_version)
            answer = result.as_numpy("probabilities")[0]
        except Exception as error:
            with self._lock:
                self.tally.failed[_kind(error)] += 1
            time.sleep(_AFTER_FAILURE_S)
            return
        known = self._expected.get(version)
        right = known is not None and bool(np.allclose(answer, known[index], atol=TOLERANCE, rtol=0))
        with self._lock:
            if right:
                self.tally.right[version] += 1
                self._note_pause(time.monotonic())
            else:
                self.tally.wrong += 1

    def _note_pause(self, now: float) -> None:
        self.tally.pause_s = max(self.tally.pause_s, now - self._last_right)
        self._last_right = now


_CHANNEL = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.use_local_subchannel_pool", 1),
]


def _kind(error: Exception) -> str:
    """Status and message, without what differs from request to request."""
    status = getattr(error, "status", lambda: None)() or type(error).__name__
    message = str(getattr(error, "message", lambda: error)())
    message = re.sub(r"^\[request id: [^]]*\] ", "", message.splitlines()[0])
    message = re.sub(r"ipv4:[\d.:]+|[\d.]+:\d+", "ADDRESS", message)
    return f"{str(status).removeprefix('StatusCode.')}: {message[:60].strip()}"
