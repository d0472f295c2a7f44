from __future__ import annotations

from dataclasses import replace

import pytest
from tritonclient.utils import InferenceServerException

from densescan._faults import Call, translate, translated
from densescan.errors import (
    DeadlineExceeded,
    DensescanError,
    InferenceFailed,
    ModelNotFound,
    Overloaded,
    ServerUnavailable,
)

CALL = Call("gpu-box:8001", "xray_densenet121 version 9", timeout_s=2.5)

# Status, the server's words, what they mean.
MEANINGS: list[tuple[str, str, type[DensescanError]]] = [
    ("UNAVAILABLE", "[request id: <id_unknown>] Exceeds maximum queue size", Overloaded),
    ("UNAVAILABLE", "Request timeout expired", Overloaded),
    ("RESOURCE_EXHAUSTED", "too many requests", Overloaded),
    ("RESOURCE_EXHAUSTED", "Sent message larger than max (100 vs. 10)", InferenceFailed),  # again would not help
    ("RESOURCE_EXHAUSTED", "the request is larger than max: the gateway lets 16m through", InferenceFailed),
    ("UNAVAILABLE", "Server exiting", ServerUnavailable),
    ("UNAVAILABLE", "Server is stopping, scheduler for model has stopped accepting new requests", ServerUnavailable),
    ("UNAVAILABLE", "failed to connect to all addresses; Connection refused", ServerUnavailable),
    ("UNAVAILABLE", "Socket closed", ServerUnavailable),
    ("UNAVAILABLE", "", ServerUnavailable),
    ("CANCELLED", "", ServerUnavailable),
    ("UNIMPLEMENTED", "Received http2 header with status: 404", ServerUnavailable),
    ("DEADLINE_EXCEEDED", "Deadline Exceeded", DeadlineExceeded),
    ("NOT_FOUND", "Request for unknown model: 'xray_densenet121' is not found", ModelNotFound),
    ("INVALID_ARGUMENT", "Request for unknown model: 'x' version 9 is not found", ModelNotFound),
    ("NOT_FOUND", "", ModelNotFound),
    ("UNAVAILABLE", "Request for unknown model: 'x' version 1 is not at ready state", ModelNotFound),
    ("UNAVAILABLE", "Request for unknown model: 'x' has no available versions", ModelNotFound),
    ("INVALID_ARGUMENT", "unexpected shape for input 'image'", InferenceFailed),
    ("INTERNAL", "onnx runtime error 1", InferenceFailed),
    ("UNKNOWN", "", InferenceFailed),
    ("UNAUTHENTICATED", "no token", InferenceFailed),
]


@pytest.mark.parametrize(("code", "details", "expected"), MEANINGS)
def test_a_status_has_one_meaning(code: str, details: str, expected: type[DensescanError]) -> None:
    error = translate(f"StatusCode.{code}", details, CALL)
    assert type(error) is expected
    assert "gpu-box:8001" in str(error)
    assert details in str(error) or code == "DEADLINE_EXCEEDED"


def test_who_hangs_up_before_the_first_answer_may_want_tls_or_be_another_port() -> None:
    details = "connections to all backends failing; last error: UNKNOWN: ipv4:127.0.0.1:8000: Socket closed"
    said = str(translate("StatusCode.UNAVAILABLE", details, replace(CALL, reached=False)))
    assert "TLS" in said
    assert "8000 is HTTP" in said
    assert "TLS" not in str(translate("StatusCode.UNAVAILABLE", details, CALL)), "a server that stops"


@pytest.mark.parametrize(
    ("details", "meaning"),
    [
        ("failed to connect to all addresses; Connection refused", "nothing listens there"),
        ("errors resolving a: Domain name not found", "nobody knows a machine of that name"),
        ("Ssl handshake failed (TSI_PROTOCOL_FAILURE)", "check the certificates"),
    ],
)
def test_words_of_grpc_are_put_into_plain_ones(details: str, meaning: str) -> None:
    said = str(translate("StatusCode.UNAVAILABLE", details, CALL))
    assert meaning in said
    assert said.index(meaning) < said.index(details)


@pytest.mark.parametrize("code", ["UNAUTHENTICATED", "PERMISSION_DENIED"])
def test_refused_credentials_are_called_so(code: str) -> None:
    assert "metadata, or client_certificate" in str(translate(f"StatusCode.{code}", "no token", CALL))


def test_an_error_without_a_status_is_a_failed_inference() -> None:
    assert type(translate(None, "odd", CALL)) is InferenceFailed


def test_the_time_limit_of_a_server_never_reached_is_an_absent_server() -> None:
    error = translate("StatusCode.DEADLINE_EXCEEDED", "", Call("a:1", "m", 2.5, reached=False))
    assert type(error) is ServerUnavailable
    assert "nobody answers at a:1 within 2.5 s" in str(error)


@pytest.mark.parametrize(
    ("code", "details", "advice"),
    [
        ("UNAVAILABLE", "Exceeds maximum queue size", "try again after a pause"),
        ("UNAVAILABLE", "Connection refused", "DENSESCAN_URL"),
        ("UNAVAILABLE", "Trying to connect an http1.x server", "8000 is HTTP"),
        ("UNAVAILABLE", "Received http2 header with status: 405", "8000 is HTTP"),
        ("UNAVAILABLE", "ipv4:127.0.0.1:8405: Connection refused", "nothing listens there"),
        ("DEADLINE_EXCEEDED", "", "timeout_s"),
        ("NOT_FOUND", "", "densescan status"),
        ("INTERNAL", "", "server's log"),
    ],
)
def test_a_message_says_what_to_do_next(code: str, details: str, advice: str) -> None:
    assert advice in str(translate(f"StatusCode.{code}", details, CALL))


def test_the_original_error_is_kept_as_the_cause() -> None:
    original = InferenceServerException("Server exiting", "StatusCode.UNAVAILABLE")
    with pytest.raises(ServerUnavailable) as caught, translated(CALL):
        raise original
    assert caught.value.__cause__ is original


def test_errors_of_our_own_pass_unchanged() -> None:
    with pytest.raises(KeyError), translated(CALL):
        raise KeyError("bug")


@pytest.mark.parametrize(
    "details",
    ["failed to load the engine: file 'model.plan' is not found", "in ensemble 'x', the GPU is not ready"],
)
def test_a_failed_inference_is_not_taken_for_a_missing_model_by_its_words(details: str) -> None:
    assert type(translate("StatusCode.INTERNAL", details, CALL)) is InferenceFailed


def test_a_model_is_waited_for_only_where_the_status_says_that_it_may_come() -> None:
    details = "Request for unknown model: 'x' version 9 is not ready"
    assert translate("StatusCode.UNAVAILABLE", details, CALL).transient
    assert not translate("StatusCode.INVALID_ARGUMENT", details, CALL).transient
