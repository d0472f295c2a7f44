"""What Locust's users do: each call is made as a real caller makes it, timed, and told to Locust with its failure."""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import grpc
import grpc.experimental.gevent
from locust import User, task
from tritonclient.grpc import service_pb2_grpc

from densescan import Client
from densescan.tasks import MRI, TASKS, XRAY
from densescan.tasks import Task as DensescanTask

from .connection import Connection
from .ways import encoded_request, failure_name

# Locust runs its users as greenlets; gRPC must yield to them, and is told so once, before any connection.
grpc.experimental.gevent.init_gevent()


class Failure(Exception):
    """A failed call, named by its kind alone, so that Locust counts all of a kind together."""

    def __repr__(self) -> str:
        return str(self.args[0])


class DensescanUser(User):
    """Somebody with pictures of both tasks, who asks in the ways and shares of the mix.

    Attributes:
        mix: Shares by kind of call.
        pictures: Paths by name of task.
        timeout_s: Longest to wait for an answer, in seconds.
    """

    abstract = True
    mix: Mapping[str, float]
    pictures: Mapping[str, list[Path]]
    timeout_s: float = 10.0
    answered_ms: ClassVar[defaultdict[str, Counter[int]]] = defaultdict(Counter)
    """By kind of call, how many answers took so many milliseconds; all users', in this process."""

    def on_start(self) -> None:
        """Connect."""
        # The load is what was asked for, however much of it is refused.
        self.sdk = Client(self.host, timeout_s=self.timeout_s, hold_back=False)
        self.connection = Connection(str(self.host))
        self.channel = self.connection.channel()

    def on_stop(self) -> None:
        """Disconnect."""
        self.sdk.close()
        self.channel.close()

    @task
    def ask(self) -> None:
        """Make one call of the mix."""
        (kind,) = random.choices(list(self.mix), list(self.mix.values()))
        self.measure(kind, lambda: CALLS[kind](self))

    def measure(self, kind: str, call: Callable[[], Any]) -> None:
        """Make a call, and tell Locust how long it took and how it failed."""
        failure, start = None, time.perf_counter()
        try:
            call()
        except Exception as error:  # every failure is a finding, and a row of its own in the statistics
            failure = Failure(failure_name(error))
        took_ms = 1000 * (time.perf_counter() - start)
        if failure is None:
            self.answered_ms[kind][round(took_ms)] += 1
        self.environment.events.request.fire(
            request_type="gRPC" if kind == "encoded" else "SDK",
            name=kind,
            response_time=took_ms,
            response_length=0,
            exception=failure,
            context={},
        )

    def picture(self, of: DensescanTask) -> Path:
        """One of a task's pictures."""
        return random.choice(self.pictures[of.name])

    def encoded(self) -> None:
        """Send a file's bytes as they are, as a service without the SDK does."""
        of = random.choice(list(TASKS.values()))
        request = encoded_request(of, self.picture(of).read_bytes())
        stub = service_pb2_grpc.GRPCInferenceServiceStub(self.channel)
        stub.ModelInfer(request, timeout=self.timeout_s, metadata=self.connection.metadata)


CALLS: dict[str, Callable[[DensescanUser], Any]] = {
    "classify_xray": lambda user: user.sdk.classify_xray(user.picture(XRAY)),
    "classify_mri": lambda user: user.sdk.classify_mri(user.picture(MRI)),
    "explain": lambda user: user.sdk.explain_xray(user.picture(XRAY)),
    "encoded": lambda user: user.encoded(),
}
"""What a user does for each kind of call."""
