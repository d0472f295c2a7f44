from __future__ import annotations

import asyncio
import heapq
import math
import random
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from densescan import AsyncClient, Classification, Client
from densescan._throttle import BUDGET, IN_A_ROW, TRICKLE, Throttle
from densescan.errors import DeadlineExceeded, DensescanError, InvalidImage, Overloaded, ServerUnavailable

from .fake_server import FakeTriton, Handler, refuse

FULL = refuse(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")
PIXELS = np.tile(np.arange(224, dtype=np.uint8), (224, 1))


REFUSED_AFTER_S = 0.003

SENT_OF_200 = BUDGET + (200 - BUDGET) // (IN_A_ROW + 1)
"""Requests, where each is refused and no time goes by."""


class Simulated:
    """A server that answers `capacity` requests a second and lets 128 wait, and clients that ask it at random times."""

    def __init__(self, capacity: float, clients: int = 1) -> None:
        self._random = random.Random(0)
        self._capacity, self._now, self._free_at, self._waiting = capacity, 0.0, 0.0, 0
        self._throttles = [Throttle("a:1", clock=lambda: self._now) for _ in range(clients)]
        self._results: list[tuple[float, int, int, bool, Any]] = []

    def ask(self, rates: Sequence[float], seconds: float) -> dict[str, list[float]]:
        """Ask at these rates, one for each client; what became of the requests of that time, a second and client."""
        counts: dict[str, list[float]] = {what: [0.0] * len(rates) for what in ("sent", "answered", "held back")}
        end, asks = self._now + seconds, [self._now + self._random.expovariate(rate) for rate in rates]
        while min(asks) < end:
            client = asks.index(min(asks))
            self._settle(min(asks), counts)
            asks[client] += self._random.expovariate(rates[client])
            admission = self._throttles[client].admitted("m")
            try:
                admission.__enter__()
            except Overloaded:
                counts["held back"][client] += 1
                continue
            counts["sent"][client] += 1
            taken = self._waiting < 128
            if taken:
                self._waiting += 1
                self._free_at = max(self._free_at, self._now) + 1 / self._capacity
            at = self._free_at if taken else self._now + REFUSED_AFTER_S
            heapq.heappush(self._results, (at, id(admission), client, taken, admission))
        return {what: [count / seconds for count in of] for what, of in counts.items()}

    def _settle(self, until: float, counts: dict[str, list[float]]) -> None:
        while self._results and self._results[0][0] <= until:
            self._now, _, client, taken, admission = heapq.heappop(self._results)
            self._waiting -= taken
            counts["answered"][client] += taken
            with suppress(Overloaded):
                admission.__exit__(*((None, None, None) if taken else (Overloaded, Overloaded(), None)))
        self._now = until


@pytest.mark.parametrize("capacity", [30, 200, 1000])
def test_at_three_times_the_capacity_hardly_more_is_sent_than_is_answered_and_no_less_answered(capacity: float) -> None:
    server = Simulated(capacity)
    server.ask([3 * capacity], 10)
    rates = server.ask([3 * capacity], 20)
    assert rates["answered"][0] >= 0.98 * capacity
    assert rates["sent"][0] <= 1.5 * capacity
    assert rates["held back"][0] >= 1.5 * capacity


def test_when_the_load_falls_everything_is_sent_at_once() -> None:
    server = Simulated(200)
    server.ask([600], 20)
    assert server.ask([100], 0.2)["held back"] <= [50]
    assert server.ask([100], 30)["held back"] == [0]


def test_who_asks_for_little_is_served_while_another_floods() -> None:
    server = Simulated(200, clients=3)
    rates = server.ask([1000, 30, 5], 30)
    assert rates["answered"][1] >= 0.8 * 30
    assert rates["answered"][2] >= 0.8 * 5


def test_those_who_flood_alike_are_served_alike() -> None:
    server = Simulated(200, clients=4)
    answered = server.ask([300] * 4, 40)["answered"]
    assert max(answered) < 2 * min(answered)


def test_a_client_tries_again_even_if_it_has_no_answer_to_expect() -> None:
    now, sent = 0.0, 0
    throttle = Throttle("a:1", clock=lambda: now)
    refused(throttle, int(BUDGET))
    for step, expected in ((0.0, 1000 / (IN_A_ROW + 1)), (0.1, 1000 * 0.1 * TRICKLE)):
        sent = 0
        for _ in range(1000):
            now += step
            with suppress(Overloaded), throttle.admitted("m"):
                sent += 1
                raise Overloaded
        assert sent == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(("url", "least"), [("a:1,b:1,c:1", 1.0), ("dns:///a:1", 1.0), ("balancer:1", 0.1)])
def test_one_server_of_three_that_is_full_for_good_does_not_stop_the_others(url: str, least: float) -> None:
    now, sent = 0.0, 0
    throttle = Throttle(url, clock=lambda: now)
    for _ in range(3000):
        now += 0.001
        with suppress(Overloaded), throttle.admitted("m"):
            sent += 1
            if sent % 3 == 0:
                raise Overloaded
    assert sent >= least * 3000


@given(st.lists(st.floats(0, 3), max_size=200))
def test_whoever_is_never_refused_is_never_held_back(pauses: list[float]) -> None:
    now = 0.0
    throttle = Throttle("a:1", clock=lambda: now)
    for pause in pauses:
        now += pause
        with throttle.admitted("m"):
            pass


def refused(throttle: Throttle, times: int, model: str = "m") -> None:
    for _ in range(times):
        with pytest.raises(Overloaded, match="by the server"), throttle.admitted(model):
            raise Overloaded("by the server")


def test_a_short_burst_of_refusals_holds_nothing_back_and_a_long_one_only_its_own_model() -> None:
    throttle = Throttle("a:1", clock=lambda: 0.0)
    refused(throttle, int(BUDGET))
    with pytest.raises(Overloaded, match="held back, and not sent") as caught, throttle.admitted("m"):
        raise AssertionError
    assert caught.value.transient
    with throttle.admitted("other"):
        pass


@pytest.mark.parametrize(
    "error", [InvalidImage("a", "b"), ServerUnavailable(), DeadlineExceeded(), KeyboardInterrupt()]
)
def test_what_fails_otherwise_is_neither_taken_nor_refused(error: BaseException) -> None:
    throttle = Throttle("a:1", clock=lambda: 0.0)
    for _ in range(100):
        with pytest.raises(type(error)), throttle.admitted("m"):
            raise error
    refused(throttle, int(BUDGET))  # none of it is made up for by the others
    with pytest.raises(Overloaded, match="held back"), throttle.admitted("m"):
        raise AssertionError


def test_a_client_that_is_refused_stops_sending_and_reading_pictures(fake: FakeTriton) -> None:
    fake.on_infer = FULL
    with Client(fake.url) as client:
        client._throttle = Throttle(fake.url, clock=lambda: 0.0)  # waiting earns nothing
        errors = [_error(client, PIXELS) for _ in range(200)]
        assert {type(error) for error in errors} == {Overloaded}
        assert len(fake.asked("ModelInfer")) == SENT_OF_200
        assert sum("held back" in str(error) for error in errors) == 200 - SENT_OF_200
        # What is held back costs no look at the picture, which is none.
        assert {type(_error(client, b"no picture")) for _ in range(5)} == {Overloaded}
        with pytest.raises(Overloaded, match="refused the request"):
            client.classify_mri(PIXELS)


@pytest.mark.parametrize("options", [{"hold_back": False}, {"retry_overloaded": True, "retries": 0}], ids=str)
def test_a_client_that_is_told_so_sends_everything(fake: FakeTriton, options: dict[str, bool]) -> None:
    fake.on_infer = FULL
    with Client(fake.url, **options) as client:  # type: ignore[arg-type]
        for _ in range(100):
            assert isinstance(_error(client, PIXELS), Overloaded)
    assert len(fake.asked("ModelInfer")) == 100


def full_for_a_second(then: Handler) -> Handler:
    """Refuse what comes within a second of the first request, and the first `BUDGET` requests however late they are."""
    lock, refused, end = threading.Lock(), 0, math.inf

    def handler(request: Any, context: Any) -> Any:
        nonlocal refused, end
        with lock:
            end = min(end, time.monotonic() + 1.0)
            full = refused < BUDGET or time.monotonic() < end
            refused += full
        return (FULL if full else then)(request, context)

    return handler


def test_one_of_many_waits_for_its_turn_and_is_not_lost(fake: FakeTriton) -> None:
    """A queue that is full for a second would otherwise cost a long list of pictures all that is left of it."""
    answer_normally = fake.on_infer
    fake.on_infer = full_for_a_second(answer_normally)
    with Client(fake.url) as client:
        outcomes = list(client.classify_many("xray", [PIXELS] * 100, in_flight=4))
    refused = sum(isinstance(outcome, Overloaded) for outcome in outcomes)
    assert BUDGET <= refused <= BUDGET + 4 * (TRICKLE + 2)
    assert not any("held back" in str(outcome) for outcome in outcomes)
    assert sum(isinstance(outcome, Classification) for outcome in outcomes) == 100 - refused

    async def ask() -> list[Any]:
        async with AsyncClient(fake.url) as client:
            return [outcome async for outcome in client.explain_many("xray", [PIXELS] * 100, in_flight=4)]

    fake.on_infer = full_for_a_second(answer_normally)
    outcomes = asyncio.run(ask())
    refused = sum(isinstance(outcome, Overloaded) for outcome in outcomes)
    assert BUDGET <= refused <= BUDGET + 4 * (TRICKLE + 2)
    assert not any("held back" in str(outcome) for outcome in outcomes)


def test_one_of_many_waits_no_longer_than_it_may(fake: FakeTriton) -> None:
    fake.on_infer = FULL
    with Client(fake.url) as client:
        client._throttle = Throttle(fake.url, clock=lambda: 0.0)
        while "held back" not in str(_error(client, PIXELS)):
            pass
        start = time.monotonic()
        (outcome,) = client.classify_many("xray", [PIXELS], timeout_s=0.05)
    assert isinstance(outcome, Overloaded)
    assert "held back" in str(outcome)
    assert time.monotonic() - start < 2


def test_the_asynchronous_client_holds_back_alike(fake: FakeTriton) -> None:
    fake.on_infer = FULL

    async def ask() -> None:
        async with AsyncClient(fake.url) as client:
            client._throttle = Throttle(fake.url, clock=lambda: 0.0)
            for _ in range(200):
                with pytest.raises(Overloaded):
                    await client.explain_xray(PIXELS)

    asyncio.run(ask())
    assert len(fake.asked("ModelInfer")) == SENT_OF_200


def _error(client: Client, picture: object) -> DensescanError:
    with pytest.raises(DensescanError) as caught:
        client.classify_xray(picture)  # type: ignore[arg-type]
    return caught.value


def test_who_has_waited_for_its_turn_is_sent_whatever_others_spent_since() -> None:
    throttle = Throttle("a:1", clock=lambda: 0.0)
    refused(throttle, int(BUDGET))
    assert throttle.pause_s("m") > 0
    with throttle.admitted("m", in_turn=True):
        pass
    with pytest.raises(Overloaded, match="held back"), throttle.admitted("m"):
        raise AssertionError


@pytest.mark.parametrize("answers", [0, 1000])
def test_a_long_pause_or_many_answers_earn_no_more_than_a_short_burst(answers: int) -> None:
    """Or a client that was idle over night would flood a full queue for minutes."""
    now = 0.0
    throttle = Throttle("a:1", clock=lambda: now)
    for _ in range(1 + answers):
        with throttle.admitted("m"):
            pass
    now = 3600.0 if not answers else 0.0
    refused(throttle, int(BUDGET))
    with pytest.raises(Overloaded, match="held back"), throttle.admitted("m"):
        raise AssertionError
