from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from densescan._faults import Call, translate
from densescan._retries import Retries
from densescan._settings import Deadline
from densescan.errors import DensescanError, InferenceFailed, ModelNotFound, Overloaded, ServerUnavailable


def fault(code: str, details: str = "") -> DensescanError:
    return translate(f"StatusCode.{code}", details, Call("a:1", "m", 5))


@pytest.mark.parametrize(
    ("code", "details", "kind", "transient"),
    [
        ("UNAVAILABLE", "Socket closed", ServerUnavailable, True),
        ("UNAVAILABLE", "Connection refused", ServerUnavailable, True),
        ("CANCELLED", "", ServerUnavailable, True),
        ("UNAVAILABLE", "Trying to connect an http1.x server", ServerUnavailable, False),
        ("UNIMPLEMENTED", "404", ServerUnavailable, False),
        ("UNAVAILABLE", "Request for unknown model: 'x' version 1 is not at ready state", ModelNotFound, True),
        ("NOT_FOUND", "unknown model", ModelNotFound, False),
        ("UNAVAILABLE", "Exceeds maximum queue size", Overloaded, True),
        ("INTERNAL", "out of memory", InferenceFailed, False),
        ("DEADLINE_EXCEEDED", "", DensescanError, False),
    ],
)
def test_only_what_may_pass_by_itself_is_transient(code: str, details: str, kind: type, transient: bool) -> None:
    error = fault(code, details)
    assert isinstance(error, kind)
    assert error.transient is transient
    assert (Retries(3).begin(Deadline(60)).pause_s(error) is not None) == (transient and kind is not Overloaded)
    assert (Retries(3, overloaded=True).begin(Deadline(60)).pause_s(error) is not None) == transient


LOST = fault("UNAVAILABLE", "Socket closed")


def test_a_request_is_sent_again_as_often_as_allowed_with_growing_pauses() -> None:
    attempts = Retries(7, jitter=lambda: 1.0).begin(Deadline(60))
    pauses = [attempts.pause_s(LOST) for _ in range(8)]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, None]


@given(st.floats(0, 1), st.floats(0.001, 5), st.integers(0, 12))
def test_no_pause_ends_after_the_deadline(jitter: float, left_s: float, most: int) -> None:
    deadline = Deadline(left_s)
    attempts = Retries(most, jitter=lambda: jitter).begin(deadline)
    pauses = []
    while (pause := attempts.pause_s(LOST)) is not None:
        assert pause < left_s
        pauses.append(pause)
    assert len(pauses) <= most


def test_callers_that_failed_together_do_not_come_back_together() -> None:
    assert len({Retries(1).begin(Deadline(60)).pause_s(LOST) for _ in range(20)}) > 10


def test_many_failing_requests_are_not_a_multiple_of_the_load() -> None:
    retries = Retries(3)
    again = sum(retries.begin(Deadline(60)).pause_s(LOST) is not None for _ in range(1000))
    assert again == 10
    for _ in range(25):  # floating-point dust aside, ten answers earn one retry
        retries.succeeded()
    again = sum(retries.begin(Deadline(60)).pause_s(LOST) is not None for _ in range(1000))
    assert again == 2


def test_one_request_may_be_sent_again_as_often_as_was_asked_for() -> None:
    attempts = Retries(30).begin(Deadline(600))
    assert sum(attempts.pause_s(LOST) is not None for _ in range(40)) == 30


def test_without_retries_the_first_error_is_final() -> None:
    assert Retries(0).begin(Deadline(60)).pause_s(LOST) is None
