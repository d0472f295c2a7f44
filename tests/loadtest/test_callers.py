from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.callers import Outcome, closed, open_, send_times
from loadtest.ways import Target, failure_name

TARGET = Target("ready", "xray", "127.0.0.1:1", ())

LONGER = (0.2, 2, 20)
"""Seconds of a load: it is run again for longer where a slow machine's threads did not come to their calls in time."""


class TestByTheClock:
    def test_latency_counts_from_the_intended_time_even_if_the_sender_was_held_up(self) -> None:
        """One request holds the sender for 0.3 s: those due meanwhile have waited, though each was answered at once."""

        def start(number: int, done: Any) -> None:
            time.sleep(0.3 if number == 0 else 0)
            done(None)

        times = [0.0, 0.1, 0.2, 0.4]
        outcome = open_(start, times, skip_s=0, seconds=0.5, grace_s=1)
        assert len(outcome.latencies_s) == 4
        held_up = outcome.latencies_s[1:3]
        assert held_up[0] >= 0.2 - 0.001
        assert held_up[1] >= 0.1 - 0.001

    def test_what_is_due_in_the_warm_up_is_sent_and_not_counted(self) -> None:
        sent: list[int] = []

        def start(number: int, done: Any) -> None:
            sent.append(number)
            done(None)

        outcome = open_(start, [0.0, 0.01, 0.05, 0.06], skip_s=0.05, seconds=0.1, grace_s=1)
        assert sent == [0, 1, 2, 3]
        assert (outcome.sent, len(outcome.latencies_s)) == (2, 2)

    def test_an_answer_in_the_warm_up_is_no_throughput(self) -> None:
        outcome = open_(lambda number, done: done(None), [0.0, 0.01, 0.05, 0.06], skip_s=0.05, seconds=1000, grace_s=1)
        assert outcome.in_time == 2

    def test_the_callers_processor_time_is_that_of_the_load_alone(self) -> None:
        before = time.process_time()
        outcome = open_(lambda number, done: done(None), [0.0, 0.01], skip_s=0, seconds=0.1, grace_s=1)
        assert 0 <= outcome.client_cpu_s <= time.process_time() - before
        before = time.process_time()
        outcome = closed([lambda number: time.sleep(0.01)], callers=1, seconds=0.1, warm_up_s=0)
        assert 0 <= outcome.client_cpu_s <= time.process_time() - before

    def test_an_answer_after_the_time_has_a_latency_but_is_no_throughput(self) -> None:
        def start(number: int, done: Any) -> None:
            threading.Timer(0.3, done, [None]).start()

        outcome = open_(start, [0.0, 0.05], skip_s=0, seconds=0.1, grace_s=2)
        assert len(outcome.latencies_s) == 2
        assert outcome.per_second == 0

    def test_a_request_without_an_answer_is_counted_as_such(self) -> None:
        outcome = open_(lambda number, done: None, [0.0, 0.01], skip_s=0, seconds=0.02, grace_s=-0.9)
        assert outcome.failures == {"Unanswered": 2}

    def test_a_refusal_is_no_latency(self) -> None:
        outcome = open_(lambda number, done: done(OSError()), [0.0], skip_s=0, seconds=0.1, grace_s=1)
        assert outcome.latencies_s == []
        assert len(outcome.refusals_s) == 1
        assert outcome.failures == {"OSError": 1}

    @given(st.floats(1, 500), st.floats(0.1, 5), st.integers(0, 100))
    def test_times_ascend_within_the_time_and_repeat_for_a_seed(self, rate: float, seconds: float, seed: int) -> None:
        times = send_times(rate, seconds, seed)
        assert times == sorted(times)
        assert all(0 < at < seconds for at in times)
        assert len(times) == round(rate * seconds)  # of a few, chance would leave out or add a tenth
        assert times == send_times(rate, seconds, seed)

    def test_the_rate_is_met_and_the_gaps_are_those_of_independent_callers(self) -> None:
        times = send_times(200, 100, seed=1)
        assert len(times) == 20_000
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        mean = sum(gaps) / len(gaps)
        deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
        assert deviation == pytest.approx(mean, rel=0.05)  # as of the exponential distribution


class TestInALoop:
    def test_each_caller_waits_for_its_answer_before_it_asks_again(self) -> None:
        at_once, most, lock = 0, 0, threading.Lock()

        def call(number: int) -> None:
            nonlocal at_once, most
            with lock:
                at_once += 1
                most = max(most, at_once)
            time.sleep(0.01)
            with lock:
                at_once -= 1

        for seconds in LONGER:
            outcome = closed([call], callers=3, seconds=seconds, warm_up_s=0)
            if most == 3 and outcome.latencies_s:
                break
        assert most == 3
        assert outcome.latencies_s
        assert min(outcome.latencies_s) >= 0.01

    def test_callers_are_shared_out_among_the_targets(self) -> None:
        asked: Counter[str] = Counter()
        lock = threading.Lock()

        def target(name: str) -> Any:
            def call(number: int) -> None:
                with lock:
                    asked[name + threading.current_thread().name] += 1
                time.sleep(0.02)

            return call

        for seconds in LONGER:
            asked.clear()
            closed([target("a"), target("b")], callers=4, seconds=seconds, warm_up_s=0)
            if len(asked) == 4:
                break
        assert sorted(name[0] for name in asked) == ["a", "a", "b", "b"]

    def test_failures_are_named_and_are_no_throughput(self) -> None:
        def call(number: int) -> None:
            if number % 2:
                raise TimeoutError

        for seconds in LONGER:
            outcome = closed([call], callers=1, seconds=seconds, warm_up_s=0, pause_s=0.001)
            if outcome.failures:
                break
        assert set(outcome.failures) == {"TimeoutError"}
        assert outcome.in_time == len(outcome.latencies_s)
        assert outcome.sent == len(outcome.latencies_s) + outcome.failures["TimeoutError"]

    def test_the_warm_up_is_not_counted(self) -> None:
        for warm_up_s in (1, 20):
            calls: list[int] = []
            outcome = closed([lambda number: (calls.append(number), time.sleep(0.01))], 1, 0.1, warm_up_s)  # noqa: B023
            if len(calls) > 11:
                break
        # In the counted time no more can end one after the other.
        assert len(outcome.latencies_s) <= 11 < len(calls)


def test_the_clients_cost_is_shared_among_all_its_requests() -> None:
    outcome = Outcome(seconds=2, latencies_s=[0.1] * 3, refusals_s=[0.1], client_cpu_s=0.008, in_time=3)
    assert outcome.client_ms == pytest.approx(2.0)
    assert outcome.per_second == 1.5


@pytest.mark.parametrize(
    ("code", "details", "name"),
    [
        (grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size", "Overloaded"),
        (grpc.StatusCode.UNAVAILABLE, "Request timeout expired", "Overloaded"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", "DeadlineExceeded"),
        (grpc.StatusCode.UNAVAILABLE, "failed to connect", "ServerUnavailable"),
    ],
)
def test_failures_of_grpc_have_the_names_of_the_sdks_errors(code: grpc.StatusCode, details: str, name: str) -> None:
    class Fault(grpc.RpcError):
        def code(self) -> grpc.StatusCode:
            return code

        def details(self) -> str:
            return details

    assert failure_name(Fault()) == name
    assert failure_name(ValueError()) == "ValueError"
