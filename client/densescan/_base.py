"""What the two clients are made with and have in common."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ._options import FilePath, Metadata, Options, check_metadata
from ._retries import Retries
from ._settings import Terms, check_timeout
from ._throttle import Throttle
from .errors import ClientClosed


class ClientBase:
    """The options of a client and what it has learned of its server.

    Each argument that is not given is taken from its environment variable, such as
    DENSESCAN_TIMEOUT_S for `timeout_s`.

    Args:
        url: ``host:port`` of the server's gRPC endpoint; several with commas between, or
            ``dns:///name:port``, take turns, and those that are down are left out. By default the
            variable DENSESCAN_URL, else ``localhost:8001``.
        timeout_s: Longest to wait for the answer to one picture, with all retries, in seconds;
            by default 10.
        retries: How often to send a request again whose connection broke before the answer, or
            whose server was starting; by default 2, with growing pauses.
        retry_overloaded: Send again, too, what a full queue refused; by default that is an
            `Overloaded` at once.
        hold_back: Throttle the client: while the server's queue stays full, fail most requests as
            `Overloaded` before the picture is read or sent; those of `classify_many` and
            `explain_many` wait instead. By default on. Without effect with `retry_overloaded`,
            whose pauses slow the client down already.
        tls: Encrypt; by default if one of the following is given.
        ca_certificate: PEM file of the certificate authorities that the server's certificate is
            verified with; by default the root certificates that come with gRPC.
        client_certificate: PEM file of the client's certificate, for mutual TLS.
        client_key: PEM file of its private key.
        server_name: The name in the server's certificate, if it is not the one in `url`.
        metadata: gRPC metadata that is sent with every request, such as
            ``{"authorization": "Bearer ..."}``, or a function that returns it and is called for
            each request; a call may add its own.
        keepalive_s: Seconds between gRPC's keepalive pings while a request is under way; by
            default 30.
        max_pixels: Refuse larger pictures before decoding them; by default 50 million.
        max_file_bytes: Refuse longer files before decoding them; by default 64 MiB.

    Raises:
        ValueError: An option is outside its range; the message says which.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        timeout_s: float | None = None,
        retries: int | None = None,
        retry_overloaded: bool | None = None,
        hold_back: bool | None = None,
        tls: bool | None = None,
        ca_certificate: FilePath | None = None,
        client_certificate: FilePath | None = None,
        client_key: FilePath | None = None,
        server_name: str | None = None,
        metadata: Metadata | None = None,
        keepalive_s: float | None = None,
        max_pixels: int | None = None,
        max_file_bytes: int | None = None,
    ) -> None:
        self._options = Options.of(
            url=url,
            timeout_s=timeout_s,
            retries=retries,
            retry_overloaded=retry_overloaded,
            hold_back=hold_back,
            tls=tls,
            ca_certificate=ca_certificate,
            client_certificate=client_certificate,
            client_key=client_key,
            server_name=server_name,
            metadata=metadata,
            keepalive_s=keepalive_s,
            max_pixels=max_pixels,
            max_file_bytes=max_file_bytes,
        )
        self.url = self._options.url
        self.timeout_s = self._options.timeout_s
        self._throttle = Throttle(self.url)
        self._throttled = self._options.hold_back and not self._options.retry_overloaded
        self._retries = Retries(self._options.retries, overloaded=self._options.retry_overloaded)
        self._lock = threading.Lock()
        self._connection: Any = None
        self._closing = threading.Event()
        self._reached = False
        self._operating_points: dict[tuple[str, str], float] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r}{', closed' if self._closing.is_set() else ''})"

    def _terms(self, timeout_s: float | None, metadata: Mapping[str, str] | None) -> Terms:
        limit = self.timeout_s if timeout_s is None else check_timeout(timeout_s)
        return Terms(limit, check_metadata(metadata or {}))

    def _admitted(self, model: str, *, in_turn: bool) -> AbstractContextManager[None]:
        """Around all the work for a request to a model; raises `Overloaded` if it is held back, unless `in_turn`."""
        return self._throttle.admitted(model, in_turn=in_turn) if self._throttled else nullcontext()

    def _pause_s(self, model: str) -> float:
        """Seconds until waiting alone earns a request to a model; 0: none is held back now."""
        return self._throttle.pause_s(model) if self._throttled else 0.0

    def _check_open(self, cause: BaseException | None = None) -> None:
        if self._closing.is_set():
            raise ClientClosed(f"the client of {self.url} is closed; make a new one") from cause
