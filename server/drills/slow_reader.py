"""A caller whose connection takes requests to the server, and hardly brings an answer back."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType

from .subject import Subject, image_input

GREETING = 1024
"""Bytes that pass freely at first: without the server's greeting a gRPC client sends nothing."""

_BUFFER = 2048
"""What the kernel may keep for it; the rest stays with the server."""


class SlowReader:
    """A gRPC client behind a wire of its own, from entering the ``with`` block until leaving it.

    Args:
        url: ``host:port`` of the server.
        subject: What to ask.
        bytes_per_s: How fast answers come through after the greeting; 0: not at all.
    """

    def __init__(self, url: str, subject: Subject, *, bytes_per_s: int) -> None:
        self.bytes_read = 0
        self._url, self._subject, self._bytes_per_s = url, subject, bytes_per_s
        self._ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> SlowReader:
        from tritonclient.grpc import InferenceServerClient

        self._start(self._connect)
        own = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._client = InferenceServerClient(own, channel_args=[("grpc.use_local_subchannel_pool", 1)])  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._client.close()
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def send(self, count: int) -> None:
        """Send so many requests, and wait for no answer."""
        image = image_input(self._subject.pictures[0])
        for _ in range(count):
            self._client.async_infer(self._subject.model, [image], callback=lambda result, error: None)

    def _connect(self) -> None:
        self._listener.settimeout(0.2)
        host, port = self._url.split(":")
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError, OSError):
                near, _ = self._listener.accept()
                far = socket.socket()
                far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
                far.connect((host, int(port)))
                for end in (near, far):
                    end.settimeout(0.2)
                self._start(self._forward, near, far)
                self._start(self._trickle, far, near)

    def _start(self, target: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=target, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _forward(self, near: socket.socket, far: socket.socket) -> None:
        """From the client to the server, as fast as it comes."""
        with near, far, contextlib.suppress(ConnectionError, OSError):
            while not self._ended.is_set():
                with contextlib.suppress(TimeoutError):
                    if not (piece := near.recv(1 << 16)):
                        return
                    self._send_all(far, piece)

    def _trickle(self, far: socket.socket, near: socket.socket) -> None:
        """From the server to the client: a greeting, and then what is allowed."""
        with contextlib.suppress(ConnectionError, OSError):
            while not self._ended.is_set():
                free = GREETING - self.bytes_read
                if free <= 0 and not self._bytes_per_s:
                    time.sleep(0.2)
                    continue
                with contextlib.suppress(TimeoutError):
                    if not (piece := far.recv(free if free > 0 else max(1, self._bytes_per_s // 10))):
                        return
                    self.bytes_read += len(piece)
                    self._send_all(near, piece)
                if free <= 0:
                    time.sleep(0.1)

    def _send_all(self, end: socket.socket, piece: bytes) -> None:
        """`socket.sendall` that gives up when this reader is to end."""
        left = memoryview(piece)
        while left and not self._ended.is_set():
            with contextlib.suppress(TimeoutError):
                left = left[end.send(left) :]
