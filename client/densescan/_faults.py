"""The one place that maps errors of gRPC and tritonclient to those of densescan.

The status code decides. Triton says UNAVAILABLE for a full queue, for a request that waited too
long in it, for a model that is loading and for shutting down: there, and only there and for
INVALID_ARGUMENT, the message decides as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .errors import (
    DeadlineExceeded,
    DensescanError,
    InferenceFailed,
    ModelNotFound,
    Overloaded,
    ServerUnavailable,
)

_QUEUE = ("exceeds maximum queue size", "request timeout expired")
_NO_MODEL = ("unknown model", "is not at ready state", "is not found", "has no available versions", "is not ready")
_LOADING = ("is not at ready state", "is not ready")
_WEB_SERVER = ("http1.x", "http/1", "unimplemented", "status: 405")


@dataclass(frozen=True)
class Call:
    """What was asked of whom; it goes into the messages.

    Attributes:
        url: Address of the server.
        about: The model that was asked, or what else was.
        timeout_s: The caller's whole time limit, in seconds.
        reached: The server has answered before, so that silence is slowness, not absence.
    """

    url: str
    about: str
    timeout_s: float
    reached: bool = True


@contextmanager
def translated(call: Call) -> Iterator[None]:
    """Raise densescan's own errors instead of tritonclient's; works around an await as well."""
    from tritonclient.utils import InferenceServerException

    try:
        yield
    except InferenceServerException as error:
        fault: Any = error
        raise translate(fault.status(), fault.message() or "", call) from error


def translate(status: str | None, details: str, call: Call) -> DensescanError:
    """The error for a gRPC status such as ``StatusCode.UNAVAILABLE`` and its message."""
    code = (status or "").rpartition(".")[2]
    error = _translate(code, details, call)
    error.transient = _is_transient(error, code, details.lower())
    return error


def _is_transient(error: DensescanError, code: str, text: str) -> bool:
    """Nothing was executed, or nothing that a second execution would change, and the cause may pass."""
    if isinstance(error, ServerUnavailable):
        return code in ("UNAVAILABLE", "CANCELLED") and not any(part in text for part in _WEB_SERVER)
    if isinstance(error, ModelNotFound):
        return code == "UNAVAILABLE" and any(part in text for part in _LOADING)
    return isinstance(error, Overloaded)


def _translate(code: str, details: str, call: Call) -> DensescanError:
    text = details.lower()
    may_be_missing = code in ("UNAVAILABLE", "INVALID_ARGUMENT") and any(part in text for part in _NO_MODEL)
    if code == "NOT_FOUND" or may_be_missing:
        return _model_not_found(details, call)
    if code == "RESOURCE_EXHAUSTED" and "larger than max" in text:  # gRPC's own words, and the gateway's
        return InferenceFailed(
            f"{call.url} does not take requests as large as that for {call.about}: {details}. "
            "Send less at a time, or have its limit raised."
        )
    if code == "RESOURCE_EXHAUSTED" or (code == "UNAVAILABLE" and any(part in text for part in _QUEUE)):
        return _overloaded(details, call)
    if code in ("UNAVAILABLE", "UNIMPLEMENTED", "CANCELLED"):  # CANCELLED: by the server, as it stops
        return _unavailable(code, details, call)
    if code == "DEADLINE_EXCEEDED":
        return _too_late(call)
    if code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return InferenceFailed(
            f"{call.url} refused to answer for {call.about}: {details or 'no reason given'} ({code}). "
            "Check what proves who you are: metadata, or client_certificate."
        )
    return InferenceFailed(
        f"{call.url} could not answer for {call.about}: {details or 'no reason given'} ({code or 'no status'}). "
        "The server's log says more."
    )


def _model_not_found(details: str, call: Call) -> ModelNotFound:
    return ModelNotFound(f"{call.url} does not serve {call.about}: {details}. `densescan status` lists what it serves.")


def _overloaded(details: str, call: Call) -> Overloaded:
    return Overloaded(
        f"{call.url} refused the request for {call.about}, because its queue is full: {details}. "
        "Nothing was executed: try again after a pause, or send fewer at once."
    )


def _unavailable(code: str, details: str, call: Call) -> ServerUnavailable:
    text = f"{code} {details}".lower()
    if any(part in text for part in _WEB_SERVER):
        return ServerUnavailable(
            f"what answers at {call.url} does not speak Triton's gRPC protocol: {details}. "
            "Triton's gRPC port is usually 8001; 8000 is HTTP and 8002 metrics."
        )
    meanings = _MEANINGS if call.reached else {**_MEANINGS, **_UNREACHED}
    meaning = next((meaning for words, meaning in meanings.items() if words in text), None)
    reason = details if meaning is None else f"{meaning} ({details})"
    return ServerUnavailable(
        f"no server available at {call.url} for {call.about}: {reason or 'no reason given'}. {_HOW_TO_START}"
    )


def _too_late(call: Call) -> ServerUnavailable | DeadlineExceeded:
    if not call.reached:
        return ServerUnavailable(f"nobody answers at {call.url} within {call.timeout_s:g} s. {_HOW_TO_START}")
    return DeadlineExceeded(
        f"no answer for {call.about} from {call.url} within {call.timeout_s:g} s. "
        "Try again, or allow more time with timeout_s; the server's metrics show how long its queue is."
    )


_MEANINGS = {
    "connection refused": "nothing listens there",
    "name not found": "nobody knows a machine of that name",
    "name resolution": "nobody knows a machine of that name",
    "handshake": "the two do not agree on TLS: check the certificates, and whether the server has TLS at all",
}
"""What gRPC's words mean to those who do not know its parts."""

_UNREACHED = {
    "socket closed": "something listens there and hangs up: it wants TLS (ca_certificate), or it is another port than "
    "Triton's gRPC port, which is usually 8001 (8000 is HTTP, 8002 metrics)",
}
"""The same before any answer has come: later, it is a server that stops."""

_HOW_TO_START = (
    "Start one (in a clone of densescan: make serve), or give the address of another with Client(url), --url or "
    "DENSESCAN_URL."
)
