"""Everything densescan raises on purpose.

DensescanError
├── InvalidImage (also ValueError)              the input is no picture we can read
├── ServerUnavailable (also ConnectionError)    nobody answers at the address
├── Overloaded                                  the server's queue is full: try later, or elsewhere
├── DeadlineExceeded (also TimeoutError)        no answer within the caller's time limit
├── ModelNotFound                               the server is up, but does not serve that model or version
├── InferenceFailed                             the server took the request and could not answer it
└── ClientClosed                                the client was used after close()
"""

from __future__ import annotations


class DensescanError(Exception):
    """Root of every error that densescan raises on purpose.

    Attributes:
        transient: The same request may succeed after a pause: nothing has to be changed first.
        source: The picture that it is about, as results name it; None where it is about no
            picture, or the caller knows which.
    """

    transient: bool = False
    source: str | None = None


class InvalidImage(DensescanError, ValueError):
    """The input is no picture that can be read; `source` names it, `reason` says why.

    Attributes:
        source: What the caller passed: a path, or a description such as ``<bytes>``.
        reason: Why it was refused, in one sentence.
    """

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source}: {reason}")
        self.source: str = source
        self.reason = reason

    def __reduce__(self) -> tuple[type[InvalidImage], tuple[str, str]]:
        return type(self), (self.source, self.reason)


class ServerUnavailable(DensescanError, ConnectionError):
    """Nobody answers at the address, or the server is shutting down."""


class Overloaded(DensescanError):
    """The server's queue is full: it refused the request, or the client did not send it; it was not executed."""


class DeadlineExceeded(DensescanError, TimeoutError):
    """No answer came within the caller's time limit."""


class ModelNotFound(DensescanError):
    """The server is up, but does not serve that model or version."""


class InferenceFailed(DensescanError):
    """The server took the request, but could not answer it."""


class ClientClosed(DensescanError):
    """The client was used after it was closed."""
